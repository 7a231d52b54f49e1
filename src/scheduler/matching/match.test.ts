import { describe, expect, test } from "vitest";
import { modelId, type NodeId, nodeId, type ReplicaId, replicaId } from "../../domain/ids.ts";
import { explainMatch } from "./explain.ts";
import { MatchScratch, matchLoad, matchReplica } from "./match.ts";
import { MatchIndex } from "./match-index.ts";
import { type MatchRequest, UNCONSTRAINED } from "./match-request.ts";
import type { NodeTraits } from "./node-table.ts";
import type { ReplicaTraits } from "./replica-table.ts";
import { TIE_BAND_MS } from "./score.ts";

const MODEL = modelId("tiny");
const nodeNamed = (index: number): NodeId => nodeId(`node_${index.toString(16).padStart(32, "0")}`);
const replicaNamed = (index: number): ReplicaId => replicaId(`rep_${index.toString(10).padStart(26, "0")}`);
const GIB = 2 ** 30;

function node(at: number, change: Partial<NodeTraits> = {}): NodeTraits {
  return {
    nodeId: nodeNamed(at),
    availability: "takes-work",
    region: null,
    owner: null,
    network: null,
    gpuClass: null,
    vramUsableBytes: 8 * GIB,
    vramFreeBytes: 8 * GIB,
    trust: null,
    priceMicroUsdPerHour: null,
    rttMs: 10,
    decodeTokPerSecond: 100,
    stayChancePerHour: null,
    gramsCo2PerHour: null,
    ...change,
  };
}

function replica(at: number, change: Partial<ReplicaTraits> = {}): ReplicaTraits {
  return {
    replicaId: replicaNamed(at),
    nodeId: nodeNamed(at),
    modelId: MODEL,
    isReady: true,
    slots: 4,
    slotsLeased: 0,
    contextTokens: 1_024,
    layersCached: 1,
    ...change,
  };
}

const REQUEST: MatchRequest = {
  modelId: MODEL,
  tokensNeeded: 100,
  remainingMs: 10_000,
  excludedNodeIds: new Set(),
  hint: null,
  callerRegion: null,
  constraints: UNCONSTRAINED,
  seed: 7,
};

function grid(nodes: readonly NodeTraits[], replicas: readonly ReplicaTraits[]): MatchIndex {
  const index = new MatchIndex();
  for (const traits of nodes) index.upsertNode(traits);
  for (const traits of replicas) index.upsertReplica(traits);
  return index;
}

/** The chosen replica; null for none. */
function choose(index: MatchIndex, change: Partial<MatchRequest> = {}): ReplicaId | null {
  const chosen = matchReplica(index, { ...REQUEST, ...change }, new MatchScratch());
  return chosen === -1 ? null : index.replicas.ids.key(chosen);
}

const constrained = (change: Partial<MatchRequest["constraints"]>) => ({
  constraints: { ...UNCONSTRAINED, ...change },
});

