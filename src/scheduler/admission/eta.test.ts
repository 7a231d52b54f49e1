import { describe, expect, test } from "vitest";
import { modelId } from "../../domain/ids.ts";
import { expectedWaitMs, retryAfterMs } from "./eta.ts";
import { REFERENCE_SPEED, SlotTimes, slotWorth } from "./slot-times.ts";

const MODEL = modelId("tiny");
const QUESTION = { slots: 1, slotsFree: 0, aheadMs: [], runningRestMs: [], coldStartMs: 5_000 };

describe("the expected wait", () => {
  test.each([
    ["nothing while a slot is free", { ...QUESTION, slots: 4, slotsFree: 1 }, 0],
    [
      "what still runs and what is before it, on one slot",
      { ...QUESTION, runningRestMs: [300], aheadMs: [1_000, 500] },
      1_800,
    ],
    [
      "that over the slots, on several",
      { ...QUESTION, slots: 4, runningRestMs: [800, 800, 800, 800], aheadMs: [4_000] },
      1_200,
    ],
    ["the cold start when no replica is up", { ...QUESTION, slots: 0 }, 5_000],
    ["and a turn of those before it", { ...QUESTION, slots: 0, aheadMs: [1_000, 3_000] }, 7_000],
  ])("is %s", (_, question, expected) => {
    expect(expectedWaitMs(question)).toBe(expected);
  });

  test("is within a tenth of what a queue of drawn times shows, on the mean over 400 arrivals", () => {
    // A linear congruential generator: the same draws everywhere.
    let state = 12_345;
    const draw = () => {
      state = (state * 1_103_515_245 + 12_345) % 2_147_483_648;
      return state / 2_147_483_648;
    };
    let promised = 0;
    let waited = 0;
    for (let arrival = 0; arrival < 400; arrival++) {
      const slots = 1 + Math.floor(draw() * 8);
      const exponential = () => -Math.log(1 - draw()) * 1_000;
      const runningRestMs = Array.from({ length: slots }, exponential);
      const aheadMs = Array.from({ length: Math.floor(draw() * 40) }, exponential);
      promised += expectedWaitMs({ ...QUESTION, slots, runningRestMs, aheadMs });
      const freeAt = [...runningRestMs];
      for (const serviceMs of aheadMs) {
        const first = freeAt.indexOf(Math.min(...freeAt));
        freeAt[first] = (freeAt[first] ?? 0) + serviceMs;
      }
      waited += Math.min(...freeAt);
    }
    expect(promised / waited).toBeGreaterThan(0.9);
    expect(promised / waited).toBeLessThan(1.1);
  });

  test("retry-after is never shorter than a second nor longer than two minutes", () => {
    expect([0, 1_499.6, 1e9].map(retryAfterMs)).toEqual([1_000, 1_500, 120_000]);
  });
});

describe("service times", () => {
  const size = { modelId: MODEL, promptTokens: 100, outputTokensMax: 400 };

  test("follow the size of the request and how much of its allowance is usually used", () => {
    const times = new SlotTimes();
    expect(times.isMeasured(MODEL)).toBe(false);
    // 100 prompt tokens count as 10, so 110 units in 2.2 s: 20 ms each; a quarter of what was allowed.
    for (let count = 0; count < 50; count++) times.record({ ...size, outputTokens: 100, heldMs: 2_200, worth: 0.25 });
    expect(times.outputShare(MODEL)).toBeCloseTo(0.25);
    expect(times.expectedMs(size)).toBeCloseTo(2_200);
    expect(times.expectedMs({ ...size, outputTokensMax: 4_000 })).toBeCloseTo(20_200);
    expect(times.expectedCost(size)).toBeCloseTo(0.55);
    expect(times.isMeasured(modelId("other"))).toBe(false);
  });

  test("a device that decodes twice as fast weighs twice as much, and a slot is its part of the device", () => {
    expect(slotWorth({ slots: 4, decodeTokPerSecond: REFERENCE_SPEED })).toBe(0.25);
    expect(slotWorth({ slots: 4, decodeTokPerSecond: 2 * REFERENCE_SPEED })).toBe(0.5);
    expect(slotWorth({ slots: 4, decodeTokPerSecond: null })).toBe(0.25);
  });
});
