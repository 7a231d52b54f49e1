/**
 * What posting lists keep of an entry, beside the entry's own facts in one row of a table: for each horizon its bound at this moment and the
 * bound under which it stands in the order. To see whether an entry has to move is one look at one cache line, and not a new
 * look at its node, its load and its risk.
 */
import { grownInts } from "./columns.ts";

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

/** In steps: of an entry that no request could get, and of a list that has none that one could. Below every bound. */
export const NO_BOUND = -(2 ** 31);
/** In steps: of a list that was never read. Above every bound. */
export const UNREAD_BOUND = 2 ** 31 - 1;

/** Rows of whole numbers that several parts of the index share. */
export class Rows {
  ints = new Int32Array(0);
  readonly width: number;

  constructor(width: number) {
    this.width = width;
  }

  reserve(count: number): void {
    if (count * this.width <= this.ints.length) return;
    this.ints = grownInts(this.ints, Math.max(count * this.width, this.ints.length * 2, 64 * this.width));
  }
}

/** Numbers of a row that a filing takes. */
export const FILING_WIDTH = 2 * HORIZONS;

/** An entry is in one list at a time. */
export class Filing {
  readonly #rows: Rows;
  readonly #width: number;
  readonly #offset: number;

  /** From `offset` on, `FILING_WIDTH` numbers of each row are the filing's own. */
  constructor(rows: Rows, offset: number) {
    this.#rows = rows;
    this.#width = rows.width;
    this.#offset = offset;
  }

  /** It stands nowhere. */
  clear(entry: number): void {
    const at = entry * this.#width + this.#offset;
    this.#rows.ints.fill(NO_BOUND, at, at + FILING_WIDTH);
  }

  /** The bound at this moment; answers what it was before. */
  note(entry: number, horizon: number, bound: number): number {
    const at = entry * this.#width + this.#offset + 2 * horizon;
    const { ints } = this.#rows;
    const before = ints[at] ?? NO_BOUND;
    ints[at] = bound;
    return before;
  }

  /** Where it stands in the order. */
  filed(entry: number, horizon: number): number {
    return this.#rows.ints[entry * this.#width + this.#offset + 2 * horizon + 1] ?? NO_BOUND;
  }

  /** From here on it stands where its bound at this moment says. */
  file(entry: number, horizon: number): number {
    const at = entry * this.#width + this.#offset + 2 * horizon;
    const { ints } = this.#rows;
    const bound = ints[at] ?? NO_BOUND;
    ints[at + 1] = bound;
    return bound;
  }
}
