/**
 * Walks several posting lists as one, best bound first. Of each list only a head is known at first: its top (an upper bound,
 * posting-list.ts), and a list is opened only when its head comes first. So lists of far regions mostly stay shut, and what changed in
 * them is not even sorted in. Heads are few and stand side by side: looking through all of them is cheaper than keeping them sorted, and
 * is done only when the head that came first falls behind the second.
 *
 * Equal bounds form a run; each walk begins a run at its own place (`seed`), so that requests which look at the first few of many equal
 * entries do not all look at the same few. Ties between lists stand in the order of their ranks.
 *
 * A walk is reused from decision to decision and holds nothing between them.
 */
import { assert } from "../../domain/assert.ts";
import { grownFloats, grownInts } from "./columns.ts";
import { BOUND_STEP_MS, NO_BOUND } from "./filing.ts";
import { type Order, runEnd, type Shelf } from "./posting-list.ts";

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
  readonly #shelves: Shelf[] = [];
  /** By head. */
  #shelfOf = new Int32Array(64);
  #placeOf = new Int32Array(64);
  /** Valid where `#isOpen`. */
  readonly #orders: Order[] = [];
  #isOpen = new Int32Array(64);
  #headsMs = new Float64Array(64);
  #distancesMs = new Float64Array(64);
  #ranks = new Int32Array(64);
  #count = 0;
  #shelfCount = 0;
  /** The head that comes first; `NO_HEAD` when it has to be looked for. */
  #first = NO_HEAD;
  /** Of the head that comes next after the first. */
  #secondMs = Number.NEGATIVE_INFINITY;
  /** The run of each opened list: where it starts and ends, how many were given out, and where the walk begins in it. */
  #runStarts = new Int32Array(64);
  #runEnds = new Int32Array(64);
  #taken = new Int32Array(64);
  #seed = 0;
  #horizon = 0;
  /** From the caller to the region of the entry that `next` gave last. */
  distanceMs = 0;

  begin(seed: number, horizon: number): void {
    this.#count = 0;
    this.#shelfCount = 0;
    this.#first = NO_HEAD;
    this.#seed = seed;
    this.#horizon = horizon;
  }

  /** The lists of a shelf that are in allowed regions. Answers how many members those of other regions have. */
  addShelf(shelf: Shelf, regions: WalkRegions): number {
    const { sizes } = shelf;
    const { isAllowed, distancesMs, ranks } = regions;
    const tops = shelf.tops(this.#horizon);
    const shelfAt = this.#shelfCount++;
    this.#shelves[shelfAt] = shelf;
    this.#reserve(this.#count + sizes.length);
    let leftOut = 0;
    for (let at = 0; at < sizes.length; at++) {
      const size = sizes[at] ?? 0;
      if (size === 0) continue;
      if (isAllowed !== null && isAllowed[at] !== 1) {
        leftOut += size;
        continue;
      }
      const top = tops[at] ?? NO_BOUND;
      if (top === NO_BOUND) continue;
      const head = this.#count++;
      const distanceMs = distancesMs === null ? 0 : (distancesMs[at] ?? 0);
      this.#shelfOf[head] = shelfAt;
      this.#placeOf[head] = at;
      this.#isOpen[head] = 0;
      this.#distancesMs[head] = distanceMs;
      this.#headsMs[head] = top * BOUND_STEP_MS - distanceMs;
      this.#ranks[head] = (ranks[at] ?? 0) * RANKS_PER_REGION + regions.rank;
    }
    return leftOut;
  }

  /** No later entry scores more than this; -Infinity at the end. Opens the lists that it takes to tell. */
  headMs(): number {
    for (;;) {
      if (this.#first === NO_HEAD) this.#lookForFirst();
      const head = this.#first;
      if (head === NO_HEAD) return Number.NEGATIVE_INFINITY;
      if (this.#isOpen[head] === 1) return this.#headsMs[head] ?? Number.NEGATIVE_INFINITY;
      const list = this.#shelves[this.#shelfOf[head] ?? 0]?.lists[this.#placeOf[head] ?? 0];
      assert(list !== undefined, "a head stands for a list");
      const order = list.order(this.#horizon);
      this.#orders[head] = order;
      this.#isOpen[head] = 1;
      this.#openRun(head, order, 0);
    }
  }

  /** Only after `headMs` gave a finite bound. */
  next(): number {
    const head = this.#first;
    const order = this.#orders[head];
    assert(order !== undefined, "a walk that goes on has a next entry");
    const start = this.#runStarts[head] ?? 0;
    const end = this.#runEnds[head] ?? 0;
    const length = end - start;
    const taken = this.#taken[head] ?? 0;
    this.#taken[head] = taken + 1;
    this.distanceMs = this.#distancesMs[head] ?? 0;
    let place = taken;
    if (length > 1) place = (taken + (this.#seed % length)) % length;
    const entry = order.pairs[2 * (start + place)] ?? 0;
    if (taken + 1 === length) this.#openRun(head, order, end);
    return entry;
  }

  /** The next run of an opened list; a list that is through comes last for good. */
  #openRun(head: number, order: Order, start: number): void {
    if (start >= order.length) {
      this.#headsMs[head] = Number.NEGATIVE_INFINITY;
      this.#first = NO_HEAD;
      return;
    }
    this.#runStarts[head] = start;
    this.#runEnds[head] = runEnd(order, start);
    this.#taken[head] = 0;
    const headMs = (order.pairs[2 * start + 1] ?? 0) * BOUND_STEP_MS - (this.#distancesMs[head] ?? 0);
    this.#headsMs[head] = headMs;
    // Among ties ranks decide, so that they have to be looked at.
    if (!(headMs > this.#secondMs)) this.#first = NO_HEAD;
  }

  #lookForFirst(): void {
    let first = NO_HEAD;
    let firstMs = Number.NEGATIVE_INFINITY;
    let secondMs = Number.NEGATIVE_INFINITY;
    for (let head = 0; head < this.#count; head++) {
      const headMs = this.#headsMs[head] ?? Number.NEGATIVE_INFINITY;
      if (headMs <= secondMs) continue;
      const isBefore =
        headMs > firstMs ||
        (headMs === firstMs && first !== NO_HEAD && (this.#ranks[head] ?? 0) < (this.#ranks[first] ?? 0));
      if (isBefore) {
        secondMs = firstMs;
        first = head;
        firstMs = headMs;
      } else secondMs = headMs;
    }
    this.#first = first;
    this.#secondMs = secondMs;
  }

  #reserve(count: number): void {
    if (count <= this.#headsMs.length) return;
    const length = Math.max(count, this.#headsMs.length * 2);
    this.#headsMs = grownFloats(this.#headsMs, length);
    this.#distancesMs = grownFloats(this.#distancesMs, length);
    this.#ranks = grownInts(this.#ranks, length);
    this.#shelfOf = grownInts(this.#shelfOf, length);
    this.#placeOf = grownInts(this.#placeOf, length);
    this.#isOpen = grownInts(this.#isOpen, length);
    this.#runStarts = grownInts(this.#runStarts, length);
    this.#runEnds = grownInts(this.#runEnds, length);
    this.#taken = grownInts(this.#taken, length);
  }
}
