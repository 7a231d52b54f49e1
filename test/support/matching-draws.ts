/** What laws of the matcher draw: nodes, replicas, requests, and changes of a small grid. */
import fc from "fast-check";
import { modelId, type NodeId, nodeId, type ReplicaId, replicaId } from "../../src/domain/ids.ts";
import { MatchScratch, matchReplica } from "../../src/scheduler/matching/match.ts";
import { MatchIndex } from "../../src/scheduler/matching/match-index.ts";
import { type MatchRequest, UNCONSTRAINED } from "../../src/scheduler/matching/match-request.ts";
import type { NodeTraits } from "../../src/scheduler/matching/node-table.ts";
import type { ReplicaTraits } from "../../src/scheduler/matching/replica-table.ts";

export const NODES = 12;
export const REGIONS = ["eu", "us", "asia", null];
export const MODELS = [modelId("small"), modelId("large")];
export const nodeNamed = (index: number): NodeId => nodeId(`node_${index.toString(16).padStart(32, "0")}`);
export const replicaNamed = (index: number): ReplicaId => replicaId(`rep_${index.toString(10).padStart(26, "0")}`);

export const nodeIndexes = fc.nat(NODES - 1);
export const shares = fc.double({ min: 0, max: 1, noNaN: true });
export const traitsOfNodes = fc.record({
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
export const traitsOfReplicas = fc.record({
  isReady: fc.constantFrom(true, true, true, false),
  slots: fc.integer({ min: 1, max: 4 }),
  slotsLeased: fc.nat(4),
  contextTokens: fc.integer({ min: 50, max: 150 }),
  layersCached: fc.constantFrom(0, 0.5, 1),
});

/** Two replicas of a node have the numbers 2n and 2n + 1; the model goes by the lowest bit of the node. */
export type Change =
  | { kind: "node"; at: number; traits: Omit<NodeTraits, "nodeId"> }
  | { kind: "replica"; at: number; second: boolean; traits: Omit<ReplicaTraits, "replicaId" | "nodeId" | "modelId"> }
  | { kind: "leased"; at: number; second: boolean; slotsLeased: number }
  | { kind: "beat"; at: number; rttMs: number }
  | { kind: "away"; at: number; availability: NodeTraits["availability"] }
  | { kind: "gone"; at: number; second: boolean | null }
  | { kind: "look"; request: MatchRequest };

export const requests: fc.Arbitrary<MatchRequest> = fc.record({
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

export const changes: fc.Arbitrary<Change> = fc.oneof(
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

export const modelOf = (at: number, second: boolean) =>
  MODELS[(at + Number(second)) % MODELS.length] ?? modelId("small");
export const replicaOf = (at: number, second: boolean) => replicaNamed(at * 2 + Number(second));

export function apply(index: MatchIndex, change: Change): void {
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

export function distances(index: MatchIndex): void {
  for (const from of ["eu", "us"]) {
    for (const to of ["eu", "us", "asia"]) index.setDistance({ from, to, rttMs: from === to ? 5 : 120 });
  }
}

export function gridOf(list: readonly Change[]): MatchIndex {
  const index = new MatchIndex();
  distances(index);
  for (const change of list) apply(index, change);
  return index;
}

export const PLAIN: Omit<NodeTraits, "nodeId"> = {
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
export const WARM: Omit<ReplicaTraits, "replicaId" | "nodeId" | "modelId"> = {
  isReady: true,
  slots: 4,
  slotsLeased: 0,
  contextTokens: 100,
  layersCached: 1,
};
export const ASK: MatchRequest = {
  modelId: modelId("small"),
  tokensNeeded: 1,
  remainingMs: 1_000,
  excludedNodeIds: new Set(),
  hint: null,
  callerRegion: null,
  constraints: UNCONSTRAINED,
  seed: 0,
};
