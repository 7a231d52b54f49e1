import { expect, test } from "vitest";
import { RecentMedian } from "./recent-median.ts";

test("the median of the last values is told, and old ones are forgotten", () => {
  const median = new RecentMedian();
  expect(median.value()).toBeNull();
  for (const value of [9, 1, 5]) median.add(value);
  expect(median.value()).toBe(5);
  median.add(100);
  expect(median.value()).toBe(5);
  for (let count = 0; count < 100; count++) median.add(7);
  expect(median.value()).toBe(7);
});
