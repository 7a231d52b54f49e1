import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Device } from "../../domain/hardware.ts";
import { modelId, type NodeId, nodeId, type ReplicaId, replicaId } from "../../domain/ids.ts";
import type { NodeState, ReplicaState } from "../../domain/node.ts";
import type { NodeFact, ReplicaFact, Snapshot } from "../placement/snapshot.ts";
import { chooseReplica, type PlacementRequest } from "./placement.ts";

const MODEL = modelId("tiny");
const nodeNamed = (index: number): NodeId => nodeId(`node_${index.toString(16).padStart(32, "0")}`);
const replicaNamed = (index: number): ReplicaId => replicaId(`rep_${index.toString(10).padStart(26, "0")}`);
const DEVICE: Device = {
  deviceId: "cpu",
  kind: "cpu",
  variant: "cpu",
  name: "cpu",
  memoryBytes: 8e9,
  memoryFreeBytes: 8e9,
  reserveBytes: 0,
};

function node(index: number, change: Partial<NodeFact> = {}): NodeFact {
  return {
    nodeId: nodeNamed(index),
    state: "online",
    isYielding: false,
    devices: [DEVICE],
    decodeTokPerSecond: 100,
    ...change,
  };
}

function replica(index: number, change: Partial<ReplicaFact> = {}): ReplicaFact {
  return {
    replicaId: replicaNamed(index),
    nodeId: nodeNamed(index),
    modelId: MODEL,
    deviceId: "cpu",
    state: "ready",
    slots: 4,
    slotsLeased: 0,
    contextTokens: 1_024,
    memoryBytes: 1e9,
    lastUsedAtMs: 0,
    ...change,
  };
}

function snapshot(nodes: readonly NodeFact[], replicas: readonly ReplicaFact[]): Snapshot {
  return { version: 1, nodes: new Map(nodes.map((fact) => [fact.nodeId, fact])), replicas };
}

const REQUEST: PlacementRequest = {
  modelId: MODEL,
  tokensNeeded: 100,
  excludedNodeIds: new Set(),
  hintReplicaId: null,
};

describe("chooseReplica", () => {
  test("takes the least loaded replica", () => {
    const replicas = [replica(0, { slotsLeased: 2 }), replica(1, { slotsLeased: 1 }), replica(2, { slotsLeased: 3 })];
    const chosen = chooseReplica({ snapshot: snapshot([node(0), node(1), node(2)], replicas), request: REQUEST });
    expect(chosen).toMatchObject({
      ok: true,
      value: { replicaId: replicaNamed(1), slotsLeasedSeen: 1, versionSeen: 1 },
    });
  });

  test("prefers the replica that knows the prompt's head, unless it is much busier", () => {
    const request = { ...REQUEST, hintReplicaId: replicaNamed(1) };
    const warm = (slotsLeased: number) =>
      chooseReplica({ snapshot: snapshot([node(0), node(1)], [replica(0), replica(1, { slotsLeased })]), request });
    expect(warm(1)).toMatchObject({ value: { replicaId: replicaNamed(1) } });
    expect(warm(3)).toMatchObject({ value: { replicaId: replicaNamed(0) } });
  });

  test("between equally loaded replicas takes the faster node, then the smaller id", () => {
    const slowAndFast = [node(0, { decodeTokPerSecond: 10 }), node(1)];
    const fastest = chooseReplica({ snapshot: snapshot(slowAndFast, [replica(0), replica(1)]), request: REQUEST });
    expect(fastest).toMatchObject({ value: { replicaId: replicaNamed(1) } });
    const equal = chooseReplica({ snapshot: snapshot([node(0), node(1)], [replica(0), replica(1)]), request: REQUEST });
    expect(equal).toMatchObject({ value: { replicaId: replicaNamed(0) } });
  });

  test("counts why each replica lost", () => {
    const nodes = [
      node(0, { state: "suspect" }),
      node(1, { isYielding: true }),
      node(2),
      node(3),
      node(4),
      node(5),
      node(6, { state: "draining" }),
      node(7, { state: "offline" }),
    ];
    const replicas = [
      replica(0),
      replica(1),
      replica(2, { state: "loading" }),
      replica(3, { slotsLeased: 4 }),
      replica(4, { contextTokens: 99 }),
      replica(5),
      replica(6),
      replica(7),
      replica(8, { modelId: modelId("other") }),
    ];
    const request = { ...REQUEST, excludedNodeIds: new Set([nodeNamed(5)]) };
    const chosen = chooseReplica({ snapshot: snapshot(nodes, replicas), request });
    expect(chosen.ok).toBe(false);
    expect(Object.fromEntries(chosen.ok ? [] : chosen.reason.losers)).toEqual({
      "node-suspect": 1,
      "node-yielding": 1,
      "replica-not-ready": 1,
      "slots-full": 1,
      "context-too-small": 1,
      "node-failed-before": 1,
      "node-draining": 1,
      "node-offline": 1,
    });
  });

  test("says when there is no node, or no replica, at all", () => {
    const none = chooseReplica({ snapshot: snapshot([], []), request: REQUEST });
    expect(none).toEqual({ ok: false, reason: { losers: new Map([["no-node", 1]]) } });
    const bare = chooseReplica({ snapshot: snapshot([node(0)], []), request: REQUEST });
    expect(bare).toEqual({ ok: false, reason: { losers: new Map([["no-replica", 1]]) } });
  });
});

const nodeStates: readonly NodeState[] = ["online", "suspect", "draining", "offline"];
const replicaStates: readonly ReplicaState[] = ["planned", "loading", "ready", "draining", "failed", "gone"];
const grids = fc.array(
  fc.record({
    state: fc.constantFrom(...nodeStates),
    isYielding: fc.boolean(),
    replicaState: fc.constantFrom(...replicaStates),
    slots: fc.integer({ min: 1, max: 4 }),
    slotsLeased: fc.integer({ min: 0, max: 5 }),
    contextTokens: fc.integer({ min: 50, max: 150 }),
  }),
  { maxLength: 12 },
);

describe("laws", () => {
  test("what is chosen is ready, large enough, has a free slot and stands on a node that takes work", () => {
    fc.assert(
      fc.property(grids, (grid) => {
        const nodes = grid.map(({ state, isYielding }, at) => node(at, { state, isYielding }));
        const replicas = grid.map((one, at) => replica(at, { ...one, state: one.replicaState }));
        const chosen = chooseReplica({ snapshot: snapshot(nodes, replicas), request: REQUEST });
        const fits = grid.map(
          (one) =>
            one.state === "online" &&
            !one.isYielding &&
            one.replicaState === "ready" &&
            one.slotsLeased < one.slots &&
            one.contextTokens >= REQUEST.tokensNeeded,
        );
        expect(chosen.ok).toBe(fits.includes(true));
        if (!chosen.ok) return;
        expect(fits[replicas.findIndex(({ replicaId: id }) => id === chosen.value.replicaId)]).toBe(true);
      }),
    );
  });

  test("the order of nodes and replicas changes nothing", () => {
    fc.assert(
      fc.property(grids, (grid) => {
        const nodes = grid.map(({ state, isYielding }, at) => node(at, { state, isYielding }));
        const replicas = grid.map((one, at) => replica(at, { ...one, state: one.replicaState }));
        const forwards = chooseReplica({ snapshot: snapshot(nodes, replicas), request: REQUEST });
        const backwards = chooseReplica({
          snapshot: snapshot(nodes.toReversed(), replicas.toReversed()),
          request: REQUEST,
        });
        expect(backwards.ok && backwards.value.replicaId).toBe(forwards.ok && forwards.value.replicaId);
      }),
    );
  });
});
