/**
 * A posting list: the entries (replicas of one model in one region, or nodes of one VRAM bucket in one region), sorted by an upper
 * bound of their score. Best first, so that a search may stop at the first entry that cannot win. Entries that no request could get at
 * this moment (node silent, slots full) are members and stand in no order.
 *
 * The bound holds the static score, the live load, and the risk that the node leaves within the *horizon*, a lower bound of the time
 * for which the work needs it. Risk only grows with time, so what is computed at the horizon bounds what a longer request gets. One list
 * keeps an order for each horizon that was asked for.
 *
 * A change is one line in the list's log. An order that is read first takes in the lines that it has not seen, each by two binary
 * searches, and so is always exact: nothing but the facts decides, not the order in which they arrived. Ties stand in the order of ids.
 *
 * Lists of one model (or bucket) stand side by side on a *shelf*, which keeps an upper bound of each list's first bound. A search reads
 * those, and opens only the lists that may hold the best.
 */
import { grownFloats, grownInts } from "./columns.ts";

/** Bounds are kept in steps of this, rounded up: near-equals form runs, and each search starts at its own place in a run. */
export const BOUND_STEP_MS = 5;

/** Each horizon is `HORIZON_FACTOR` times the one before. */
const HORIZON_FIRST_MS = 60_000;
const HORIZON_FACTOR = 8;
export const HORIZONS = 4;

/** The longest horizon that is no longer than this time; its number. */
export function horizonOf(remainingMs: number): number {
  let horizon = 0;
  for (let ms = HORIZON_FIRST_MS; ms <= remainingMs && horizon < HORIZONS - 1; ms *= HORIZON_FACTOR) horizon += 1;
  return horizon;
}

/** The time that the horizon stands for. */
export function horizonMs(horizon: number): number {
  return horizon === 0 ? 0 : HORIZON_FIRST_MS * HORIZON_FACTOR ** (horizon - 1);
}

export interface Ranking {
  /** Upper bound of an entry's score at a horizon, in ms; falls with the horizon; NaN for one that no request could get. */
  boundMs(entry: number, horizon: number): number;
  /** Negative when the first stands before the second at equal bounds. */
  compare(one: number, other: number): number;
}

/** The bound under which each entry stands in its list's order, by horizon; NaN for none. An entry is in one list at a time. */
export class FiledBounds {
  readonly #columns = Array.from({ length: HORIZONS }, () => new Float64Array(0));

  get(entry: number, horizon: number): number {
    return this.#columns[horizon]?.[entry] ?? Number.NaN;
  }

  set(entry: number, horizon: number, boundMs: number): void {
    let column = this.#columns[horizon] ?? new Float64Array(0);
    if (entry >= column.length) {
      const known = column.length;
      column = grownFloats(column, Math.max(entry + 1, known * 2, 64));
      column.fill(Number.NaN, known);
      this.#columns[horizon] = column;
    }
    column[entry] = boundMs;
  }
}

/** Lists side by side, one for each region code + 1; gaps where a region has none. */
export class Shelf {
  readonly lists: (PostingList | undefined)[] = [];
  /** By horizon: an upper bound of the first bound of each list, infinite for one that was never read. */
  readonly #topsMs: Float64Array[] = Array.from({ length: HORIZONS }, () => new Float64Array(0));
  /** Members of each list. */
  sizes = new Int32Array(0);

  put(at: number, list: PostingList): void {
    if (at >= this.sizes.length) {
      const length = Math.max(at + 1, this.sizes.length * 2, 8);
      this.sizes = grownInts(this.sizes, length);
      for (const [horizon, tops] of this.#topsMs.entries()) {
        this.#topsMs[horizon] = grownFloats(tops, length).fill(Number.POSITIVE_INFINITY, tops.length);
      }
    }
    this.lists[at] = list;
  }

  topsMs(horizon: number): Float64Array {
    return this.#topsMs[horizon] ?? new Float64Array(0);
  }
}

