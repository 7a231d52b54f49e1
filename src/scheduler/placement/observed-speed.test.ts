import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { nodeNamed, weightsOf } from "../../../test/support/placement-samples.ts";
import {
  EFFORT_TOKENS_MIN,
  type Effort,
  FILES_PER_NODE_MAX,
  loneTokenSeconds,
  NODES_MAX,
  ObservedSpeeds,
  startEffort,
  withTokens,
} from "./observed-speed.ts";
import { stepFactor } from "./speed-model.ts";

const TERMS = { isGpu: false, promptTokens: 0, busyReplicas: 1, rttMs: 0 };

/** Tokens one by one, each after `gapMs`, the first after `firstMs`. */
function steady(tokens: number, at: { firstMs: number; gapMs: number; leased?: number }): Effort {
  let effort = startEffort(1_000);
  for (let index = 0; index < tokens; index++) {
    const nowMs = 1_000 + at.firstMs + index * at.gapMs;
    effort = withTokens(effort, { nowMs, tokens: 1, leased: at.leased ?? 1 });
  }
  return effort;
}

describe("what an attempt says of its node's speed", () => {
  test("the time between its tokens", () => {
    expect(loneTokenSeconds(steady(101, { firstMs: 20, gapMs: 20 }), TERMS)).toBeCloseTo(0.02);
  });

  test("less what other sequences and other models of the device took of it", () => {
    const effort = steady(101, { firstMs: 20, gapMs: 20, leased: 4 });
    expect(loneTokenSeconds(effort, TERMS)).toBeCloseTo(0.02 / stepFactor(false, 4));
    expect(loneTokenSeconds(effort, { ...TERMS, busyReplicas: 2 })).toBeCloseTo(0.01 / stepFactor(false, 4));
  });

  test("a long prompt, a cached one and the way to the node change nothing", () => {
    const prompted = steady(101, { firstMs: 20 + 1_000 * 20 * 0.3, gapMs: 20 });
    expect(loneTokenSeconds(prompted, { ...TERMS, promptTokens: 1_000 })).toBeCloseTo(0.02);
    const cached = steady(101, { firstMs: 20, gapMs: 20 });
    expect(loneTokenSeconds(cached, { ...TERMS, promptTokens: 1_000 })).toBeCloseTo(0.02);
    expect(loneTokenSeconds(steady(101, { firstMs: 220, gapMs: 20 }), { ...TERMS, rttMs: 200 })).toBeCloseTo(0.02);
  });

  test("a node that holds its tokens back and sends them at once is not faster for it", () => {
    const burst = withTokens(startEffort(0), { nowMs: 2_000, tokens: 100, leased: 1 });
    expect(loneTokenSeconds(burst, TERMS)).toBeCloseTo(0.02);
    const twice = withTokens(withTokens(startEffort(0), { nowMs: 2_000, tokens: 50, leased: 1 }), {
      nowMs: 2_001,
      tokens: 50,
      leased: 1,
    });
    expect(loneTokenSeconds(twice, TERMS)).toBeCloseTo(0.02);
  });

  test("nor one that calls its way long: half a second of it is believed", () => {
    const effort = steady(20, { firstMs: 10_000, gapMs: 1 });
    const told = loneTokenSeconds(effort, { ...TERMS, rttMs: 600_000 });
    expect(told).toBeCloseTo((10_019 - 500) / 20 / 1_000);
  });

  test("nothing when it was short or took no time", () => {
    expect(loneTokenSeconds(startEffort(0), TERMS)).toBeNull();
    expect(loneTokenSeconds(steady(EFFORT_TOKENS_MIN - 1, { firstMs: 9, gapMs: 9 }), TERMS)).toBeNull();
    expect(loneTokenSeconds(steady(100, { firstMs: 0, gapMs: 0 }), TERMS)).toBeNull();
  });
});

describe("what is remembered of nodes", () => {
  const seen = (node: number, tokenSeconds: number, file = "a") => ({
    nodeId: nodeNamed(node),
    deviceId: "cpu",
    weightsSha256: weightsOf(file),
    tokenSeconds,
  });

  test("the mean of the first attempts, and then of the last ones", () => {
    const speeds = new ObservedSpeeds();
    for (const tokenSeconds of [0.01, 0.02, 0.03]) speeds.record(seen(0, tokenSeconds));
    expect(speeds.of(nodeNamed(0))).toMatchObject([{ count: 3 }]);
    expect(speeds.of(nodeNamed(0))[0]?.tokenSeconds).toBeCloseTo(0.02);
    for (let attempt = 0; attempt < 100; attempt++) speeds.record(seen(0, 0.5));
    expect(speeds.of(nodeNamed(0))[0]?.tokenSeconds).toBeGreaterThan(0.49);
    expect(speeds.of(nodeNamed(0))[0]?.count).toBeLessThanOrEqual(64);
  });

  test("each node, device and file apart", () => {
    const speeds = new ObservedSpeeds();
    speeds.record(seen(0, 0.01));
    speeds.record(seen(0, 0.02, "b"));
    speeds.record({ ...seen(0, 0.03), deviceId: "cuda0" });
    speeds.record(seen(1, 0.04));
    expect(speeds.of(nodeNamed(0)).map(({ tokenSeconds }) => tokenSeconds)).toEqual([0.01, 0.02, 0.03]);
    expect(speeds.of(nodeNamed(1))).toHaveLength(1);
    expect(speeds.of(nodeNamed(2))).toEqual([]);
  });

  test("no more nodes and files than the bounds, whoever reports: what was seen longest ago is forgotten", () => {
    const speeds = new ObservedSpeeds();
    for (let node = 0; node <= NODES_MAX; node++) speeds.record(seen(node, 0.01));
    expect(speeds.of(nodeNamed(0))).toEqual([]);
    expect(speeds.of(nodeNamed(1))).toHaveLength(1);
    for (let file = 0; file <= FILES_PER_NODE_MAX; file++) speeds.record(seen(1, 0.01, `m${file}`));
    const files = speeds.of(nodeNamed(1)).map(({ weightsSha256 }) => weightsSha256);
    expect(files).toHaveLength(FILES_PER_NODE_MAX);
    expect(files.includes(weightsOf("m0"))).toBe(false);
    expect(files.at(-1)).toBe(weightsOf(`m${FILES_PER_NODE_MAX}`));
  });

  test("a mean lies between the least and the greatest that was seen", () => {
    const times = fc.array(fc.double({ min: 1e-6, max: 10, noNaN: true }), { minLength: 1, maxLength: 100 });
    fc.assert(
      fc.property(times, (all) => {
        const speeds = new ObservedSpeeds();
        for (const tokenSeconds of all) speeds.record(seen(0, tokenSeconds));
        const mean = speeds.of(nodeNamed(0))[0]?.tokenSeconds ?? Number.NaN;
        expect(mean).toBeGreaterThanOrEqual(Math.min(...all) * (1 - 1e-9));
        expect(mean).toBeLessThanOrEqual(Math.max(...all) * (1 + 1e-9));
      }),
    );
  });
});
