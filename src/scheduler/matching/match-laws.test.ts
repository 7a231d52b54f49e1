import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { modelId, type NodeId, nodeId, type ReplicaId, replicaId } from "../../domain/ids.ts";
import { matchExhaustively } from "./exhaustive.ts";
import { MatchScratch, matchReplica, PROBES_MAX } from "./match.ts";
import { MatchIndex } from "./match-index.ts";
import { queryOf, replicaScore } from "./match-query.ts";
import { type MatchRequest, UNCONSTRAINED } from "./match-request.ts";
import type { NodeTraits } from "./node-table.ts";
import type { ReplicaTraits } from "./replica-table.ts";
import { TIE_BAND_MS } from "./score.ts";

const NODES = 12;
const REGIONS = ["eu", "us", "asia", null];
const MODELS = [modelId("small"), modelId("large")];
const nodeNamed = (index: number): NodeId => nodeId(`node_${index.toString(16).padStart(32, "0")}`);
const replicaNamed = (index: number): ReplicaId => replicaId(`rep_${index.toString(10).padStart(26, "0")}`);

const nodeIndexes = fc.nat(NODES - 1);
const shares = fc.double({ min: 0, max: 1, noNaN: true });
const traitsOfNodes = fc.record({
  availability: fc.constantFrom<NodeTraits["availability"]>(
    "takes-work",
    "takes-work",
    "offline",
    "suspect",
    "yielding",
  ),
  region: fc.constantFrom(...REGIONS),
  owner: fc.constantFrom("ada", "bob", null),
  network: fc.constantFrom("lan", null),
  gpuClass: fc.constantFrom("t4", "a100", null),
  vramUsableBytes: fc.constant(2 ** 33),
  vramFreeBytes: fc.nat(2 ** 31),
  trust: fc.option(shares),
  priceMicroUsdPerHour: fc.option(fc.nat(300_000)),
  rttMs: fc.option(fc.nat(300)),
  decodeTokPerSecond: fc.option(fc.nat(400)),
  stayChancePerHour: fc.option(shares),
  gramsCo2PerHour: fc.option(fc.nat(500)),
});
const traitsOfReplicas = fc.record({
  isReady: fc.constantFrom(true, true, true, false),
  slots: fc.integer({ min: 1, max: 4 }),
  slotsLeased: fc.nat(4),
  contextTokens: fc.integer({ min: 50, max: 150 }),
  layersCached: fc.constantFrom(0, 0.5, 1),
});

/** Two replicas of a node have the numbers 2n and 2n + 1; the model goes by the lowest bit of the node. */
type Change =
  | { kind: "node"; at: number; traits: Omit<NodeTraits, "nodeId"> }
  | { kind: "replica"; at: number; second: boolean; traits: Omit<ReplicaTraits, "replicaId" | "nodeId" | "modelId"> }
  | { kind: "leased"; at: number; second: boolean; slotsLeased: number }
  | { kind: "beat"; at: number; rttMs: number }
  | { kind: "away"; at: number; availability: NodeTraits["availability"] }
  | { kind: "gone"; at: number; second: boolean | null }
  | { kind: "look"; request: MatchRequest };

const requests: fc.Arbitrary<MatchRequest> = fc.record({
  modelId: fc.constantFrom(...MODELS),
  tokensNeeded: fc.integer({ min: 50, max: 110 }),
  remainingMs: fc.constantFrom(1_000, 90_000, 1_000_000, 20_000_000),
  excludedNodeIds: fc.option(nodeIndexes.map(nodeNamed)).map((id) => new Set(id === null ? [] : [id])),
  hint: fc.option(fc.record({ replicaId: fc.nat(2 * NODES - 1).map(replicaNamed), promptShare: shares })),
  callerRegion: fc.constantFrom("eu", "us", null),
  constraints: fc.record({
    regions: fc.option(fc.subarray(["eu", "us", "asia", "mars"]), { freq: 1 }),
    trustMin: fc.constantFrom(0, 0, 0.5),
    priceMicroUsdPerHourMax: fc.constantFrom(Number.POSITIVE_INFINITY, 150_000),
    rttMsMax: fc.constantFrom(Number.POSITIVE_INFINITY, 150),
    decodeTokPerSecondMin: fc.constantFrom(0, 0, 100),
    gpuClasses: fc.option(fc.subarray(["t4", "a100"]), { freq: 1 }),
    excludedOwners: fc.constantFrom(new Set<string>(), new Set<string>(), new Set(["ada"])),
    excludedNetworks: fc.constantFrom(new Set<string>(), new Set(["lan"])),
  }),
  seed: fc.nat(2 ** 31 - 1),
});

