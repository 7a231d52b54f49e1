import { describe, expect, test } from "vitest";
import { type ChainList, type ChainStageRow, chainListSchema } from "../../coordinator/admin/chain-schema.ts";
import { pipelineText } from "./pipeline.ts";

function stage(first: number, count: number, name: string, change: Partial<ChainStageRow> = {}): ChainStageRow {
  return {
    first,
    count,
    replicaId: `rep_${name}`,
    nodeId: `node_${name}`,
    nodeName: name,
    deviceId: "cpu",
    memoryBytes: 1_000,
    state: "ready",
    isLinked: true,
    successor: null,
    singleMs: 2.104,
    singlesMean: 1,
    promptMsPerPosition: 0.2,
    nextRttMs: 40.25,
    nextCarrier: "udp",
    bytesSent: 0,
    positionsSent: 0,
    ...change,
  };
}

function list(stages: readonly ChainStageRow[], change: Partial<ChainList["chains"][number]> = {}): ChainList {
  return chainListSchema.parse({
    chains: [
      {
        chainId: "0123456789abcdef0123456789abcdef",
        modelId: "large",
        weightsSha256: "a".repeat(64),
        state: "serving",
        chainEpoch: 3,
        wire: "f16",
        layerCount: 40,
        contextTokens: 4_096,
        sequencesMax: 16,
        stages,
        loopMs: 92.4,
        loneTokPerSecond: 10.82,
        drafted: 0,
        accepted: 0,
        repairs: 0,
        recoveryMs: null,
        trouble: null,
        missing: [],
        ...change,
      },
    ],
    spares: [],
    stats: { repairs: 1, repairsBySpare: 1, moves: 0, dissolved: 0, troubles: 2, garbage: 0 },
  });
}

const THREE = [
  stage(0, 14, "attic"),
  stage(14, 14, "cellar", { singleMs: 12.34, singlesMean: 3.5, nextCarrier: "tcp" }),
  stage(28, 12, "barn", { nextRttMs: null, nextCarrier: null }),
];

describe("a chain", () => {
  test("is drawn from its first stage to its last and back, each with its time and each way with its round trip and carrier", () => {
    expect(pipelineText(list(THREE), null)).toBe(
      [
        "large: serving (chain 01234567, epoch 3; 3 stages, 40 layers, f16 between them; 16 slots of 4096 tokens)",
        "  1  layers 0-13   attic   ready, 2.10 ms a token",
        "     | 40.3 ms round trip, udp to cellar",
        "  2  layers 14-27  cellar  ready, 12.3 ms a token for 3.5 answers at once",
        "     | 40.3 ms round trip, tcp to barn",
        "  3  layers 28-39  barn    ready, 2.10 ms a token",
        "     ^ not measured back to attic",
        "  loop 92.4 ms; 10.8 tokens/s for one answer without drafts",
        "",
        "since the start: 1 repair (1 by a spare), 0 moves, 2 troubles told",
        "",
      ].join("\n"),
    );
  });

  test("takes a line for the node and one for what it does on a narrow terminal", () => {
    const text = pipelineText(list(THREE.map((one) => ({ ...one, singlesMean: 1 }))), 60);
    const [drawn] = text.split("\n\n");
    expect(drawn).toBe(
      [
        "large: serving",
        "  chain 01234567, epoch 3",
        "  3 stages, 40 layers, f16 between them",
        "  16 slots of 4096 tokens",
        "  1 attic",
        "    layers 0-13, ready, 2.10 ms a token",
        "    | 40.3 ms round trip, udp",
        "  2 cellar",
        "    layers 14-27, ready, 12.3 ms a token",
        "    | 40.3 ms round trip, tcp",
        "  3 barn",
        "    layers 28-39, ready, 2.10 ms a token",
        "    ^ not measured",
        "  loop 92.4 ms",
        "  10.8 tokens/s for one answer without drafts",
      ].join("\n"),
    );
  });

  test("says what it lacks, who takes over, and what the last trouble was", () => {
    const lost = stage(14, 26, "cellar", {
      ...{ replicaId: null, nodeId: null, nodeName: null, deviceId: null, memoryBytes: null, state: null },
      ...{ isLinked: false, singleMs: null, singlesMean: null },
      successor: { replicaId: "rep_b", nodeId: "node_b", nodeName: "barn", state: "loading" },
    });
    const text = pipelineText(
      list([stage(0, 14, "attic"), lost], {
        ...{ state: "broken", loopMs: null, loneTokPerSecond: null, repairs: 2, recoveryMs: 812 },
        ...{ drafted: 120, accepted: 40, trouble: "cellar was silent for 1.0 s", troubleAgoMs: 12_000 },
        missing: ["layers 14-39: barn loads them (loading)"],
      }),
      null,
    );
    expect(text).toContain("(no node)  lost, not measured, barn takes over (loading)");
    expect(text).toContain(
      "  loop not measured yet; 40 of 120 drafts came true (33 %); 2 stages replaced; served again 0.8 s after the last break\n" +
        "  ! layers 14-39: barn loads them (loading)\n" +
        "  ! last trouble, 12 s ago: cellar was silent for 1.0 s\n",
    );
  });

  test("lists the spares of its model", () => {
    const spare = {
      ...{ replicaId: "rep_s", nodeId: "node_s", nodeName: "shed", modelId: "large" },
      ...{ first: 14, count: 14, state: "ready" },
    };
    const text = pipelineText({ ...list(THREE), spares: [spare, { ...spare, modelId: "other" }] }, null);
    expect(text.match(/spare:.*/g)).toEqual(["spare: layers 14-27 on shed, ready"]);
  });

  test("tells nodes of one name apart by the ends of their ids", () => {
    const [first, second] = [0, 1].map((at) =>
      stage(20 * at, 20, "desk", { nodeId: `node_${"0".repeat(26)}abcde${at}` }),
    );
    if (first === undefined || second === undefined) throw new Error("there are two");
    const text = pipelineText(list([first, second]), null);
    expect(text).toContain("  1  layers 0-19   desk abcde0  ready");
    expect(text).toContain("to desk abcde1\n");
  });

  test("cannot rewrite the terminal by a node's name", () => {
    const clearScreen = "\u001b[2J";
    expect(pipelineText(list([stage(0, 40, `${clearScreen}x`)]), null)).not.toContain(clearScreen);
  });
});

test("a grid without chains says what that means", () => {
  expect(pipelineText({ ...list([]), chains: [] }, null)).toContain("no model is split over nodes");
});
