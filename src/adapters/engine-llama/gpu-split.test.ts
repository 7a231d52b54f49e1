import { expect, test } from "vitest";
import type { GpuSplit } from "../../ports/engine.ts";
import { splitRefusal } from "./gpu-split.ts";

const split = (change: Partial<GpuSplit> = {}): GpuSplit => ({ mode: "layer", tensorSplit: [], mainGpu: 0, ...change });
const two = { gpuCount: 2, devicesMax: 16 };

test("parts for each GPU, or none at all, are taken", () => {
  for (const tensorSplit of [[], [1], [3, 1], [0, 1], [0.5, 0.25]]) {
    expect(splitRefusal(split({ tensorSplit }), two)).toBeNull();
  }
  expect(splitRefusal(split({ mode: "none", mainGpu: 1 }), two)).toBeNull();
});

test("a GPU that is not there is refused, with how many there are", () => {
  expect(splitRefusal(split({ mainGpu: 2 }), two)).toContain("main GPU 2 is not one of the 2 GPUs");
  expect(splitRefusal(split({ mainGpu: -1 }), two)).toContain("-1");
  expect(splitRefusal(split({ tensorSplit: [1, 1, 1] }), two)).toContain("names 3 GPUs, the engine sees 2 GPUs");
  expect(splitRefusal(split({ tensorSplit: [1] }), { gpuCount: 0, devicesMax: 16 })).toContain("sees 0 GPUs");
});

test("parts that are no parts are refused", () => {
  expect(splitRefusal(split({ tensorSplit: [0, 0] }), two)).toContain("no GPU any part");
  expect(splitRefusal(split({ tensorSplit: [1, -1] }), two)).toContain("-1");
  expect(splitRefusal(split({ tensorSplit: [Number.NaN, 1] }), two)).toContain("NaN");
});