const changes: fc.Arbitrary<Change> = fc.oneof(
  { weight: 4, arbitrary: fc.record({ kind: fc.constant("node" as const), at: nodeIndexes, traits: traitsOfNodes }) },
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constant("replica" as const),
      at: nodeIndexes,
      second: fc.boolean(),
      traits: traitsOfReplicas,
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      kind: fc.constant("leased" as const),
      at: nodeIndexes,
      second: fc.boolean(),
      slotsLeased: fc.nat(4),
    }),
  },
  fc.record({ kind: fc.constant("beat" as const), at: nodeIndexes, rttMs: fc.nat(300) }),
  fc.record({
    kind: fc.constant("away" as const),
    at: nodeIndexes,
    availability: fc.constantFrom<NodeTraits["availability"]>("takes-work", "offline"),
  }),
  fc.record({ kind: fc.constant("gone" as const), at: nodeIndexes, second: fc.option(fc.boolean()) }),
  // Looks in between leave orders behind that later changes have to reach.
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("look" as const), request: requests }) },
);

const modelOf = (at: number, second: boolean) => MODELS[(at + Number(second)) % MODELS.length] ?? modelId("small");
const replicaOf = (at: number, second: boolean) => replicaNamed(at * 2 + Number(second));

function apply(index: MatchIndex, change: Change): void {
  switch (change.kind) {
    case "node":
      index.upsertNode({ nodeId: nodeNamed(change.at), ...change.traits });
      break;
    case "replica": {
      const { at, second, traits } = change;
      if (index.nodes.find(nodeNamed(at)) === -1) break;
      const ids = { replicaId: replicaOf(at, second), nodeId: nodeNamed(at), modelId: modelOf(at, second) };
      index.upsertReplica({ ...ids, ...traits });
      break;
    }
    case "leased":
      index.setLeased(replicaOf(change.at, change.second), change.slotsLeased);
      break;
    case "beat":
      index.heartbeat(nodeNamed(change.at), change);
      break;
    case "away":
      index.setAvailability(nodeNamed(change.at), change.availability);
      break;
    case "gone":
      if (change.second === null) index.removeNode(nodeNamed(change.at));
      else index.removeReplica(replicaOf(change.at, change.second));
      break;
    case "look":
      matchReplica(index, change.request, new MatchScratch());
      break;
  }
}

function distances(index: MatchIndex): void {
  for (const from of ["eu", "us"]) {
    for (const to of ["eu", "us", "asia"]) index.setDistance({ from, to, rttMs: from === to ? 5 : 120 });
  }
}

function gridOf(list: readonly Change[]): MatchIndex {
  const index = new MatchIndex();
  distances(index);
  for (const change of list) apply(index, change);
  return index;
}

const histories = fc.array(changes, { minLength: 10, maxLength: 120 });

