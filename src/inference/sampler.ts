/**
 * `gumbel-topk-v1` (docs/sampling.md): the next token as a pure function of logits, options, seed and position.
 *
 * Adding independent Gumbel noise to each `logit / temperature` and taking the largest draws from the softmax. The noise of
 * a token comes from a keyed hash, so that nothing is carried from one token to the next: any node, or an auditor, that has
 * the logits at a position finds the same token.
 *
 * Order: logit bias and penalties, grammar mask, the k largest, the top-p cut among them, noise, argmax; every tie goes to
 * the lower token id.
 */
import { assert } from "../domain/assert.ts";
import type { SamplingOptions, SeedHex } from "../domain/sampling.ts";
import { LogitAdjustment } from "./penalties.ts";
import { SeededDraw, seedBytes } from "./seeded-draw.ts";
import { CANDIDATES_MAX, NOT_FINITE, TopCandidates } from "./top-candidates.ts";

/** No token is left: the grammar allows none. */
export const NO_CANDIDATE = -1;
/** The logits hold NaN or +Infinity. */
export const LOGITS_BROKEN = -2;

/** A grammar's say over tokens. */
export interface TokenMask {
  /** Sets `allowed[i]` to 1 or 0 for each of the first `count` ids. */
  allow(ids: Int32Array, count: number, allowed: Uint8Array): void;
}

/** Memory that one sampling needs, shared by all sequences of one thread: nothing in it outlives a call. */
export class SamplerScratch {
  readonly top = new TopCandidates();
  readonly ids: Int32Array;
  readonly allowed: Uint8Array;
  readonly weights = new Float64Array(CANDIDATES_MAX);

  constructor(vocabSize: number) {
    const size = Math.max(vocabSize, CANDIDATES_MAX);
    this.ids = new Int32Array(size);
    this.allowed = new Uint8Array(size);
  }
}

export class TokenSampler {
  readonly #options: SamplingOptions;
  readonly #adjustment: LogitAdjustment;
  readonly #draw: SeededDraw;
  readonly #candidates: number;
  #position = 0;

  constructor(options: SamplingOptions, seed: SeedHex, choice: number) {
    assert(options.topK >= 1 && options.topK <= 64, `topK ${options.topK} is 1 to 64`);
    assert(options.topP > 0 && options.topP <= 1, `topP ${options.topP} is above 0 and at most 1`);
    assert(options.temperature >= 0, `temperature ${options.temperature} is not negative`);
    this.#options = options;
    this.#adjustment = new LogitAdjustment(options);
    this.#draw = new SeededDraw(seedBytes(seed), choice);
    this.#candidates = options.temperature === 0 ? 1 : options.topK;
  }

  /** Notes the token at the next position, drawn here or by an earlier attempt. */
  accept(tokenId: number): void {
    this.#adjustment.count(tokenId);
    this.#position++;
  }

  /**
   * The token at the next position. `row` holds the raw logits of the whole vocabulary and is changed. Answers a token id,
   * `NO_CANDIDATE` or `LOGITS_BROKEN`.
   */
  sample(row: Float32Array, mask: TokenMask | null, scratch: SamplerScratch): number {
    this.#adjustment.apply(row);
    const { top } = scratch;
    const count = mask === null ? top.select(row, this.#candidates) : this.#selectMasked(row, mask, scratch);
    if (count === NOT_FINITE) return LOGITS_BROKEN;
    if (count === 0) return NO_CANDIDATE;
    if (this.#options.temperature === 0) return top.ids[0] ?? 0;
    return this.#drawFrom(top, this.#keptByTopP(top, scratch.weights));
  }

  /** Equal to masking the whole vocabulary, which is done only when too few of the likeliest tokens are allowed. */
  #selectMasked(row: Float32Array, mask: TokenMask, scratch: SamplerScratch): number {
    const { top, ids, allowed } = scratch;
    const first = top.select(row, CANDIDATES_MAX);
    if (first === NOT_FINITE) return NOT_FINITE;
    mask.allow(top.ids, first, allowed);
    let kept = 0;
    for (let index = 0; index < first && kept < this.#candidates; index++) {
      if (allowed[index] === 0) continue;
      top.ids[kept] = top.ids[index] ?? 0;
      top.logits[kept] = top.logits[index] ?? 0;
      kept++;
    }
    top.count = kept;
    if (kept === this.#candidates || first < CANDIDATES_MAX) return kept;
    for (let id = 0; id < row.length; id++) ids[id] = id;
    mask.allow(ids, row.length, allowed);
    for (let id = 0; id < row.length; id++) if (allowed[id] === 0) row[id] = Number.NEGATIVE_INFINITY;
    return top.select(row, this.#candidates);
  }

  /** How many candidates the cut keeps: up to and with the first at which the running sum reaches `topP` of the whole. */
  #keptByTopP(top: TopCandidates, weights: Float64Array): number {
    const { topP, temperature } = this.#options;
    if (topP >= 1) return top.count;
    const best = top.logits[0] ?? 0;
    let total = 0;
    for (let index = 0; index < top.count; index++) {
      const weight = Math.exp(((top.logits[index] ?? 0) - best) / temperature);
      weights[index] = weight;
      total += weight;
    }
    let running = 0;
    for (let index = 0; index < top.count; index++) {
      running += weights[index] ?? 0;
      if (running >= topP * total) return index + 1;
    }
    return top.count;
  }

  #drawFrom(top: TopCandidates, kept: number): number {
    const { temperature } = this.#options;
    let bestScore = Number.NEGATIVE_INFINITY;
    let bestId = top.ids[0] ?? 0;
    for (let index = 0; index < kept; index++) {
      const id = top.ids[index] ?? 0;
      const score = (top.logits[index] ?? 0) / temperature + this.#draw.gumbel(this.#position, id);
      if (score > bestScore || (score === bestScore && id < bestId)) {
        bestScore = score;
        bestId = id;
      }
    }
    return bestId;
  }
}
