import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  NEUTRAL_GPU_BYTES_PER_SECOND,
  OBSERVATIONS_FOR_HALF,
  OBSERVED_FASTER_MAX,
  replicaTokPerSecond,
  type SpeedOn,
  tokenTime,
} from "./speed-model.ts";

const GPU: SpeedOn = {
  isGpu: true,
  decodeTokPerSecond: 500,
  gpuBytesPerSecond: 1_008e9,
  fileBytes: 8e9,
  observed: null,
};
const CPU: SpeedOn = { ...GPU, isGpu: false, gpuBytesPerSecond: Number.NaN };

describe("the time of a token", () => {
  test("on a GPU follows the bandwidth of its card, and an unknown card is taken for a slow one", () => {
    const fast = tokenTime(GPU);
    const slow = tokenTime({ ...GPU, gpuBytesPerSecond: 320e9 });
    const unknown = tokenTime({ ...GPU, gpuBytesPerSecond: Number.NaN });
    expect(fast.seconds).toBeCloseTo(1 / 500 + 8e9 / (0.6 * 1_008e9));
    expect(fast.seconds).toBeLessThan(slow.seconds);
    expect(slow.seconds).toBeLessThan(unknown.seconds);
    expect(unknown).toEqual({
      ...tokenTime({ ...GPU, gpuBytesPerSecond: NEUTRAL_GPU_BYTES_PER_SECOND }),
      source: "neutral",
    });
    expect([fast.source, slow.source]).toEqual(["modelled", "modelled"]);
  });

  test("says when it rests on the node's own measurement, and when on nothing", () => {
    expect(tokenTime(CPU).source).toBe("measured");
    expect(tokenTime({ ...CPU, decodeTokPerSecond: Number.NaN }).source).toBe("neutral");
    expect(tokenTime({ ...GPU, decodeTokPerSecond: Number.NaN }).source).toBe("neutral");
  });

  test("comes from what was observed by how often it was", () => {
    const modelled = tokenTime(CPU).seconds;
    const seen = (count: number) => tokenTime({ ...CPU, observed: { tokenSeconds: 3 * modelled, count } });
    expect(seen(1).source).toBe("measured");
    expect(seen(1).seconds).toBeLessThan(1.3 * modelled);
    expect(seen(OBSERVATIONS_FOR_HALF)).toEqual({ seconds: expect.closeTo(2 * modelled), source: "observed" });
    expect(seen(64).seconds).toBeGreaterThan(2.7 * modelled);
  });

  test("is never below a quarter of the model's, whatever a node sends and how often", () => {
    const observed = fc.record({ tokenSeconds: fc.double({ min: 0, max: 100, noNaN: true }), count: fc.nat(1_000) });
    fc.assert(
      fc.property(observed, fc.boolean(), (seen, isGpu) => {
        const on = isGpu ? GPU : CPU;
        const load = { size: { sequencesMax: 8 }, mix: { promptTokensMean: 100, outputTokensMean: 100 } };
        const rate = (one: SpeedOn) => replicaTokPerSecond(one, { ...load, verificationOverhead: 0, rttSeconds: 0 });
        expect(tokenTime({ ...on, observed: seen }).seconds).toBeGreaterThanOrEqual(
          (tokenTime(on).seconds / OBSERVED_FASTER_MAX) * (1 - 1e-9),
        );
        expect(rate({ ...on, observed: seen })).toBeLessThanOrEqual(OBSERVED_FASTER_MAX * rate(on) * (1 + 1e-9));
      }),
    );
  });

  test("a node that is slower than it said is believed to be, however fast it said it was", () => {
    const boasting = { ...CPU, decodeTokPerSecond: 1e12, observed: { tokenSeconds: 0.1, count: 64 } };
    expect(tokenTime(boasting).seconds).toBeGreaterThan(0.08);
  });
});

test("a long way to the node holds a slot for longer", () => {
  const rate = (rttSeconds: number) =>
    replicaTokPerSecond(GPU, {
      size: { sequencesMax: 4 },
      mix: { promptTokensMean: 10, outputTokensMean: 20 },
      verificationOverhead: 0,
      rttSeconds,
    });
  expect(rate(0.3)).toBeLessThan(rate(0.001));
});
