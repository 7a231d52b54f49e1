import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  plannedModel as model,
  nodeFact as node,
  planQuestion,
  readyReplica as ready,
  waitingFor,
} from "../../../test/support/placement-samples.ts";
import { modelId } from "../../domain/ids.ts";
import { planPlacement, wantedReplicas } from "./plan-placement.ts";
import { mayMiss, REPAIRS_MAX, repairPlacement } from "./repair-placement.ts";
import type { NodeFact, ReplicaFact } from "./snapshot.ts";

type Asked = Parameters<typeof planQuestion>[0];
const NOTHING_WANTED = new Map();
const repair = (asked: Asked, wanted: ReadonlyMap<ReturnType<typeof modelId>, number> = NOTHING_WANTED) =>
  repairPlacement(planQuestion(asked), wanted);
const places = (found: ReturnType<typeof repair>) =>
  found.orders.map((order) => `${order.modelId}@${Number(order.nodeId.slice(-2))} ${order.why}`);

describe("the cheap rule", () => {
  const three = [node(0), node(1), node(2)];

  test("replaces a lost replica up to what the newest plan wants, and touches nothing else", () => {
    const replicas = [ready(0), ready(1)];
    const nodes = [node(0, { state: "offline" }), node(1), node(2)];
    const models = [model("a", { warmReplicas: 0 })];
    expect(places(repair({ nodes, replicas, models }, new Map([[modelId("a"), 2]])))).toEqual(["a@2 lost"]);
    expect(repair({ nodes, replicas, models })).toEqual({ orders: [], short: [], isPartial: false });
  });

  test("orders warm replicas and one for who waits", () => {
    expect(places(repair({ nodes: three }))).toEqual(["a@0 warm"]);
    const cold = [model("a", { warmReplicas: 0 })];
    expect(places(repair({ nodes: three, models: cold, waiting: waitingFor("a") }))).toEqual(["a@0 waiting"]);
  });

  test("says which models no node can take", () => {
    const large = [model("a", { fileBytes: 1e12 })];
    expect(repair({ nodes: three, models: large })).toMatchObject({ orders: [], short: [modelId("a")] });
  });

  test("places a bounded number in one call, and says that there is more", () => {
    const many = Array.from({ length: REPAIRS_MAX + 3 }, (_, index) => node(index));
    const found = repair({ nodes: many, models: [model("a", { warmReplicas: REPAIRS_MAX + 3 })] });
    expect(found.orders).toHaveLength(REPAIRS_MAX);
    expect(found.isPartial).toBe(true);
  });

  test("is not asked where nothing is missing, and always where it would order something", () => {
    const grids = fc.record({
      states: fc.array(fc.constantFrom<NodeFact["state"]>("online", "offline"), { maxLength: 5 }),
      held: fc.array(fc.constantFrom<ReplicaFact["state"]>("ready", "loading", "draining"), { maxLength: 5 }),
      warm: fc.integer({ min: 0, max: 3 }),
      isWaiting: fc.boolean(),
      tokensNeeded: fc.constantFrom(100, 4_096),
      contextTokens: fc.constantFrom(100, 4_096),
      slotsLeased: fc.array(fc.constantFrom(0, 2), { minLength: 5, maxLength: 5 }),
      wanted: fc.integer({ min: 0, max: 3 }),
    });
    fc.assert(
      fc.property(
        grids,
        ({ states, held, warm, isWaiting, tokensNeeded, contextTokens, slotsLeased, wanted: count }) => {
          const nodes = states.map((state, index) => node(index, { state }));
          const replicas = held.map((state, index) =>
            ready(index, { state, contextTokens, slotsLeased: slotsLeased[index] ?? 0 }),
          );
          const models = [model("a", { warmReplicas: warm })];
          const waiting = isWaiting ? new Map([[modelId("a"), { waiting: 1, tokensNeeded }]]) : new Map();
          const wanted = new Map([[modelId("a"), count]]);
          const asked = { nodes: new Map(nodes.map((fact) => [fact.nodeId, fact])), replicas, models, waiting, wanted };
          const found = repair({ nodes, replicas, models, waiting }, wanted);
          expect(mayMiss(asked)).toBe(found.orders.length + found.short.length > 0);
        },
      ),
    );
  });
});

test("after a node is lost, only what it held is ordered", () => {
  fc.assert(
    fc.property(fc.integer({ min: 2, max: 6 }), fc.integer({ min: 1, max: 3 }), fc.nat(), (count, warm, pick) => {
      const nodes = Array.from({ length: count }, (_, index) => node(index));
      const models = ["a", "b"].map((name) => model(name, { warmReplicas: Math.min(warm, count - 1) }));
      const plan = planPlacement(planQuestion({ nodes, models }));
      const replicas = plan.orders.flatMap((order, index): ReplicaFact[] =>
        order.kind === "load"
          ? [ready(index, { nodeId: order.nodeId, modelId: order.modelId, memoryBytes: order.size.memoryBytes })]
          : [],
      );
      const lost = nodes[pick % count]?.nodeId;
      const left = nodes.map((fact): NodeFact => (fact.nodeId === lost ? { ...fact, state: "offline" } : fact));
      const found = repairPlacement(planQuestion({ nodes: left, models, replicas }), wantedReplicas(plan));
      const gone = replicas.filter(({ nodeId }) => nodeId === lost).map((replica) => replica.modelId);
      expect(found.orders.length + found.short.length).toBe(new Set(gone).size);
      for (const order of found.orders) expect(gone).toContain(order.modelId);
    }),
  );
});
