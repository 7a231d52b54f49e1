import { describe, expect, test } from "vitest";
import { parseModelFlag } from "./provider-model.ts";

describe("a model on the command line", () => {
  test.each([
    ["gpt-4o-mini@0.15/0.60", "gpt-4o-mini", "gpt-4o-mini", 150_000, 600_000],
    ["llama=meta-llama/llama-3-8b@0.05/0.08", "llama", "meta-llama/llama-3-8b", 50_000, 80_000],
    ["ours=claude@2024@3/15", "ours", "claude@2024", 3_000_000, 15_000_000],
    ["a=b=c@0/0", "a", "b=c", 0, 0],
  ])("%s", (text, ours, theirs, input, output) => {
    expect(parseModelFlag(text, {})).toMatchObject({
      modelId: ours,
      upstreamModel: theirs,
      cost: { inputMicroUsdPerMtok: input, outputMicroUsdPerMtok: output },
      contextTokensMax: 8_192,
    });
  });

  test.each(["gpt", "gpt@1", "gpt@1/x", "@1/1", "=x@1/1", "x=@1/1", "a b@1/1", "x@2000/1"])("%s is refused", (text) => {
    expect(() => parseModelFlag(text, {})).toThrow();
  });

  test("takes margin, context, longest answer and quantisation from the flags", () => {
    const flags = { margin: 12.5, context: 128_000, maxOutput: 4_096, quantisation: "FP8" };
    expect(parseModelFlag("m@1/2", flags)).toMatchObject({
      price: { inputMicroUsdPerMtok: 1_125_000, outputMicroUsdPerMtok: 2_250_000 },
      contextTokensMax: 128_000,
      outputTokensMax: 4_096,
      quantisation: "fp8",
    });
  });
});
