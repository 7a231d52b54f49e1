/**
 * The k largest logits in one pass: a heap whose top is the weakest candidate kept, so that nearly every token of a
 * vocabulary is turned away by one comparison. Order: logit downwards, ties by the lower token id.
 */
import { assert } from "../domain/assert.ts";

/** The most candidates that any caller asks for: 256 for the grammar's first look, 64 for the sampler, 20 for logprobs. */
export const CANDIDATES_MAX = 256;

/** What `select` answers when the row holds NaN or +Infinity: the model or its state is broken. */
export const NOT_FINITE = -1;

export class TopCandidates {
  /** After `select`: token ids, best first. Only the first `count` are set. */
  readonly ids = new Int32Array(CANDIDATES_MAX);
  readonly logits = new Float32Array(CANDIDATES_MAX);
  count = 0;

  /** Finds the `k` best; a logit of -Infinity is never a candidate. Answers the count, or `NOT_FINITE`. */
  select(row: Float32Array, k: number): number {
    assert(k >= 1 && k <= CANDIDATES_MAX, `1 to ${CANDIDATES_MAX} candidates, not ${k}`);
    const size = row.length;
    this.count = 0;
    let floor = Number.NEGATIVE_INFINITY;
    let id = 0;
    while (id < size) {
      // Eight at a time: nearly all of a row is turned away here. Written so that NaN, for which no comparison holds, gets in.
      while (id + 8 <= size && isBlockBelow(row, id, floor)) id += 8;
      const end = Math.min(id + 8, size);
      for (; id < end; id++) {
        const logit = row[id] ?? 0;
        if (logit <= floor) continue;
        if (!(logit < Number.POSITIVE_INFINITY)) return NOT_FINITE;
        if (this.count < k) this.#push(logit, id);
        else this.#siftDown(logit, id, k);
        if (this.count === k) floor = this.logits[0] ?? floor;
      }
    }
    this.#sort();
    return this.count;
  }

  #push(logit: number, id: number): void {
    const { ids, logits } = this;
    let at = this.count++;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      const parentLogit = logits[parent] ?? 0;
      // Ids arrive upwards, so that of equal logits the new one is the weaker and rises above its parent.
      if (parentLogit < logit) break;
      logits[at] = parentLogit;
      ids[at] = ids[parent] ?? 0;
      at = parent;
    }
    logits[at] = logit;
    ids[at] = id;
  }

  /** Puts an entry in the place of the weakest among the first `size`. */
  #siftDown(logit: number, id: number, size: number): void {
    const { ids, logits } = this;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= size) break;
      if (child + 1 < size && this.#isWeaker(child + 1, logits[child] ?? 0, ids[child] ?? 0)) child++;
      if (!this.#isWeaker(child, logit, id)) break;
      logits[at] = logits[child] ?? 0;
      ids[at] = ids[child] ?? 0;
      at = child;
    }
    logits[at] = logit;
    ids[at] = id;
  }

  #isWeaker(at: number, logit: number, id: number): boolean {
    const own = this.logits[at] ?? 0;
    return own < logit || (own === logit && (this.ids[at] ?? 0) > id);
  }

  /** Heap sort: takes the weakest to the end, again and again, which leaves the best first. */
  #sort(): void {
    const { ids, logits } = this;
    for (let end = this.count - 1; end > 0; end--) {
      const logit = logits[end] ?? 0;
      const id = ids[end] ?? 0;
      logits[end] = logits[0] ?? 0;
      ids[end] = ids[0] ?? 0;
      this.#siftDown(logit, id, end);
    }
  }
}

function isBlockBelow(row: Float32Array, id: number, floor: number): boolean {
  return (
    (row[id] ?? 0) <= floor &&
    (row[id + 1] ?? 0) <= floor &&
    (row[id + 2] ?? 0) <= floor &&
    (row[id + 3] ?? 0) <= floor &&
    (row[id + 4] ?? 0) <= floor &&
    (row[id + 5] ?? 0) <= floor &&
    (row[id + 6] ?? 0) <= floor &&
    (row[id + 7] ?? 0) <= floor
  );
}
