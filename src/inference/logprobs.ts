/** Log-probabilities of a row of raw logits: `logit - ln(sum of e^logit)`, in double precision. */
import type { TokenLogprob } from "../domain/sampling.ts";
import { TopCandidates } from "./top-candidates.ts";

export const TOP_LOGPROBS_MAX = 20;

/** The natural logarithm of the sum of e^logit over the row. */
export function logSumExp(row: Float32Array): number {
  let largest = Number.NEGATIVE_INFINITY;
  for (let id = 0; id < row.length; id++) largest = Math.max(largest, row[id] ?? 0);
  let sum = 0;
  for (let id = 0; id < row.length; id++) sum += Math.exp((row[id] ?? 0) - largest);
  return largest + Math.log(sum);
}

/** The `count` likeliest tokens, best first. */
export function topLogprobs(row: Float32Array, logSum: number, count: number): readonly TokenLogprob[] {
  if (count === 0) return [];
  const top = new TopCandidates();
  const found = top.select(row, Math.min(count, TOP_LOGPROBS_MAX));
  const result: TokenLogprob[] = [];
  for (let index = 0; index < found; index++) {
    result.push({ tokenId: top.ids[index] ?? 0, logprob: (top.logits[index] ?? 0) - logSum });
  }
  return result;
}
