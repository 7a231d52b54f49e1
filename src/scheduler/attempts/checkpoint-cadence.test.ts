import { describe, expect, test } from "vitest";
import { checkpointIntervalMs, checkpointWaste, gangMeanTimeToLossMs } from "./checkpoint-cadence.ts";

const HOUR_MS = 3_600_000;

describe("the checkpoint interval", () => {
  test.each([
    [1, 4.5, 7.5],
    [4, 8.9, 3.7],
    [24, 21.9, 1.5],
  ])("for 10 s of writing and %s h to a loss is %s min, at %s percent waste", (hours, minutes, percent) => {
    const task = { checkpointMs: 10_000, meanTimeToLossMs: hours * HOUR_MS };
    const intervalMs = checkpointIntervalMs(task);
    expect(intervalMs / 60_000).toBeCloseTo(minutes, 1);
    expect(checkpointWaste({ ...task, intervalMs }) * 100).toBeCloseTo(percent, 1);
  });

  test("takes Daly's higher terms where losses are frequent, and the mean itself where they are too frequent", () => {
    // C = 60 s, M = 300 s: ratio 0.1, sqrt(36,000) = 189.7 s.
    const young = Math.sqrt(2 * 60 * 300);
    const daly = young * (1 + Math.sqrt(0.1) / 3 + 0.1 / 9) - 60;
    expect(checkpointIntervalMs({ checkpointMs: 60_000, meanTimeToLossMs: 300_000 }) / 1_000).toBeCloseTo(daly, 6);
    expect(checkpointIntervalMs({ checkpointMs: 60_000, meanTimeToLossMs: 20_000 })).toBe(20_000);
  });

  test("Daly's interval wastes no more than Young's where it is used, by the exact model of exponential losses", () => {
    // Expected wall time for an interval of work t: (M e^(R/M)) (e^((t+C)/M) - 1), per unit of work; R drops out.
    const wall = (interval: number, cost: number, mean: number) =>
      (mean * (Math.exp((interval + cost) / mean) - 1)) / interval;
    for (const mean of [60, 120, 300, 900]) {
      const task = { checkpointMs: 30, meanTimeToLossMs: mean };
      const young = Math.sqrt(2 * 30 * mean);
      expect(wall(checkpointIntervalMs(task), 30, mean)).toBeLessThanOrEqual(wall(young, 30, mean));
    }
  });
});

describe("a gang's mean time to loss", () => {
  test("is a node's over the number of nodes when all are alike", () => {
    const one = gangMeanTimeToLossMs({ staysWithProbability: [0.95], horizonMs: HOUR_MS });
    const four = gangMeanTimeToLossMs({ staysWithProbability: [0.95, 0.95, 0.95, 0.95], horizonMs: HOUR_MS });
    expect(one / four).toBeCloseTo(4, 9);
    // 0.815 for four: the horizon is 0.2052 of the mean.
    expect(HOUR_MS / four).toBeCloseTo(-Math.log(0.8145), 3);
  });

  test("is infinite when all surely stay, and half the horizon when one surely leaves", () => {
    expect(gangMeanTimeToLossMs({ staysWithProbability: [1, 1], horizonMs: HOUR_MS })).toBe(Number.POSITIVE_INFINITY);
    expect(checkpointIntervalMs({ checkpointMs: 1, meanTimeToLossMs: Number.POSITIVE_INFINITY })).toBe(
      Number.POSITIVE_INFINITY,
    );
    expect(gangMeanTimeToLossMs({ staysWithProbability: [1, 0], horizonMs: HOUR_MS })).toBeCloseTo(HOUR_MS / 2, 3);
  });
});
