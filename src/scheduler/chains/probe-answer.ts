/**
 * Whether two last stages drew from the same model: for one prompt, as long as both drew the same tokens, the likeliest tokens that they tell and their
 * probabilities are compared. Which of two nearly equal tokens is drawn depends on the last bit, so that tokens themselves tell little.
 */
import type { SampledToken } from "../../domain/sampling.ts";

/** Of the shorter list, at a position: engines that round otherwise swap the last ones. */
const SHARED_MIN = 0.5;
/** Mean difference of natural logarithms over the tokens that both tell. */
const LOGPROB_DIFFERENCE_MAX = 1;

export interface AnswerDifference {
  /** Of the shorter list, 0 to 1. */
  readonly shared: number;
  /** Null where nothing is shared. */
  readonly logprobs: number | null;
}

/** At each position that can be compared. */
export function answerDifferences(a: readonly SampledToken[], b: readonly SampledToken[]): readonly AnswerDifference[] {
  const parted = a.findIndex((token, at) => token.tokenId !== b[at]?.tokenId);
  const comparable = Math.min(a.length, b.length, parted === -1 ? Number.POSITIVE_INFINITY : parted + 1);
  return a.slice(0, comparable).map(({ top }, at) => {
    const others = new Map((b[at]?.top ?? []).map(({ tokenId, logprob }) => [tokenId, logprob]));
    const differences = top.flatMap(({ tokenId, logprob }) => {
      const other = others.get(tokenId);
      return other === undefined ? [] : [Math.abs(other - logprob)];
    });
    const shorter = Math.min(top.length, others.size);
    const sum = differences.reduce((all, one) => all + one, 0);
    return {
      shared: shorter === 0 ? 0 : differences.length / shorter,
      logprobs: differences.length === 0 ? null : sum / differences.length,
    };
  });
}

/** Most of what can be compared is alike. Lists that both lack are none: then the first token decides. */
export function areAnswersAlike(a: readonly SampledToken[], b: readonly SampledToken[]): boolean {
  const isToldless = [...a, ...b].every(({ top }) => top.length === 0);
  if (isToldless) return a[0]?.tokenId === b[0]?.tokenId;
  const differences = answerDifferences(a, b);
  const alike = differences.filter(({ shared, logprobs }) => {
    return shared >= SHARED_MIN && logprobs !== null && logprobs <= LOGPROB_DIFFERENCE_MAX;
  });
  return alike.length * 2 > differences.length;
}
