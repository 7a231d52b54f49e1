/** The planner in its thread: the same plans as in this one, faults that are told, and an end that leaves nothing behind. */
import { afterEach, expect, test } from "vitest";
import { WorkerPlanner } from "../src/adapters/planner-worker/worker-planner.ts";
import { openReplicaPlanner } from "../src/cli/compose/replica-planner.ts";
import { FallowError } from "../src/domain/fault.ts";
import type { Planner } from "../src/ports/planner.ts";
import { planPlacement } from "../src/scheduler/placement/plan-placement.ts";
import type { PlacementPlan, PlanQuestion } from "../src/scheduler/placement/plan-question.ts";
import {
  demandFor,
  GB,
  gpuOf,
  nodeFact,
  plannedModel,
  planQuestion,
  readyReplica,
} from "./support/placement-samples.ts";
import type { Trouble } from "./support/stuck-planner.ts";

const opened: Pick<Planner<never, never>, "stop">[] = [];
afterEach(async () => {
  for (const planner of opened.splice(0)) await planner.stop();
});

function open(): Planner<PlanQuestion, PlacementPlan> {
  const planner = openReplicaPlanner();
  opened.push(planner);
  return planner;
}

const question = () =>
  planQuestion({
    nodes: [0, 1, 2, 3].map((index) => nodeFact(index, { devices: [gpuOf((index + 1) * 6 * GB)], region: "eu" })),
    models: [plannedModel("a"), plannedModel("b", { fileBytes: 8 * GB })],
    classes: [demandFor("a", { tokPerSecond: 900 }), demandFor("b", { region: "eu" })],
    replicas: [readyReplica(1, { deviceId: "cuda0" })],
  });

test("a plan from the thread is the plan that this thread makes", async () => {
  const planner = open();
  const [first, second] = await Promise.all([planner.plan(question()), planner.plan(question())]);
  expect(first).toEqual(planPlacement(question()));
  expect(second).toEqual(first);
  expect(first.orders.length).toBeGreaterThan(0);
});

test("an empty grid is answered with an empty plan", async () => {
  const plan = await open().plan(planQuestion({ nodes: [], models: [] }));
  expect(plan).toMatchObject({ orders: [], models: [], gap: 0, nodes: 0 });
});

test("a question that breaks the planner is told as a fault, and the next one is answered", async () => {
  const planner = open();
  const broken = { ...question(), models: [{ ...plannedModel("a"), variants: [] }] };
  await expect(planner.plan(broken)).rejects.toMatchObject({ code: "planner-failed" });
  await expect(planner.plan(question())).resolves.toMatchObject({ nodes: 4 });
});

test("a thread that cannot start rejects what waits for it", async () => {
  const planner = new WorkerPlanner<PlanQuestion, PlacementPlan>({
    entry: new URL("./no-such-thread.ts", import.meta.url),
    buffersOf: () => [],
  });
  opened.push(planner);
  await expect(planner.plan(question())).rejects.toBeInstanceOf(FallowError);
});

test.each(["loops", "eats-memory", "ends"] as const)(
  "a thread that %s is ended with all that waits for it, and the next question finds another one",
  async (trouble) => {
    const planner = new WorkerPlanner<Trouble, Trouble>({
      entry: new URL("./support/stuck-planner.ts", import.meta.url),
      buffersOf: () => [],
      answerMsMax: trouble === "loops" ? 4_000 : 60_000,
      heapMbMax: 48,
    });
    opened.push(planner);
    expect(await planner.plan("none")).toBe("none");
    const waiting = [planner.plan(trouble), planner.plan("none")];
    for (const { status } of await Promise.allSettled(waiting)) expect(status).toBe("rejected");
    expect(await planner.plan("none")).toBe("none");
  },
);

test("what is under way at the stop is rejected, and so is what is asked after it", async () => {
  const planner = open();
  const underWay = planner.plan(question());
  const outcome = underWay.then(
    () => "planned",
    (fault: unknown) => (fault instanceof FallowError ? fault.code : "other"),
  );
  await planner.stop();
  expect(await outcome).toBe("planner-failed");
  await expect(planner.plan(question())).rejects.toMatchObject({ code: "planner-failed" });
  await planner.stop();
});
