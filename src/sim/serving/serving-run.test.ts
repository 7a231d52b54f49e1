import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { tinyCluster } from "../../../test/support/tiny-clusters.ts";
import { SeededRandom } from "../time/random.ts";
import { drawArrivals, servableRequests, type TraceRequest } from "./arrivals.ts";
import { defaultArrivalRate, type ServingInput, type ServingOutcome, simulateServing } from "./serving-run.ts";

const TWO_STAGES = tinyCluster({
  layerCount: 4,
  nodes: [
    { id: "a", holds: [0, 2], kvTokenLayers: 20_000 },
    { id: "b", holds: [0, 2], kvTokenLayers: 20_000, slowness: 2 },
    { id: "c", holds: [2, 4], kvTokenLayers: 20_000, promptRequestsMax: 3 },
  ],
  activationBytes: 9,
});

const TRACE: readonly TraceRequest[] = Array.from({ length: 60 }, (_, at) => ({
  atSeconds: Math.floor(at / 3),
  promptTokens: 20 + ((at * 37) % 150),
  outputTokens: 1 + ((at * 11) % 25),
}));

const INPUT: ServingInput = {
  ...TWO_STAGES,
  router: "ours",
  trace: TRACE,
  mode: "offline",
  warmupS: 10,
  durationS: 60,
  seed: "7",
};

function outcomeOf(input: ServingInput): ServingOutcome {
  const result = simulateServing(input);
  if (!result.ok) throw new Error(result.reason.message);
  return result.outcome;
}

describe("a run", () => {
  test.each(["ours", "helix", "swarm", "random"] as const)(
    "of one seed under %s is the same twice, and another seed's is not",
    (router) => {
      for (const mode of ["offline", "online"] as const) {
        const input = { ...INPUT, router, mode, arrivalTokensPerSecond: 60 };
        const [first, second] = [outcomeOf(input), outcomeOf(input)];
        expect(second).toEqual(first);
        expect(first.decodeTokensPerSecond).toBeGreaterThan(0);
        expect(outcomeOf({ ...input, seed: "8" }).decodeLatencySamplesS).not.toEqual(first.decodeLatencySamplesS);
      }
    },
  );

  test("does not depend on the order of equal requests in the trace, nor of nodes in the layout", () => {
    const layout = new Map([...INPUT.layout].reverse());
    expect(outcomeOf({ ...INPUT, trace: TRACE.toReversed(), layout })).toEqual(outcomeOf(INPUT));
  });

  test("counts tokens per second of its window, and uses within 0 and 1", () => {
    const outcome = outcomeOf(INPUT);
    expect(outcome.decodeTokensPerSecond).toBeCloseTo(outcome.counts.decodeTokens / 60, 9);
    expect(outcome.decodeLatencySamplesS).toHaveLength(outcome.counts.decodeTokens);
    for (const { busyShare, kvPeakShare, kvMeanShare } of outcome.nodes) {
      for (const share of [busyShare, kvPeakShare, kvMeanShare]) {
        expect(share).toBeGreaterThanOrEqual(0);
        expect(share).toBeLessThanOrEqual(1);
      }
    }
    for (const { busyShare } of outcome.links) expect(busyShare).toBeLessThanOrEqual(1);
    expect(outcome.flow).toBeCloseTo(100, 6);
  });

  test("keeps separate pipelines apart, and adds up their flow", () => {
    const { cluster } = TWO_STAGES;
    const layout = new Map([
      ["a", { first: 0, end: 4 }],
      ["b", { first: 0, end: 4 }],
    ]);
    const outcome = outcomeOf({ ...INPUT, cluster, layout, pipelines: [["a"], ["b"]] });
    expect(outcome.flow).toBeCloseTo(200, 6);
    expect(outcome.links.map(({ from, to }) => `${from}>${to}`).filter((name) => !/source|sink/.test(name))).toEqual(
      [],
    );
  });

  test("of a layout without a way, or of a trace that fits no batch, is refused with the reason", () => {
    const hole = new Map([["a", { first: 0, end: 2 }]]);
    expect(simulateServing({ ...INPUT, layout: hole })).toMatchObject({
      ok: false,
      reason: { code: "no-way", message: expect.stringContaining("layers 0 to 3") },
    });
    const trace = [{ atSeconds: 0, promptTokens: 1001, outputTokens: 1 }];
    expect(simulateServing({ ...INPUT, trace })).toMatchObject({ ok: false, reason: { code: "empty-trace" } });
  });
});

