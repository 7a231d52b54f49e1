/**
 * A posting list: the entries (replicas of one model in one region, or nodes of one VRAM bucket in one region), sorted by an upper
 * bound of their score. Best first, so that a search may stop at the first entry that cannot win. Entries that no request could get at
 * this moment (node silent, slots full) are members and stand in no order.
 *
 * The bound holds the static score, the live load, and the risk that the node leaves within the *horizon*, a lower bound of the time
 * for which the work needs it. Risk only grows with time, so what is computed at the horizon bounds what a longer request gets. One list
 * keeps an order for each horizon that was asked for. Bounds are counted in steps (`BOUND_STEP_MS`), rounded up.
 *
 * A change writes the entry's bounds into its own row (filing.ts) and, when one of them is another than before, one line into the list's log. An
 * order that is read first takes in the lines that it has not seen, each by two binary searches, and so is always exact: nothing but
 * the facts decides, not the order in which they arrived. Ties stand in the order of ids.
 *
 * Lists of one model (or bucket) stand side by side on a *shelf*, which keeps an upper bound of each list's first bound. A search reads
 * those, and opens only the lists that may hold the best.
 */
import { grownInts } from "./columns.ts";
import { BOUND_STEP_MS, type Filing, HORIZONS, NO_BOUND, UNREAD_BOUND } from "./filing.ts";

export interface Ranking {
  /** Upper bound of an entry's score at a horizon, in ms; falls with the horizon; NaN for one that no request could get. */
  boundMs(entry: number, horizon: number): number;
  /** Negative when the first stands before the second at equal bounds. */
  compare(one: number, other: number): number;
  /** 0 to 1: the share of it that is taken. */
  load(entry: number): number;
}

/** Lists side by side, one for each region code + 1; gaps where a region has none. */
export class Shelf {
  readonly lists: (PostingList | undefined)[] = [];
  /** By horizon: an upper bound of the first bound of each list, in steps; `UNREAD_BOUND` for one that was never read. */
  readonly #tops: Int32Array[] = Array.from({ length: HORIZONS }, () => new Int32Array(0));
  /** Members of each list. */
  sizes = new Int32Array(0);

  put(at: number, list: PostingList): void {
    if (at >= this.sizes.length) {
      const length = Math.max(at + 1, this.sizes.length * 2, 8);
      this.sizes = grownInts(this.sizes, length);
      for (const [horizon, tops] of this.#tops.entries()) {
        this.#tops[horizon] = grownInts(tops, length).fill(UNREAD_BOUND, tops.length);
      }
    }
    this.lists[at] = list;
  }

  tops(horizon: number): Int32Array {
    return this.#tops[horizon] ?? NO_TOPS;
  }
}
const NO_TOPS = new Int32Array(0);

/** Bounds fall, ids rise within one bound. */
export class Order {
  /** Pairs: an entry and its bound, side by side because a search reads both. */
  pairs = new Int32Array(2 * SPARE);
  length = 0;
  /** Lines of the list's log that it has taken in. */
  seen = 0;
  /** It was never read. */
  isNew = true;
}

/** Room for newcomers before an order's columns double. */
const SPARE = 8;
/**
 * The log keeps as many lines as the list has members, this many at least. An order that lags behind by more looks at every member
 * instead.
 */
const LOG_LINES_MIN = 16;
const NO_LINE = -1;

export interface PostingListParts {
  readonly ranking: Ranking;
  readonly filing: Filing;
  readonly shelf: Shelf;
  /** Its place on the shelf. */
  readonly at: number;
}

export class PostingList {
  readonly #ranking: Ranking;
  readonly #filing: Filing;
  readonly #shelf: Shelf;
  readonly #at: number;
  readonly #members = new Set<number>();
  /** One for each horizon once the list was read; none before, and then nothing is written down of its entries. */
  #orders: readonly Order[] = [];
  /** A ring: its length is a power of two. */
  #log = new Int32Array(LOG_LINES_MIN);
  /** Lines that were ever written. */
  #logged = 0;

