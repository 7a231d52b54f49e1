import { describe, expect, test } from "vitest";
import { modelId, sha256Hex } from "../../domain/ids.ts";
import { draftRefusal } from "./draft-model.ts";

const model = {
  modelId: modelId("large"),
  tokenizerSha256: sha256Hex("a".repeat(64)),
  vocabSize: 32_000,
  parameterCount: 8_000_000_000,
};
const small = { ...model, modelId: modelId("small"), parameterCount: 500_000_000 };

describe("draftRefusal", () => {
  test("takes a model with the same tokens and half the parameters at most", () => {
    expect(draftRefusal(model, small, "small")).toBeNull();
    expect(draftRefusal(model, { ...small, parameterCount: 4_000_000_000 }, "small")).toBeNull();
    expect(draftRefusal(model, { ...small, parameterCount: 4_000_000_001 }, "small")?.message).toMatch(
      /at most 4000000000/,
    );
  });

  test("refuses other tokens, also when there are as many", () => {
    expect(draftRefusal(model, { ...small, vocabSize: 31_999 }, "small")?.message).toMatch(/31999 tokens/);
    const others = { ...small, tokenizerSha256: sha256Hex("b".repeat(64)) };
    expect(draftRefusal(model, others, "small")?.message).toMatch(/its tokens are others/);
  });
});