describe("our router offline", () => {
  test("goes on after requests that no empty node has room for", () => {
    const nodes = [{ id: "a", holds: [0, 2], kvTokenLayers: 400 }] as const;
    const trace = [20, 300, 400, 500].map((promptTokens, atSeconds) => ({ atSeconds, promptTokens, outputTokens: 5 }));
    for (const seed of ["1", "2", "3", "4"]) {
      const { counts } = outcomeOf({ ...INPUT, ...tinyCluster({ layerCount: 2, nodes }), trace, seed, durationS: 200 });
      expect(counts.dropped).toBeGreaterThan(10);
      expect(counts.ended).toBeGreaterThan(10);
    }
  });

  test("answers while it fills room that prompts would take hours to fill over a slow link", () => {
    const slow = tinyCluster({
      layerCount: 2,
      nodes: [
        { id: "a", holds: [0, 1] },
        { id: "b", holds: [1, 2] },
      ],
      activationBytes: 99,
      links: { "source>a": { bytesPerSecond: 1e6 }, "b>sink": { bytesPerSecond: 1e6 } },
    });
    const input = { ...INPUT, ...slow, durationS: 900 };
    const { counts, promptLatencyS } = outcomeOf(input);
    // A prompt takes 2 to 17 s over the link between a and b, and there is room for thousands.
    expect(promptLatencyS.p95).toBeLessThan(300);
    expect(counts.ended).toBeGreaterThan(20);
    expect(counts.inFlightAtEnd).toBeGreaterThan(0);
  });

  test("asks for as many requests as a quick layout can take", () => {
    const quick = tinyCluster({
      layerCount: 1,
      nodes: [{ id: "a", holds: [0, 1], slowness: 0.001, promptRequestsMax: 8, tokensPerSecond: 100_000 }],
      tokenBytes: 0.001,
    });
    const trace = [{ atSeconds: 0, promptTokens: 10, outputTokens: 1 }];
    const { counts } = outcomeOf({ ...INPUT, ...quick, trace, durationS: 10 });
    expect(counts.promptsDone / 10).toBeGreaterThan(200);
  });
});

describe("online load", () => {
  test("has the rate that is asked for, whatever the rate", () => {
    const requests = servableRequests(TRACE, TWO_STAGES.cluster);
    fc.assert(
      fc.property(fc.integer({ min: 50, max: 500 }), fc.integer(), (tokensPerSecond, seed) => {
        const arrivals = drawArrivals(requests, { tokensPerSecond, untilS: 3000 }, new SeededRandom(String(seed)));
        const tokens = arrivals.reduce((sum, each) => sum + each.promptTokens + each.outputTokens, 0);
        expect(tokens / 3000 / tokensPerSecond).toBeGreaterThan(0.85);
        expect(tokens / 3000 / tokensPerSecond).toBeLessThan(1.15);
        expect(arrivals.every(({ atS }, at) => atS >= (arrivals[at - 1]?.atS ?? 0) && atS < 3000)).toBe(true);
      }),
      { numRuns: 15 },
    );
  });

  test("without a rate is a share of what the layout serves offline", () => {
    const offline = outcomeOf({ ...INPUT, router: "helix", warmupS: 60, durationS: 600 });
    const rate = defaultArrivalRate(INPUT);
    const tokensPerOutput =
      TRACE.reduce((sum, { promptTokens, outputTokens }) => sum + promptTokens + outputTokens, 0) /
      TRACE.reduce((sum, { outputTokens }) => sum + outputTokens, 0);
    expect(rate).toBeCloseTo(0.73 * offline.decodeTokensPerSecond * tokensPerOutput, 6);
    const { arrivedTokensPerSecond } = outcomeOf({ ...INPUT, mode: "online", durationS: 2000 });
    expect((arrivedTokensPerSecond ?? 0) / rate).toBeCloseTo(1, 1);
  });
});