/** Bounds fall, ids rise within one bound. */
export class Order {
  entries = new Int32Array(SPARE);
  boundsMs = new Float64Array(SPARE);
  length = 0;
  /** Lines of the list's log that it has taken in. */
  seen = 0;
  /** It fell too far behind, and is made anew when it is read. */
  isStale = true;
}

/** Room for newcomers before an order's columns double. */
const SPARE = 8;
/** A log is cut when it has more lines than this, and two for each member of the list; orders that lag behind are made anew. */
const LOG_LINES_MAX = 256;

export interface PostingListParts {
  readonly ranking: Ranking;
  readonly filed: FiledBounds;
  readonly shelf: Shelf;
  /** Its place on the shelf. */
  readonly at: number;
}

export class PostingList {
  readonly #ranking: Ranking;
  readonly #filed: FiledBounds;
  readonly #shelf: Shelf;
  readonly #at: number;
  readonly #members = new Set<number>();
  readonly #orders: (Order | undefined)[] = [];
  readonly #log: number[] = [];

  constructor({ ranking, filed, shelf, at }: PostingListParts) {
    this.#ranking = ranking;
    this.#filed = filed;
    this.#shelf = shelf;
    this.#at = at;
  }

  get size(): number {
    return this.#members.size;
  }

  members(): ReadonlySet<number> {
    return this.#members;
  }

  add(entry: number): void {
    this.#members.add(entry);
    this.#shelf.sizes[this.#at] = this.#members.size;
    this.touch(entry);
  }

  /** At once: its number may stand for something else soon. */
  remove(entry: number): void {
    this.#members.delete(entry);
    this.#shelf.sizes[this.#at] = this.#members.size;
    for (let horizon = 0; horizon < this.#orders.length; horizon++) {
      const order = this.#orders[horizon];
      if (order === undefined) continue;
      if (!order.isStale) this.#takeOut(order, entry, this.#filed.get(entry, horizon));
      this.#filed.set(entry, horizon, Number.NaN);
    }
  }

