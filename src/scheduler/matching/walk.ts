/**
 * Walks several posting lists as one, best bound first: a heap of cursors, the cursor with the highest bound on top. Equal bounds form
 * a run; each walk begins a run at its own place (`seed`), so that requests which look at the first few of many equal entries do not
 * all look at the same few. Ties between lists stand in the order of their ranks.
 *
 * A walk is reused from decision to decision and holds nothing between them.
 */
import { assert } from "../../domain/assert.ts";
import { type Order, runEnd } from "./posting-list.ts";

class Cursor {
  order: Order | null = null;
  offsetMs = 0;
  rank = 0;
  runStart = 0;
  runEnd = 0;
  /** Entries of the run that were given out. */
  taken = 0;
  shift = 0;
  headMs = 0;
}

export class Walk {
  readonly #cursors: Cursor[] = [];
  readonly #heap: Cursor[] = [];
  #used = 0;
  #seed = 0;

  begin(seed: number): void {
    this.#used = 0;
    this.#heap.length = 0;
    this.#seed = seed;
  }

  /** `offsetMs` is added to every bound of this list: the distance to its region, as a negative number. Ranks differ. */
  add(order: Order, at: { readonly offsetMs: number; readonly rank: number }): void {
    if (order.length === 0) return;
    let cursor = this.#cursors[this.#used];
    if (cursor === undefined) {
      cursor = new Cursor();
      this.#cursors.push(cursor);
    }
    this.#used += 1;
    cursor.order = order;
    cursor.offsetMs = at.offsetMs;
    cursor.rank = at.rank;
    this.#openRun(cursor, order, 0);
    this.#heap.push(cursor);
    this.#siftUp(this.#heap.length - 1);
  }

  /** No later entry scores more than this; -Infinity at the end. */
  get headMs(): number {
    return this.#heap[0]?.headMs ?? Number.NEGATIVE_INFINITY;
  }

  get hasNext(): boolean {
    return this.#heap.length > 0;
  }

  /** Only while it `hasNext`. */
  next(): number {
    const cursor = this.#heap[0];
    const order = cursor?.order ?? null;
    assert(cursor !== undefined && order !== null, "a walk that goes on has a next entry");
    const length = cursor.runEnd - cursor.runStart;
    let place = cursor.taken + cursor.shift;
    if (place >= length) place -= length;
    const entry = order.entries[cursor.runStart + place] ?? 0;
    cursor.taken += 1;
    if (cursor.taken < length) return entry;
    if (cursor.runEnd < order.length) {
      this.#openRun(cursor, order, cursor.runEnd);
    } else {
      const last = this.#heap.pop();
      if (last !== undefined && last !== cursor) this.#heap[0] = last;
    }
    this.#siftDown();
    return entry;
  }

  #openRun(cursor: Cursor, order: Order, start: number): void {
    cursor.runStart = start;
    cursor.runEnd = runEnd(order, start);
    cursor.taken = 0;
    const length = cursor.runEnd - start;
    cursor.shift = length > 1 ? this.#seed % length : 0;
    cursor.headMs = (order.boundsMs[start] ?? 0) + cursor.offsetMs;
  }

  #siftUp(from: number): void {
    const heap = this.#heap;
    let at = from;
    const cursor = heap[at];
    while (at > 0 && cursor !== undefined) {
      const up = (at - 1) >> 1;
      const above = heap[up];
      if (above === undefined || !isBefore(cursor, above)) break;
      heap[at] = above;
      heap[up] = cursor;
      at = up;
    }
  }

  #siftDown(): void {
    const heap = this.#heap;
    const cursor = heap[0];
    if (cursor === undefined) return;
    let at = 0;
    for (;;) {
      const left = heap[2 * at + 1];
      const right = heap[2 * at + 2];
      const isRight = left !== undefined && right !== undefined && isBefore(right, left);
      const below = isRight ? right : left;
      if (below === undefined || !isBefore(below, cursor)) return;
      heap[at] = below;
      at = 2 * at + (isRight ? 2 : 1);
      heap[at] = cursor;
    }
  }
}

function isBefore(one: Cursor, other: Cursor): boolean {
  return one.headMs > other.headMs || (one.headMs === other.headMs && one.rank < other.rank);
}