describe("laws of the matcher", () => {
  test("a list that grows and shrinks by dozens while it is read at all horizons finds what an exhaustive search finds", () => {
    const members = 60;
    const steps = fc.array(
      fc.record({
        at: fc.nat(members - 1),
        what: fc.constantFrom("comes", "comes", "leased", "leased", "leased", "beat", "goes"),
        amount: fc.nat(4),
        // Seldom enough that the order of a long horizon misses more changes than a log has lines for.
        remainingMs: fc.oneof(
          { weight: 40, arbitrary: fc.constant(null) },
          { weight: 8, arbitrary: fc.constant(1_000) },
          { weight: 1, arbitrary: fc.constantFrom(90_000, 1_000_000, 20_000_000) },
        ),
      }),
      { minLength: 300, maxLength: 1_000 },
    );
    fc.assert(
      fc.property(steps, (list) => {
        const index = new MatchIndex();
        const scratch = new MatchScratch();
        let sizeMax = 0;
        for (const { at, what, amount, remainingMs } of list) {
          const node = nodeNamed(at);
          if (what === "comes") {
            index.upsertNode({ ...PLAIN, nodeId: node, rttMs: 7 * at + amount, stayChancePerHour: 0.5 + amount / 10 });
            const ids = { replicaId: replicaNamed(at), nodeId: node, modelId: ASK.modelId };
            index.upsertReplica({ ...WARM, ...ids, slotsLeased: amount });
          }
          if (what === "leased") index.setLeased(replicaNamed(at), amount);
          if (what === "beat") index.heartbeat(node, { rttMs: 100 * amount });
          if (what === "goes") index.removeNode(node);
          sizeMax = Math.max(sizeMax, index.replicas.ids.size);
          if (remainingMs === null) continue;
          const request = { ...ASK, remainingMs, seed: at };
          const best = matchExhaustively(index, request);
          expect(matchReplica(index, request, scratch) === -1).toBe(best.replica === -1);
          if (best.replica !== -1) expect(scratch.bestMs).toBeCloseTo(best.scoreMs, 9);
        }
        // More than a log has room for at first.
        expect(sizeMax).toBeGreaterThan(16);
      }),
      { numRuns: 60 },
    );
  });

  test("after every change it meets what an exhaustive search meets, and chooses within the tie band of it", () => {
    fc.assert(
      fc.property(histories, fc.array(requests, { minLength: 1, maxLength: 3 }), (list, asked) => {
        const index = new MatchIndex();
        distances(index);
        const scratch = new MatchScratch();
        for (const [at, change] of list.entries()) {
          apply(index, change);
          const request = asked[at % asked.length] ?? ASK;
          const best = matchExhaustively(index, request);
          const chosen = matchReplica(index, request, scratch);
          expect(chosen === -1).toBe(best.replica === -1);
          if (chosen === -1) continue;
          expect(best.feasible).toBeLessThanOrEqual(PROBES_MAX);
          expect(Math.abs(scratch.bestMs - best.scoreMs)).toBeLessThanOrEqual(1e-9);
          const chosenMs = replicaScore(index, queryOf(index, request), chosen);
          expect(chosenMs).toBeGreaterThanOrEqual(best.scoreMs - TIE_BAND_MS - 1e-9);
        }
      }),
      { numRuns: 300 },
    );
  });

  test("where each of several regions has many that could take it, the best of all is met, while leases fill them up", () => {
    const grids = fc.record({
      nodes: fc.array(traitsOfNodes, { minLength: 40, maxLength: 60 }),
      replicas: fc.array(traitsOfReplicas, { minLength: 60, maxLength: 60 }),
      asked: fc.array(requests, { minLength: 40, maxLength: 80 }),
    });
    fc.assert(
      fc.property(grids, ({ nodes, replicas, asked }) => {
        const index = new MatchIndex();
        distances(index);
        for (const [at, traits] of nodes.entries()) {
          index.upsertNode({ nodeId: nodeNamed(at), ...traits, availability: "takes-work" });
          const ids = { replicaId: replicaNamed(at), nodeId: nodeNamed(at), modelId: ASK.modelId };
          index.upsertReplica({ ...WARM, ...replicas[at], ...ids });
        }
        const scratch = new MatchScratch();
        for (const request of asked.map((one) => ({ ...one, modelId: ASK.modelId }))) {
          const best = matchExhaustively(index, request);
          const chosen = matchReplica(index, request, scratch);
          expect(chosen === -1).toBe(best.replica === -1);
          if (chosen === -1) continue;
          expect(Math.abs(scratch.bestMs - best.scoreMs)).toBeLessThanOrEqual(1e-9);
          index.setLeasedOf(chosen, index.replicas.slotsLeased(chosen) + 1);
        }
      }),
      { numRuns: 40 },
    );
  });

  test("what is chosen breaks no rule, and is what the last change of it said", () => {
    fc.assert(
      fc.property(histories, requests, (list, request) => {
        const index = gridOf(list);
        const chosen = matchReplica(index, request, new MatchScratch());
        if (chosen === -1) return;
        const id = index.replicas.ids.key(chosen);
        const facts = lastFacts(list, id);
        expect(facts).not.toBeNull();
        if (facts === null) return;
        const { constraints } = request;
        expect(facts.availability).toBe("takes-work");
        expect(facts.isReady).toBe(true);
        expect(facts.slotsLeased).toBeLessThan(facts.slots);
        expect(facts.contextTokens).toBeGreaterThanOrEqual(request.tokensNeeded);
        expect(request.excludedNodeIds.has(facts.nodeId)).toBe(false);
        if (constraints.regions !== null) expect(constraints.regions).toContain(facts.region);
        expect(facts.trust ?? 1).toBeGreaterThanOrEqual(constraints.trustMin);
        expect(facts.priceMicroUsdPerHour ?? 0).toBeLessThanOrEqual(constraints.priceMicroUsdPerHourMax);
        expect(facts.decodeTokPerSecond ?? 0).toBeGreaterThanOrEqual(constraints.decodeTokPerSecondMin);
        if (constraints.gpuClasses !== null) expect(constraints.gpuClasses).toContain(facts.gpuClass);
        expect(constraints.excludedOwners.has(facts.owner ?? "nobody")).toBe(false);
        expect(constraints.excludedNetworks.has(facts.network ?? "nowhere")).toBe(false);
      }),
      { numRuns: 400 },
    );
  });

  test("the order in which facts about different nodes arrive changes nothing, nor do decisions in between", () => {
    const facts = fc
      .uniqueArray(fc.record({ at: nodeIndexes, traits: traitsOfNodes }), { selector: ({ at }) => at, minLength: 3 })
      .chain((nodes) =>
        fc.record({
          nodes: fc.constant(nodes),
          replicas: fc.array(traitsOfReplicas, { minLength: nodes.length, maxLength: nodes.length }),
          order: fc.shuffledSubarray([...nodes.keys()], { minLength: nodes.length }),
          request: requests,
          between: requests,
        }),
      );
    fc.assert(
      fc.property(facts, ({ nodes, replicas, order, request, between }) => {
        const choice = (places: readonly number[], isDisturbed: boolean): ReplicaId | null => {
          const index = new MatchIndex();
          distances(index);
          for (const place of places) {
            const node = nodes[place];
            const replica = replicas[place];
            if (node === undefined || replica === undefined) continue;
            apply(index, { kind: "node", ...node });
            apply(index, { kind: "replica", at: node.at, second: false, traits: replica });
            if (isDisturbed) apply(index, { kind: "look", request: between });
          }
          const chosen = matchReplica(index, { ...request, modelId: MODELS[0] ?? request.modelId }, new MatchScratch());
          return chosen === -1 ? null : index.replicas.ids.key(chosen);
        };
        expect(choice(order, true)).toBe(choice([...nodes.keys()], false));
      }),
      { numRuns: 300 },
    );
  });

  test("of many equals, more than a decision looks at, the same request finds the same one in any order of arrival", () => {
    const places = Array.from({ length: 300 }, (_, at) => at);
    const choice = (order: readonly number[], seed: number): ReplicaId => {
      const index = new MatchIndex();
      for (const at of order) {
        const region = at % 3 === 0 ? "eu" : "us";
        const traits = { ...PLAIN, nodeId: nodeId(`node_${at.toString(16).padStart(32, "0")}`), region };
        index.upsertNode(traits);
        index.upsertReplica({
          replicaId: replicaNamed(at),
          nodeId: traits.nodeId,
          modelId: modelId("small"),
          isReady: true,
          slots: 4,
          slotsLeased: 0,
          contextTokens: 100,
          layersCached: 1,
        });
      }
      const request = { ...ASK, seed };
      return index.replicas.ids.key(matchReplica(index, request, new MatchScratch()));
    };
    for (const seed of [1, 99, 123_456, 2 ** 31]) {
      expect(choice(places.toReversed(), seed)).toBe(choice(places, seed));
    }
  });
});

