import { describe, expect, test } from "vitest";
import { modelId, nodeId, replicaId, sha256Hex } from "../../domain/ids.ts";
import type { ChainsView, StageView } from "../chains/chain-view.ts";
import { chainList } from "./chain-rows.ts";

const ATTIC = nodeId(`node_${"a".repeat(32)}`);
const BARN = nodeId(`node_${"b".repeat(32)}`);
const SHED = nodeId(`node_${"c".repeat(32)}`);
const NAMES = new Map([
  [ATTIC, "attic"],
  [BARN, "barn"],
  [SHED, "shed"],
]);
const REPLICA = replicaId("rep_01M81W3Z6HEBQBCXP15FP8AXFZ");

function stage(first: number, node: typeof ATTIC, successor: typeof ATTIC | null = null): StageView {
  return {
    first,
    count: 2,
    holder: { replicaId: REPLICA, nodeId: node, deviceId: "cpu", memoryBytes: 1, state: "ready", isLinked: true },
    successor: successor === null ? null : { replicaId: REPLICA, nodeId: successor, state: "loading" },
    times: null,
  };
}

function missing(
  stages: readonly StageView[],
  draining: readonly (typeof ATTIC)[],
  state: "serving" | "broken" = "serving",
): readonly string[] | undefined {
  const view: ChainsView = {
    chains: () => [
      {
        chainId: "0".repeat(32),
        modelId: modelId("large"),
        weightsSha256: sha256Hex("a".repeat(64)),
        state,
        epoch: 1,
        wire: "f32",
        layerCount: 4,
        contextTokens: 64,
        sequencesMax: 1,
        stages,
        loopMs: null,
        drafted: 0,
        accepted: 0,
        repairs: 0,
        recoveryMs: null,
        trouble: null,
      },
    ],
    spares: () => [],
    stats: () => ({ repairs: 0, repairsBySpare: 0, moves: 0, dissolved: 0, troubles: 0, garbage: 0 }),
  };
  const { chains } = chainList(view, {
    nameOf: (node) => NAMES.get(node) ?? node,
    isDraining: (node) => draining.includes(node),
    carrier: () => null,
  });
  return chains[0]?.missing;
}

describe("a chain that serves", () => {
  test("lacks nothing while all of its nodes take work", () => {
    expect(missing([stage(0, ATTIC), stage(2, BARN)], [])).toEqual([]);
  });

  test("says that it gets nothing new while a node of it is drained, and who takes over", () => {
    expect(missing([stage(0, ATTIC), stage(2, BARN)], [BARN])).toEqual([
      "layers 2-3: barn is drained, so nothing new comes to the chain; no other node takes them over",
    ]);
    expect(missing([stage(0, ATTIC), stage(2, BARN, SHED)], [BARN, SHED])).toEqual([
      "layers 2-3: barn is drained, so nothing new comes to the chain; shed takes over",
    ]);
  });
});

test("a place without a node tells why the last look found nobody, not that nobody has room", () => {
  const empty: StageView = { ...stage(0, ATTIC), holder: null };
  const why = { ...stage(2, BARN), holder: null, lacks: "node-suspect: 1, memory-too-small: 1" };
  expect(missing([empty, why], [], "broken")).toEqual([
    "layers 0-1: no node takes them (nobody was found yet)",
    "layers 2-3: no node takes them (node-suspect: 1, memory-too-small: 1)",
  ]);
});