describe("a decision", () => {
  test("takes the least loaded replica", () => {
    const replicas = [replica(0, { slotsLeased: 2 }), replica(1, { slotsLeased: 1 }), replica(2, { slotsLeased: 3 })];
    expect(choose(grid([node(0), node(1), node(2)], replicas))).toBe(replicaNamed(1));
  });

  test("prefers the replica that knows the prompt's head, unless it is much busier", () => {
    const hint = { replicaId: replicaNamed(1), promptShare: 1 };
    const warm = (slotsLeased: number) =>
      choose(grid([node(0), node(1)], [replica(0), replica(1, { slotsLeased })]), { hint });
    expect(warm(1)).toBe(replicaNamed(1));
    expect(warm(3)).toBe(replicaNamed(0));
  });

  test("takes the faster node of two that are equally loaded, and of two equal ones the smaller id", () => {
    const slowAndFast = [node(0, { decodeTokPerSecond: 10 }), node(1)];
    expect(choose(grid(slowAndFast, [replica(0), replica(1)]))).toBe(replicaNamed(1));
    expect(choose(grid([node(0), node(1)], [replica(0), replica(1)]))).toBe(replicaNamed(0));
  });

  test("spreads a burst over equal replicas, each request by its own seed", () => {
    const index = grid(
      Array.from({ length: 200 }, (_, at) => node(at)),
      Array.from({ length: 200 }, (_, at) => replica(at)),
    );
    const chosen = new Set(Array.from({ length: 100 }, (_, seed) => choose(index, { seed: seed * 7_919 })));
    expect(chosen.size).toBeGreaterThan(60);
  });

  test("finds the one idle replica among a thousand busy ones", () => {
    const count = 1_000;
    const nodes = Array.from({ length: count }, (_, at) => node(at));
    const busy = Array.from({ length: count }, (_, at) => replica(at, { slotsLeased: at === 777 ? 0 : 3 }));
    expect(choose(grid(nodes, busy))).toBe(replicaNamed(777));
  });

  test("goes to the near region of two equal ones, and further when the near one is full", () => {
    const index = grid([node(0, { region: "far" }), node(1, { region: "near" })], [replica(0), replica(1)]);
    index.setDistance({ from: "home", to: "near", rttMs: 5 });
    index.setDistance({ from: "home", to: "far", rttMs: 150 });
    expect(choose(index, { callerRegion: "home" })).toBe(replicaNamed(1));
    index.setLeased(replicaNamed(1), 4);
    expect(choose(index, { callerRegion: "home" })).toBe(replicaNamed(0));
  });

  test("gives long work to the node that stays, and short work to the faster one", () => {
    const nodes = [node(0, { stayChancePerHour: 0.3, decodeTokPerSecond: 500 }), node(1, { stayChancePerHour: 0.99 })];
    const index = grid(nodes, [replica(0), replica(1)]);
    expect(choose(index, { remainingMs: 5_000 })).toBe(replicaNamed(0));
    expect(choose(index, { remainingMs: 2 * 3_600_000 })).toBe(replicaNamed(1));
  });

  test("takes the cheaper, greener, more trusted of two", () => {
    const worse = [{ priceMicroUsdPerHour: 200_000 }, { gramsCo2PerHour: 900 }, { trust: 0.5 }];
    for (const change of worse) {
      expect(choose(grid([node(0, change), node(1)], [replica(0), replica(1)]))).toBe(replicaNamed(1));
    }
  });
});

