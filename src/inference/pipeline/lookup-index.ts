/**
 * Drafts without a model: text that repeats goes on as it did. The last tokens are looked up among all earlier ones; what followed the longest equal
 * run is the draft. Earlier places of a pair of tokens are linked from the latest to the first, as in LZ77, so a token costs one link to add and a
 * bounded number of comparisons to look up. A draft may run over the end of the text into itself: a period goes on as a period.
 *
 * A pair that is common has more places than are looked at; then the longest run among the latest of them is taken.
 */

/** Shorter runs than a pair are chance. */
export const MATCH_TOKENS_MIN = 2;
/** Longer runs are no better evidence. */
export const MATCH_TOKENS_MAX = 32;
/** Places looked at for one lookup, latest first. */
export const PLACES_MAX = 24;
/** A pair as one integer: token ids are below 2^26 in every vocabulary. */
const SECOND_FACTOR = 2 ** 26;

export interface LookupMatch {
  /** Tokens at the end that are equal, `MATCH_TOKENS_MIN` to `MATCH_TOKENS_MAX`. */
  readonly length: number;
  /** Index of the token that followed them then. */
  readonly next: number;
}

/** The tokens of one sequence, with what is needed to look up its end. Tokens are only ever added. */
export class LookupIndex {
  readonly #tokens: number[] = [];
  /** Pair -> index of its latest second token. */
  readonly #latest = new Map<number, number>();
  /** Index of a second token -> that of the place before; -1: none. */
  readonly #before: number[] = [];

  get length(): number {
    return this.#tokens.length;
  }

  append(tokenId: number): void {
    const at = this.#tokens.length;
    const previous = this.#tokens[at - 1];
    this.#tokens.push(tokenId);
    if (previous === undefined) {
      this.#before.push(-1);
      return;
    }
    const pair = previous * SECOND_FACTOR + tokenId;
    this.#before.push(this.#latest.get(pair) ?? -1);
    this.#latest.set(pair, at);
  }

  /** The longest run, the latest of those equally long; null when the last pair is nowhere before. */
  find(): LookupMatch | null {
    const last = this.#tokens.length - 1;
    let place = this.#before[last] ?? -1;
    let best: LookupMatch | null = null;
    for (let looked = 0; place >= 0 && looked < PLACES_MAX; looked++) {
      const length = this.#runAt(place);
      if (best === null || length > best.length) best = { length, next: place + 1 };
      if (length === MATCH_TOKENS_MAX) break;
      place = this.#before[place] ?? -1;
    }
    return best;
  }

  /** What follows a match, at most `count` tokens and always so many: beyond the end the draft continues itself. */
  draft(match: LookupMatch, count: number): readonly number[] {
    const drafts: number[] = [];
    for (let index = 0; index < count; index++) {
      const at = match.next + index;
      const tokenId = at < this.#tokens.length ? this.#tokens[at] : drafts[at - this.#tokens.length];
      if (tokenId === undefined) break;
      drafts.push(tokenId);
    }
    return drafts;
  }

  /** Equal tokens that end at `place` and at the end. */
  #runAt(place: number): number {
    const last = this.#tokens.length - 1;
    let length = MATCH_TOKENS_MIN;
    while (
      length < MATCH_TOKENS_MAX &&
      place - length >= 0 &&
      this.#tokens[place - length] === this.#tokens[last - length]
    ) {
      length++;
    }
    return length;
  }
}
