/**
 * Walks several posting lists as one, best bound first: a heap of cursors, the cursor with the highest bound on top. A list is opened
 * only when its top (an upper bound, posting-list.ts) comes first: lists of far regions mostly stay shut, and what changed in them is
 * not even sorted in.
 *
 * Equal bounds form a run; each walk begins a run at its own place (`seed`), so that requests which look at the first few of many equal
 * entries do not all look at the same few. Ties between lists stand in the order of their ranks.
 *
 * A walk is reused from decision to decision and holds nothing between them.
 */
import { assert } from "../../domain/assert.ts";
import { type Order, type PostingList, runEnd, type Shelf } from "./posting-list.ts";

class Cursor {
  list: PostingList | null = null;
  /** Null until the list is opened. */
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

/** All arrays by region code + 1. */
export interface WalkRegions {
  /** 1 where the region is allowed; null: all are. */
  readonly isAllowed: Uint8Array | null;
  /** From the caller; null: equally far. Taken off every bound of a list. */
  readonly distancesMs: Float64Array | null;
  /** The order of regions among ties. */
  readonly ranks: Int32Array;
  /** The order of shelves within a region, below `RANKS_PER_REGION`. */
  readonly rank: number;
}
const RANKS_PER_REGION = 64;

export class Walk {
  readonly #cursors: Cursor[] = [];
  readonly #heap: Cursor[] = [];
  #used = 0;
  #seed = 0;
  #horizon = 0;

  begin(start: { readonly seed: number; readonly horizon: number }): void {
    this.#used = 0;
    this.#heap.length = 0;
    this.#seed = start.seed;
    this.#horizon = start.horizon;
  }

  /** The lists of a shelf that are in allowed regions. Answers how many members those of other regions have. */
  addShelf(shelf: Shelf, regions: WalkRegions): number {
    const { lists, sizes } = shelf;
    const { isAllowed, distancesMs, ranks } = regions;
    const tops = shelf.topsMs(this.#horizon);
    let leftOut = 0;
    for (let at = 0; at < lists.length; at++) {
      const size = sizes[at] ?? 0;
      const list = lists[at];
      if (size === 0 || list === undefined) continue;
      if (isAllowed !== null && isAllowed[at] !== 1) {
        leftOut += size;
        continue;
      }
      const topMs = tops[at] ?? Number.POSITIVE_INFINITY;
      if (topMs === Number.NEGATIVE_INFINITY) continue;
      const cursor = this.#fresh();
      cursor.list = list;
      cursor.order = null;
      cursor.offsetMs = -(distancesMs?.[at] ?? 0);
      cursor.rank = (ranks[at] ?? 0) * RANKS_PER_REGION + regions.rank;
      cursor.headMs = topMs + cursor.offsetMs;
      this.#heap.push(cursor);
      this.#siftUp(this.#heap.length - 1);
    }
    return leftOut;
  }

  #fresh(): Cursor {
    let cursor = this.#cursors[this.#used];
    if (cursor === undefined) {
      cursor = new Cursor();
      this.#cursors.push(cursor);
    }
    this.#used += 1;
    return cursor;
  }

  /** No later entry scores more than this; -Infinity at the end. Opens the lists that it takes to tell. */
  headMs(): number {
    for (;;) {
      const cursor = this.#heap[0];
      if (cursor === undefined) return Number.NEGATIVE_INFINITY;
      if (cursor.order !== null) return cursor.headMs;
      const order = cursor.list?.order(this.#horizon);
      if (order === undefined || order.length === 0) this.#pop();
      else {
        cursor.order = order;
        this.#openRun(cursor, order, 0);
      }
      this.#siftDown();
    }
  }

  /** Only after `headMs` gave a finite bound. */
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
    if (cursor.runEnd < order.length) this.#openRun(cursor, order, cursor.runEnd);
    else this.#pop();
    this.#siftDown();
    return entry;
  }

  #pop(): void {
    const top = this.#heap[0];
    const last = this.#heap.pop();
    if (last !== undefined && last !== top) this.#heap[0] = last;
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
