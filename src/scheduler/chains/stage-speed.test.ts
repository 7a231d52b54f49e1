import { expect, test } from "vitest";
import { wholeTokenSeconds } from "./stage-speed.ts";

const TIME = { singleMs: 2, singlesMean: 1, layers: 10, layerCount: 30, isGpu: false };

test("a third of the layers in 2 ms is the whole model in 6 ms", () => {
  expect(wholeTokenSeconds(TIME)).toBeCloseTo(0.006);
});

test("a decode of several sequences is told as one of a lone one", () => {
  // On a CPU each further sequence takes 0.7 of the first one's time.
  expect(wholeTokenSeconds({ ...TIME, singleMs: 2 * 2.4, singlesMean: 3 })).toBeCloseTo(0.006);
});

test("a time of nothing says nothing", () => {
  expect(wholeTokenSeconds({ ...TIME, singleMs: 0 })).toBeNull();
});