describe("a rule", () => {
  test.each([
    ["a region that is not on the list", { region: "us" }, constrained({ regions: ["eu"] })],
    ["a region that nobody knows, when a list is set", {}, constrained({ regions: ["eu"] })],
    ["a region that is excluded", { region: "us" }, constrained({ excludedRegions: ["us"] })],
    [
      "a region that is on the list and excluded",
      { region: "us" },
      constrained({ regions: ["us"], excludedRegions: ["us"] }),
    ],
    ["a region that nobody knows, when any is excluded", {}, constrained({ excludedRegions: ["us"] })],
    ["trust below the floor", { trust: 0.4 }, constrained({ trustMin: 0.5 })],
    ["a price above the cap", { priceMicroUsdPerHour: 2 }, constrained({ priceMicroUsdPerHourMax: 1 })],
    ["a round trip above the cap", { rttMs: 80 }, constrained({ rttMsMax: 50 })],
    ["a node that is too slow", { decodeTokPerSecond: 5 }, constrained({ decodeTokPerSecondMin: 10 })],
    ["a GPU of another class", { gpuClass: "t4" }, constrained({ gpuClasses: ["a100"] })],
    ["an excluded owner", { owner: "ada" }, constrained({ excludedOwners: new Set(["ada"]) })],
    ["an excluded network", { network: "10.0.0.0/24" }, constrained({ excludedNetworks: new Set(["10.0.0.0/24"]) })],
    ["a node that failed before", {}, { excludedNodeIds: new Set([nodeNamed(0)]) }],
    ["a context that is too small", {}, { tokensNeeded: 1_025 }],
  ])("keeps out %s", (_, traits, change) => {
    const index = grid([node(0, traits)], [replica(0)]);
    expect(choose(index)).toBe(replicaNamed(0));
    expect(choose(index, change)).toBeNull();
    expect(choose(index, { ...change, hint: { replicaId: replicaNamed(0), promptShare: 1 } })).toBeNull();
  });

  test("holds for replicas in every state, and each is counted under the first rule that it breaks", () => {
    const nodes = [
      node(0, { availability: "suspect" }),
      node(1, { availability: "yielding" }),
      node(2),
      node(3),
      node(4),
      node(5),
      node(6, { availability: "draining" }),
      node(7, { availability: "offline" }),
    ];
    const replicas = [
      replica(0),
      replica(1),
      replica(2, { isReady: false }),
      replica(3, { slotsLeased: 4 }),
      replica(4, { contextTokens: 99 }),
      replica(5),
      replica(6),
      replica(7),
      replica(8, { modelId: modelId("other"), nodeId: nodeNamed(2) }),
    ];
    const index = grid(nodes, replicas);
    const scratch = new MatchScratch();
    expect(matchReplica(index, { ...REQUEST, excludedNodeIds: new Set([nodeNamed(5)]) }, scratch)).toBe(-1);
    const explained = explainMatch(index, scratch);
    expect(explained).toMatchObject({ candidates: [], scored: 0, replicas: 8, isComplete: true });
    expect(Object.fromEntries(explained.turnedAway)).toEqual({
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
});

describe("an explanation", () => {
  test("shows the best five, and parts that sum to their scores", () => {
    const nodes = Array.from({ length: 8 }, (_, at) =>
      node(at, { trust: 1 - at / 10, priceMicroUsdPerHour: 1_000 * at, stayChancePerHour: 0.9, region: "eu" }),
    );
    const index = grid(
      nodes,
      nodes.map((_, at) => replica(at, { slotsLeased: at % 2 })),
    );
    index.setDistance({ from: "home", to: "eu", rttMs: 20 });
    const scratch = new MatchScratch();
    const hint = { replicaId: replicaNamed(3), promptShare: 0.5 };
    const chosen = matchReplica(index, { ...REQUEST, hint, callerRegion: "home" }, scratch);
    const { candidates } = explainMatch(index, scratch);
    expect(candidates[0]?.replicaId).toBe(index.replicas.ids.key(chosen));
    expect(candidates.length).toBeLessThanOrEqual(5);
    for (const { scoreMs, parts } of candidates) {
      expect(Object.values(parts).reduce((sum, part) => sum + part, 0)).toBeCloseTo(scoreMs, 9);
    }
    expect(candidates.map(({ scoreMs }) => scoreMs)).toEqual(
      candidates.map(({ scoreMs }) => scoreMs).sort((a, b) => b - a),
    );
  });
});

describe("a place for a load", () => {
  const place = (index: MatchIndex, neededBytes: number, change: Partial<MatchRequest> = {}) => {
    const chosen = matchLoad(index, { request: { ...REQUEST, ...change }, neededBytes }, new MatchScratch());
    return chosen === -1 ? null : index.nodes.ids.key(chosen);
  };

  test("has room for it, and does not hold the model yet", () => {
    const nodes = [
      node(0, { vramFreeBytes: 5 * GIB }),
      node(1, { vramFreeBytes: 3 * GIB }),
      node(2, { vramFreeBytes: 4.5 * GIB, rttMs: 100 }),
    ];
    const index = grid(nodes, [replica(0)]);
    expect(place(index, 4 * GIB)).toBe(nodeNamed(2));
    expect(place(index, 5 * GIB)).toBeNull();
    index.removeReplica(replicaNamed(0));
    expect(place(index, 4 * GIB)).toBe(nodeNamed(0));
  });

  test("follows what is free, and the rules", () => {
    const index = grid([node(0, { trust: 0.2 }), node(1, { rttMs: 100 })], []);
    expect(place(index, 4 * GIB, constrained({ trustMin: 0.5 }))).toBe(nodeNamed(1));
    index.upsertNode(node(1, { vramFreeBytes: GIB }));
    expect(place(index, 4 * GIB, constrained({ trustMin: 0.5 }))).toBeNull();
    index.setAvailability(nodeNamed(0), "offline");
    expect(place(index, GIB)).toBe(nodeNamed(1));
  });
});

test("the tie band is wider than the steps in which bounds are kept, so that no near-equal is missed", () => {
  const index = grid(
    [node(0), node(1, { rttMs: 10 + TIE_BAND_MS - 1 }), node(2, { rttMs: 100 })],
    [replica(0), replica(1), replica(2)],
  );
  const scratch = new MatchScratch();
  matchReplica(index, REQUEST, scratch);
  expect(scratch.scored).toBe(2);
});
