import { describe, expect, test } from "vitest";
import { gpuSplitOf, gpuSplitSchema, tensorSplit } from "./gpu-split-flags.ts";

describe("how models lie on several GPUs", () => {
  test("is the engine's own way when nothing is said", () => {
    expect(gpuSplitOf({})).toBeNull();
  });

  test("is by layers over all of them when only the parts are said", () => {
    const split = gpuSplitOf({ tensorSplit: tensorSplit("3,1") });
    expect(split).toEqual({ mode: "layer", tensorSplit: [3, 1], mainGpu: 0 });
    expect(gpuSplitSchema.parse(split)).toEqual(split);
  });

  test("is one GPU when that is said", () => {
    expect(gpuSplitOf({ gpuSplit: "none", mainGpu: 1 })).toEqual({ mode: "none", tensorSplit: [], mainGpu: 1 });
  });

  test.each(["", "3,", "a", "0,0", "-1,2", "1e9", "3;1", new Array<number>(17).fill(1).join(",")])(
    "refuses the parts %j",
    (text) => {
      expect(() => tensorSplit(text)).toThrow(/e\.g\. 3,1/);
    },
  );

  test("takes parts with fractions and spaces, and a GPU that gets none", () => {
    expect(tensorSplit("0.5, 0,1")).toEqual([0.5, 0, 1]);
  });
});
