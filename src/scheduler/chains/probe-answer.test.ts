import { describe, expect, test } from "vitest";
import type { SampledToken } from "../../domain/sampling.ts";
import { answerDifferences, areAnswersAlike } from "./probe-answer.ts";

/** A token, and the likeliest ones with their logarithms. */
function token(tokenId: number, ...top: readonly (readonly [number, number])[]): SampledToken {
  return { tokenId, logprob: null, top: top.map(([id, logprob]) => ({ tokenId: id, logprob })) };
}

const FIRST = token(1, [1, -0.5], [2, -1], [3, -2], [4, -3]);

describe("answers to a probe", () => {
  test("are alike when the likeliest tokens are, whichever of two near ones was drawn", () => {
    const swapped = token(2, [2, -0.7], [1, -0.8], [3, -2.1], [5, -3]);
    expect(areAnswersAlike([FIRST, token(7, [7, 0])], [swapped, token(9, [9, 0])])).toBe(true);
    const [difference, ...more] = answerDifferences([FIRST, token(7, [7, 0])], [swapped, token(9, [9, 0])]);
    expect(difference).toEqual({ shared: 0.75, logprobs: expect.closeTo(0.233, 3) });
    expect(more).toEqual([]);
  });

  test("are not alike when other tokens are likely, when the same are at other odds, and when one tells none", () => {
    expect(areAnswersAlike([FIRST], [token(1, [1, -0.5], [7, -1], [8, -2], [9, -3])])).toBe(false);
    expect(areAnswersAlike([FIRST], [token(1, [1, -5], [2, -6], [3, -0.1], [4, -7])])).toBe(false);
    expect(areAnswersAlike([FIRST], [token(1)])).toBe(false);
    expect(areAnswersAlike([FIRST], [])).toBe(false);
  });

  test("go by their first token where nobody tells odds", () => {
    expect(areAnswersAlike([token(1), token(2)], [token(1), token(3)])).toBe(true);
    expect(areAnswersAlike([token(1)], [token(2)])).toBe(false);
  });
});
