/**
 * Logit bias and OpenAI's penalties. A token's logit becomes
 * `f32(((logit + bias) - frequencyPenalty * count) - presencePenalty)`, computed in double precision and rounded once;
 * the last two terms apply to tokens that this choice has generated, `count` times. Tokens without either stay untouched.
 */
import type { SamplingOptions } from "../domain/sampling.ts";

export class LogitAdjustment {
  readonly #bias: ReadonlyMap<number, number>;
  readonly #counts = new Map<number, number>();
  readonly #frequencyPenalty: number;
  readonly #presencePenalty: number;
  readonly #hasPenalty: boolean;

  constructor(options: SamplingOptions) {
    this.#bias = new Map(options.logitBias);
    this.#frequencyPenalty = options.frequencyPenalty;
    this.#presencePenalty = options.presencePenalty;
    this.#hasPenalty = options.frequencyPenalty !== 0 || options.presencePenalty !== 0;
  }

  /** Notes a generated token, this attempt's or an earlier one's. */
  count(tokenId: number): void {
    if (this.#hasPenalty) this.#counts.set(tokenId, (this.#counts.get(tokenId) ?? 0) + 1);
  }

  /** Changes the row in place. */
  apply(row: Float32Array): void {
    for (const [tokenId, bias] of this.#bias) {
      if (!this.#counts.has(tokenId) && tokenId < row.length) row[tokenId] = (row[tokenId] ?? 0) + bias;
    }
    for (const [tokenId, count] of this.#counts) {
      const biased = (row[tokenId] ?? 0) + (this.#bias.get(tokenId) ?? 0);
      row[tokenId] = biased - this.#frequencyPenalty * count - this.#presencePenalty;
    }
  }
}
