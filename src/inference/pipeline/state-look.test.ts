import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { WireFormat } from "../../domain/chain.ts";
import {
  areAlike,
  FINGERPRINT_POSITIONS_MAX,
  fingerprintDistance,
  isSameEverywhere,
  SKETCH_BUCKETS,
} from "../../domain/state-fingerprint.ts";
import { areAllZero, fingerprintOf, sizesOf, type TravellingStates } from "./state-look.ts";

const WIDTH = 64;
const POSITIONS = 20;

/** Normally distributed, from a seed. */
function noise(seed: number, count = POSITIONS * WIDTH): number[] {
  let state = seed >>> 0;
  const next = () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return (state + 0.5) / 2 ** 32;
  };
  return Array.from({ length: count }, () => Math.sqrt(-2 * Math.log(next())) * Math.cos(2 * Math.PI * next()));
}

function states(numbers: readonly number[], format: WireFormat = "f32", width = WIDTH): TravellingStates {
  const data = new Uint8Array((format === "f32" ? new Float32Array(numbers) : new Float16Array(numbers)).buffer);
  return { format, data, width, positions: numbers.length / width };
}

function distance(a: TravellingStates, b: TravellingStates): number {
  const [one, other] = [fingerprintOf(a), fingerprintOf(b)];
  if (one === null || other === null) throw new Error("finite states have fingerprints");
  return fingerprintDistance(one, other) ?? Number.NaN;
}

describe("a fingerprint of hidden states", () => {
  test("tells of the first positions only, each by its size and a sketch", () => {
    const fingerprint = fingerprintOf(states(noise(1)));
    expect(fingerprint?.rms).toHaveLength(FINGERPRINT_POSITIONS_MAX);
    expect(fingerprint?.sketch).toHaveLength(FINGERPRINT_POSITIONS_MAX * SKETCH_BUCKETS);
    const again = fingerprintOf(states([...noise(1).slice(0, FINGERPRINT_POSITIONS_MAX * WIDTH), ...noise(9, WIDTH)]));
    expect(again).toEqual(fingerprint);
  });

  test("is the same for the same numbers in f16 and f32, but for rounding", () => {
    fc.assert(
      fc.property(fc.nat(1e6), fc.constantFrom(1e-3, 1, 100), (seed, scale) => {
        const numbers = noise(seed).map((one) => one * scale);
        expect(distance(states(numbers), states(numbers, "f16"))).toBeLessThan(0.002);
      }),
    );
  });

  test("is far from that of noise of the same size, and near where a few percent differ", () => {
    fc.assert(
      fc.property(fc.nat(1e6), (seed) => {
        const [numbers, others] = [noise(seed), noise(seed + 1_000_003)];
        expect(distance(states(numbers), states(others))).toBeGreaterThan(0.9);
        const blurred = numbers.map((one, at) => one + 0.05 * (others[at] ?? 0));
        expect(distance(states(numbers), states(blurred))).toBeLessThan(0.1);
      }),
    );
  });

  test("sees another scale, another order of positions, and another width", () => {
    const numbers = noise(3);
    const doubled = states(numbers.map((one) => one * 2));
    expect(distance(states(numbers), doubled)).toBe(Number.POSITIVE_INFINITY);
    const turned = Array.from({ length: POSITIONS }, (_, at) => numbers.slice(at * WIDTH, (at + 1) * WIDTH)).reverse();
    expect(distance(states(numbers), states(turned.flat()))).toBeGreaterThan(0.9);
    const wide = fingerprintOf(states(numbers, "f32", WIDTH * 2));
    const narrow = fingerprintOf(states(numbers));
    if (wide === null || narrow === null) throw new Error("finite states have fingerprints");
    expect(areAlike(wide, narrow)).toBe(false);
  });

  test("is that of nobody's work when all positions are the same", () => {
    const one = noise(4, WIDTH);
    const flat = fingerprintOf(states(Array.from({ length: POSITIONS }, () => one).flat()));
    const real = fingerprintOf(states(noise(4)));
    expect([flat, real].map((each) => each !== null && isSameEverywhere(each))).toEqual([true, false]);
  });

  test("is none where a number is not finite", () => {
    for (const broken of [Number.NaN, Number.POSITIVE_INFINITY]) {
      for (const format of ["f16", "f32"] as const) {
        expect(fingerprintOf(states(noise(5).with(7, broken), format))).toBeNull();
      }
    }
  });
});

describe("a look at hidden states", () => {
  test("tells sizes of positions that are spread over the piece", () => {
    const numbers = Array.from({ length: POSITIONS }, (_, at) => new Array<number>(WIDTH).fill(at + 1)).flat();
    for (const format of ["f16", "f32"] as const) {
      expect(sizesOf(states(numbers, format), 4)).toEqual([1, 6, 11, 16]);
      expect(sizesOf(states(numbers, format), 100)).toHaveLength(POSITIONS);
    }
  });

  test("knows zeros of either sign, and the smallest number that is none", () => {
    const zeros = new Array<number>(WIDTH * 2).fill(0).with(3, -0);
    for (const format of ["f16", "f32"] as const) {
      expect(areAllZero(states(zeros, format))).toBe(true);
      expect(areAllZero(states(zeros.with(-1, 2 ** -24), format))).toBe(false);
    }
  });
});