const PLAIN: Omit<NodeTraits, "nodeId"> = {
  availability: "takes-work",
  region: null,
  owner: null,
  network: null,
  gpuClass: null,
  vramUsableBytes: 1,
  vramFreeBytes: 1,
  trust: null,
  priceMicroUsdPerHour: null,
  rttMs: null,
  decodeTokPerSecond: null,
  stayChancePerHour: null,
  gramsCo2PerHour: null,
};
const WARM: Omit<ReplicaTraits, "replicaId" | "nodeId" | "modelId"> = {
  isReady: true,
  slots: 4,
  slotsLeased: 0,
  contextTokens: 100,
  layersCached: 1,
};
const ASK: MatchRequest = {
  modelId: modelId("small"),
  tokensNeeded: 1,
  remainingMs: 1_000,
  excludedNodeIds: new Set(),
  hint: null,
  callerRegion: null,
  constraints: UNCONSTRAINED,
  seed: 0,
};

type Facts = Omit<NodeTraits, "nodeId"> & Omit<ReplicaTraits, "replicaId" | "modelId">;

/** What a reader of the history believes of a replica: null when it is gone. */
function lastFacts(list: readonly Change[], id: ReplicaId): Facts | null {
  let node: Omit<NodeTraits, "nodeId"> | null = null;
  let replica: Omit<ReplicaTraits, "replicaId" | "modelId"> | null = null;
  for (const change of list) {
    if (change.kind === "look") continue;
    const isNode = id === replicaOf(change.at, false) || id === replicaOf(change.at, true);
    if (!isNode) continue;
    if (change.kind === "node") node = change.traits;
    if (change.kind === "away" && node !== null) node = { ...node, availability: change.availability };
    if (change.kind === "gone" && change.second === null) [node, replica] = [null, null];
    if (!("second" in change) || change.second === null || replicaOf(change.at, change.second) !== id) continue;
    if (change.kind === "replica" && node !== null) replica = { ...change.traits, nodeId: nodeNamed(change.at) };
    if (change.kind === "leased" && replica !== null) replica = { ...replica, slotsLeased: change.slotsLeased };
    if (change.kind === "gone") replica = null;
  }
  return node === null || replica === null ? null : { ...node, ...replica };
}