  /** Its bound may be another. */
  touch(entry: number): void {
    if (this.#orders.length === 0) return;
    // A bound only falls with the horizon: what does not reach a top at the first is no news at any.
    const nearestMs = this.#boundOf(entry, 0);
    for (let horizon = 0; horizon < this.#orders.length; horizon++) {
      const tops = this.#shelf.topsMs(horizon);
      if (!(nearestMs > (tops[this.#at] ?? 0))) continue;
      const boundMs = this.#boundOf(entry, horizon);
      if (boundMs > (tops[this.#at] ?? 0)) tops[this.#at] = boundMs;
    }
    this.#log.push(entry);
    if (this.#log.length > LOG_LINES_MAX && this.#log.length > 2 * this.#members.size) this.#cutLog();
  }

  /** Valid until the next change of the list. */
  order(horizon: number): Order {
    let order = this.#orders[horizon];
    if (order === undefined) {
      order = new Order();
      this.#orders[horizon] = order;
    }
    if (order.isStale) this.#rebuild(order, horizon);
    for (; order.seen < this.#log.length; order.seen++) this.#refile(order, horizon, this.#log[order.seen] ?? 0);
    this.#shelf.topsMs(horizon)[this.#at] = order.length === 0 ? Number.NEGATIVE_INFINITY : (order.boundsMs[0] ?? 0);
    return order;
  }

  #cutLog(): void {
    for (const order of this.#orders) {
      if (order === undefined) continue;
      if (order.seen < this.#log.length) order.isStale = true;
      order.seen = 0;
    }
    this.#log.length = 0;
  }

  #rebuild(order: Order, horizon: number): void {
    const ranked: { entry: number; boundMs: number }[] = [];
    for (const entry of this.#members) {
      const boundMs = this.#boundOf(entry, horizon);
      this.#filed.set(entry, horizon, boundMs);
      if (!Number.isNaN(boundMs)) ranked.push({ entry, boundMs });
    }
    ranked.sort((a, b) => b.boundMs - a.boundMs || this.#ranking.compare(a.entry, b.entry));
    reserve(order, ranked.length);
    for (const [at, { entry, boundMs }] of ranked.entries()) {
      order.entries[at] = entry;
      order.boundsMs[at] = boundMs;
    }
    order.length = ranked.length;
    order.seen = this.#log.length;
    order.isStale = false;
  }

  /** Stands where it stood, or moves; a line about an entry that has left changes nothing. */
  #refile(order: Order, horizon: number, entry: number): void {
    if (!this.#members.has(entry)) return;
    const filedMs = this.#filed.get(entry, horizon);
    const boundMs = this.#boundOf(entry, horizon);
    if (boundMs === filedMs || (Number.isNaN(boundMs) && Number.isNaN(filedMs))) return;
    this.#filed.set(entry, horizon, boundMs);
    const from = Number.isNaN(filedMs) ? -1 : this.#placeOf(order, entry, filedMs);
    const to = Number.isNaN(boundMs) ? -1 : this.#placeOf(order, entry, boundMs);
    if (from === -1) insert(order, to, { entry, boundMs });
    else if (to === -1) cut(order, from);
    else shift(order, { from, to }, { entry, boundMs });
  }

  #takeOut(order: Order, entry: number, filedMs: number): void {
    if (!Number.isNaN(filedMs)) cut(order, this.#placeOf(order, entry, filedMs));
  }

  #boundOf(entry: number, horizon: number): number {
    return Math.ceil(this.#ranking.boundMs(entry, horizon) / BOUND_STEP_MS) * BOUND_STEP_MS;
  }

  /** The first place whose entry does not stand before this one at this bound. */
  #placeOf(order: Order, entry: number, boundMs: number): number {
    let low = 0;
    let high = order.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      const otherMs = order.boundsMs[middle] ?? 0;
      const other = order.entries[middle] ?? 0;
      const isBefore =
        otherMs > boundMs || (otherMs === boundMs && other !== entry && this.#ranking.compare(other, entry) < 0);
      if (isBefore) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

interface Filed {
  readonly entry: number;
  readonly boundMs: number;
}

function insert(order: Order, to: number, { entry, boundMs }: Filed): void {
  reserve(order, order.length + 1);
  order.entries.copyWithin(to + 1, to, order.length);
  order.boundsMs.copyWithin(to + 1, to, order.length);
  order.entries[to] = entry;
  order.boundsMs[to] = boundMs;
  order.length += 1;
}

function cut(order: Order, from: number): void {
  order.entries.copyWithin(from, from + 1, order.length);
  order.boundsMs.copyWithin(from, from + 1, order.length);
  order.length -= 1;
}

/** `to` counts places before the entry is taken out. */
function shift(order: Order, { from, to }: { from: number; to: number }, { entry, boundMs }: Filed): void {
  const at = to > from ? to - 1 : to;
  if (at > from) {
    order.entries.copyWithin(from, from + 1, at + 1);
    order.boundsMs.copyWithin(from, from + 1, at + 1);
  } else if (at < from) {
    order.entries.copyWithin(at + 1, at, from);
    order.boundsMs.copyWithin(at + 1, at, from);
  }
  order.entries[at] = entry;
  order.boundsMs[at] = boundMs;
}

function reserve(order: Order, length: number): void {
  if (length <= order.entries.length) return;
  order.entries = grownInts(order.entries, Math.max(length + SPARE, order.entries.length * 2));
  order.boundsMs = grownFloats(order.boundsMs, order.entries.length);
}

/** Where the run of equal bounds that begins at `start` ends: steps double, then halve. */
export function runEnd(order: Order, start: number): number {
  const boundMs = order.boundsMs[start] ?? 0;
  let step = 1;
  while (start + step < order.length && order.boundsMs[start + step] === boundMs) step *= 2;
  let low = start + (step >> 1);
  let high = Math.min(start + step, order.length);
  while (low + 1 < high) {
    const middle = (low + high) >> 1;
    if (order.boundsMs[middle] === boundMs) low = middle;
    else high = middle;
  }
  return Math.max(high, start + 1);
}
