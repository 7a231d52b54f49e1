import { expect, test } from "vitest";
import { intervalOf } from "./statistics.ts";

test("the interval is Student's: 10 values with mean 5.5 and deviation 3.028 reach 2.262 standard errors to both sides", () => {
  const { mean, low, high } = intervalOf([1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
  expect(mean).toBe(5.5);
  expect(high - mean).toBeCloseTo((2.262 * 3.02765) / Math.sqrt(10), 4);
  expect(mean - low).toBeCloseTo(high - mean, 9);
});

test("of one value nothing is known but itself", () => {
  expect(intervalOf([7])).toEqual({ mean: 7, low: 7, high: 7 });
});