  constructor({ ranking, filing, shelf, at }: PostingListParts) {
    this.#ranking = ranking;
    this.#filing = filing;
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
    this.#filing.clear(entry);
    if (this.#members.size > this.#log.length) this.#growLog();
    this.touch(entry);
  }

  /** At once: its number may stand for something else soon. */
  remove(entry: number): void {
    this.#members.delete(entry);
    this.#shelf.sizes[this.#at] = this.#members.size;
    for (const [horizon, order] of this.#orders.entries()) {
      const filed = this.#filing.filed(entry, horizon);
      if (filed !== NO_BOUND) cut(order, this.#placeOf(order, entry, filed));
    }
    this.#filing.clear(entry);
    // Whoever bears its number next must not be taken for it.
    for (let at = 0; at < this.#log.length; at++) if (this.#log[at] === entry) this.#log[at] = NO_LINE;
  }

  /** Its bound may be another. */
  touch(entry: number): void {
    if (this.#orders.length === 0) return;
    if (!this.#note(entry)) return;
    this.#log[this.#logged & (this.#log.length - 1)] = entry;
    this.#logged += 1;
  }

  /** Valid until the next change of the list. */
  order(horizon: number): Order {
    if (this.#orders.length === 0) this.#begin();
    const order = this.#orders[horizon];
    if (order === undefined) return EMPTY;
    if (order.seen !== this.#logged || order.isNew) {
      if (order.isNew) this.#build(order, horizon);
      else this.#takeIn(order, horizon);
      order.seen = this.#logged;
      this.#shelf.tops(horizon)[this.#at] = order.length === 0 ? NO_BOUND : (order.pairs[1] ?? NO_BOUND);
    }
    return order;
  }

  #begin(): void {
    this.#orders = Array.from({ length: HORIZONS }, () => new Order());
    for (const entry of this.#members) this.#note(entry);
  }

  /** Writes down its bounds at this moment; true when one is another than what was written before. */
  #note(entry: number): boolean {
    let isNews = false;
    for (let horizon = 0; horizon < HORIZONS; horizon++) {
      const boundMs = this.#ranking.boundMs(entry, horizon);
      // Raised where it would not fit the row: an upper bound that is too high is still one.
      const bound = Number.isNaN(boundMs) ? NO_BOUND : Math.max(Math.ceil(boundMs / BOUND_STEP_MS), NO_BOUND + 1);
      const before = this.#filing.note(entry, horizon, bound);
      if (bound === before) continue;
      isNews = true;
      // No top is below a bound that was written down, so that one which falls is no news to it.
      if (bound < before) continue;
      const tops = this.#shelf.tops(horizon);
      if (bound > (tops[this.#at] ?? NO_BOUND)) tops[this.#at] = bound;
    }
    return isNews;
  }

  #takeIn(order: Order, horizon: number): void {
    const log = this.#log;
    if (this.#logged - order.seen > log.length) {
      for (const entry of this.#members) this.#refile(order, horizon, entry);
      return;
    }
    for (let line = order.seen; line < this.#logged; line++) {
      const entry = log[line & (log.length - 1)] ?? NO_LINE;
      if (entry !== NO_LINE) this.#refile(order, horizon, entry);
    }
  }

  #build(order: Order, horizon: number): void {
    const filing = this.#filing;
    const ranked: number[] = [];
    for (const entry of this.#members) if (filing.file(entry, horizon) !== NO_BOUND) ranked.push(entry);
    ranked.sort((a, b) => filing.filed(b, horizon) - filing.filed(a, horizon) || this.#ranking.compare(a, b));
    reserve(order, ranked.length);
    for (const [at, entry] of ranked.entries()) {
      order.pairs[2 * at] = entry;
      order.pairs[2 * at + 1] = filing.filed(entry, horizon);
    }
    order.length = ranked.length;
    order.isNew = false;
  }

  /** Stands where it stood, or moves. */
  #refile(order: Order, horizon: number, entry: number): void {
    const filed = this.#filing.filed(entry, horizon);
    const bound = this.#filing.file(entry, horizon);
    if (bound === filed) return;
    const from = filed === NO_BOUND ? -1 : this.#placeOf(order, entry, filed);
    const to = bound === NO_BOUND ? -1 : this.#placeOf(order, entry, bound);
    if (from === -1) insert(order, to, entry, bound);
    else if (to === -1) cut(order, from);
    else shift(order, from, to > from ? to - 1 : to, entry, bound);
  }

  /** The first place whose entry does not stand before this one at this bound. */
  #placeOf(order: Order, entry: number, bound: number): number {
    const { pairs } = order;
    let low = 0;
    let high = order.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      const otherBound = pairs[2 * middle + 1] ?? 0;
      let isBefore = otherBound > bound;
      if (otherBound === bound) {
        const other = pairs[2 * middle] ?? 0;
        isBefore = other !== entry && this.#ranking.compare(other, entry) < 0;
      }
      if (isBefore) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  #growLog(): void {
    const before = this.#log;
    const log = new Int32Array(before.length * 2).fill(NO_LINE);
    for (let line = Math.max(0, this.#logged - before.length); line < this.#logged; line++) {
      log[line & (log.length - 1)] = before[line & (before.length - 1)] ?? NO_LINE;
    }
    this.#log = log;
    // Lines that the smaller ring has lost are not in the larger one: whoever missed them looks at every member.
    for (const order of this.#orders) {
      if (this.#logged - order.seen > before.length) order.seen = this.#logged - log.length - 1;
    }
  }
}

const EMPTY = new Order();

function insert(order: Order, to: number, entry: number, bound: number): void {
  reserve(order, order.length + 1);
  order.pairs.copyWithin(2 * to + 2, 2 * to, 2 * order.length);
  order.pairs[2 * to] = entry;
  order.pairs[2 * to + 1] = bound;
  order.length += 1;
}

function cut(order: Order, from: number): void {
  order.pairs.copyWithin(2 * from, 2 * from + 2, 2 * order.length);
  order.length -= 1;
}

/** `to` counts places after the entry is taken out. */
function shift(order: Order, from: number, to: number, entry: number, bound: number): void {
  const { pairs } = order;
  if (to > from) pairs.copyWithin(2 * from, 2 * from + 2, 2 * to + 2);
  else if (to < from) pairs.copyWithin(2 * to + 2, 2 * to, 2 * from);
  pairs[2 * to] = entry;
  pairs[2 * to + 1] = bound;
}

function reserve(order: Order, length: number): void {
  if (2 * length <= order.pairs.length) return;
  order.pairs = grownInts(order.pairs, Math.max(2 * (length + SPARE), order.pairs.length * 2));
}

/** Where the run of equal bounds that begins at `start` ends: steps double, then halve. */
export function runEnd(order: Order, start: number): number {
  const { pairs, length } = order;
  const bound = pairs[2 * start + 1] ?? 0;
  let step = 1;
  while (start + step < length && pairs[2 * (start + step) + 1] === bound) step *= 2;
  let low = start + (step >> 1);
  let high = Math.min(start + step, length);
  while (low + 1 < high) {
    const middle = (low + high) >> 1;
    if (pairs[2 * middle + 1] === bound) low = middle;
    else high = middle;
  }
  return Math.max(high, start + 1);
}
