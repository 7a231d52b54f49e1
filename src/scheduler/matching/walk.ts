/**
 * Walks several posting lists as one, best bound first. Of each list only a head is known at first: its top (an upper bound,
 * posting-list.ts), and a list is opened only when its head comes first. So lists of far regions mostly stay shut, and what changed in
 * them is not even sorted in. Heads are few and stand side by side: looking through all of them is cheaper than keeping them sorted.
 *
 * Equal bounds form a run; each walk begins a run at its own place (`seed`), so that requests which look at the first few of many equal
 * entries do not all look at the same few. Ties between lists stand in the order of their ranks.
 *
 * A walk is reused from decision to decision and holds nothing between them.
 */
import { assert } from "../../domain/assert.ts";
import { grownFloats, grownInts } from "./columns.ts";
import { type Order, type PostingList, runEnd, type Shelf } from "./posting-list.ts";

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
const NO_HEAD = -1;

export class Walk {
  /** By head. */
  readonly #lists: PostingList[] = [];
  /** Null until the list is opened. */
  readonly #orders: (Order | null)[] = [];
  #headsMs = new Float64Array(64);
  #offsetsMs = new Float64Array(64);
  #ranks = new Int32Array(64);
  #count = 0;
  /** The head that comes first; `NO_HEAD` when it has to be looked for. */
  #first = NO_HEAD;
  /** The run of each opened list: where it starts and ends, how many were given out, and where the walk begins in it. */
  #runStarts = new Int32Array(64);
  #runEnds = new Int32Array(64);
  #taken = new Int32Array(64);
  #seed = 0;
  #horizon = 0;

  begin(start: { readonly seed: number; readonly horizon: number }): void {
    this.#count = 0;
    this.#first = NO_HEAD;
    this.#seed = start.seed;
    this.#horizon = start.horizon;
  }

  /** The lists of a shelf that are in allowed regions. Answers how many members those of other regions have. */
  addShelf(shelf: Shelf, regions: WalkRegions): number {
    const { lists, sizes } = shelf;
    const { isAllowed, distancesMs, ranks } = regions;
    const tops = shelf.topsMs(this.#horizon);
    this.#reserve(this.#count + lists.length);
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
      const head = this.#count++;
      const offsetMs = -(distancesMs?.[at] ?? 0);
      this.#lists[head] = list;
      this.#orders[head] = null;
      this.#offsetsMs[head] = offsetMs;
      this.#headsMs[head] = topMs + offsetMs;
      this.#ranks[head] = (ranks[at] ?? 0) * RANKS_PER_REGION + regions.rank;
    }
    return leftOut;
  }

  /** No later entry scores more than this; -Infinity at the end. Opens the lists that it takes to tell. */
  headMs(): number {
    for (;;) {
      if (this.#first === NO_HEAD) this.#first = this.#lookForFirst();
      const head = this.#first;
      if (head === NO_HEAD) return Number.NEGATIVE_INFINITY;
      if (this.#orders[head] !== null) return this.#headsMs[head] ?? Number.NEGATIVE_INFINITY;
      const order = this.#lists[head]?.order(this.#horizon) ?? null;
      this.#orders[head] = order;
      this.#openRun(head, order, 0);
    }
  }

  /** Only after `headMs` gave a finite bound. */
  next(): number {
    const head = this.#first;
    const order = this.#orders[head] ?? null;
    assert(order !== null, "a walk that goes on has a next entry");
    const start = this.#runStarts[head] ?? 0;
    const end = this.#runEnds[head] ?? 0;
    const length = end - start;
    const taken = this.#taken[head] ?? 0;
    this.#taken[head] = taken + 1;
    let place = taken;
    if (length > 1) place = (taken + (this.#seed % length)) % length;
    if (taken + 1 === length) this.#openRun(head, order, end);
    return order.entries[start + place] ?? 0;
  }

  /** The next run of an opened list; a list that is through comes last for good. */
  #openRun(head: number, order: Order | null, start: number): void {
    this.#first = NO_HEAD;
    if (order === null || start >= order.length) {
      this.#headsMs[head] = Number.NEGATIVE_INFINITY;
      return;
    }
    this.#runStarts[head] = start;
    this.#runEnds[head] = runEnd(order, start);
    this.#taken[head] = 0;
    this.#headsMs[head] = (order.boundsMs[start] ?? 0) + (this.#offsetsMs[head] ?? 0);
  }

  #lookForFirst(): number {
    let first = NO_HEAD;
    let firstMs = Number.NEGATIVE_INFINITY;
    for (let head = 0; head < this.#count; head++) {
      const headMs = this.#headsMs[head] ?? Number.NEGATIVE_INFINITY;
      const isBefore =
        headMs > firstMs ||
        (headMs === firstMs && first !== NO_HEAD && (this.#ranks[head] ?? 0) < (this.#ranks[first] ?? 0));
      if (!isBefore) continue;
      first = head;
      firstMs = headMs;
    }
    return first;
  }

  #reserve(count: number): void {
    if (count <= this.#headsMs.length) return;
    const length = Math.max(count, this.#headsMs.length * 2);
    this.#headsMs = grownFloats(this.#headsMs, length);
    this.#offsetsMs = grownFloats(this.#offsetsMs, length);
    this.#ranks = grownInts(this.#ranks, length);
    this.#runStarts = grownInts(this.#runStarts, length);
    this.#runEnds = grownInts(this.#runEnds, length);
    this.#taken = grownInts(this.#taken, length);
  }
}
