/**
 * Which files of weights a node gives up when its disk is full: those of least use for their bytes (GreedyDual-Size-Frequency,
 * Cherkasova 1998). A file's priority is clock + uses * seconds to fetch it again / its bytes; the clock is the highest priority that
 * was ever given up, so that what was used much long ago ages. Equal files fall in the order of their last use: LRU.
 */
export interface CachedFile {
  readonly id: string;
  readonly bytes: number;
}

interface Ranked extends CachedFile {
  uses: number;
  priority: number;
  /** Order of last use. */
  usedAt: number;
}

/** Before the first byte: asking, connecting, and checking what is there. */
const FETCH_FIXED_SECONDS = 2;
/** A link of 100 Mbit/s; only the ratio to the fixed part matters. */
const FETCH_BYTES_PER_SECOND = 12_500_000;
/** Files ranked; a node's disk holds far fewer. */
export const FILES_MAX = 4_096;

export class EvictionOrder {
  readonly #files = new Map<string, Ranked>();
  #clock = 0;
  #uses = 0;

  /** The file is there and was used. */
  use(file: CachedFile): void {
    const known = this.#files.get(file.id);
    if (known === undefined && this.#files.size >= FILES_MAX) this.victims(1, new Set());
    const uses = (known?.uses ?? 0) + 1;
    this.#uses += 1;
    const priority = this.#clock + (uses * fetchSeconds(file.bytes)) / Math.max(1, file.bytes);
    this.#files.set(file.id, { ...file, uses, priority, usedAt: this.#uses });
  }

  /** It is there no more. */
  drop(id: string): void {
    this.#files.delete(id);
  }

  get bytes(): number {
    return [...this.#files.values()].reduce((sum, { bytes }) => sum + bytes, 0);
  }

  /**
   * What to delete, in that order, to free so many bytes; null when even everything that may go is too little. Those of `last` go when all
   * others are too little: the planner wants them where they are, for a use that is still to come.
   */
  victims(
    neededBytes: number,
    keep: ReadonlySet<string>,
    last: ReadonlySet<string> = new Set(),
  ): readonly CachedFile[] | null {
    const rank = ({ id }: Ranked) => (last.has(id) ? 1 : 0);
    const free = [...this.#files.values()].filter(({ id }) => !keep.has(id));
    free.sort((a, b) => rank(a) - rank(b) || byPriority(a, b));
    const victims: Ranked[] = [];
    let freed = 0;
    for (const file of free) {
      if (freed >= neededBytes) break;
      victims.push(file);
      freed += file.bytes;
    }
    if (freed < neededBytes) return null;
    for (const { id } of victims) this.giveUp(id);
    return victims.map(({ id, bytes }) => ({ id, bytes }));
  }

  /** Of these files the one to go first; "" when none of them is known. */
  first(among: ReadonlySet<string>): string {
    const files = [...this.#files.values()].filter(({ id }) => among.has(id)).sort(byPriority);
    return files[0]?.id ?? "";
  }

  /** It goes to make room: what stays has to be of more use from here on. */
  giveUp(id: string): void {
    const file = this.#files.get(id);
    if (file === undefined) return;
    this.#clock = Math.max(this.#clock, file.priority);
    this.#files.delete(id);
  }
}

function byPriority(a: Ranked, b: Ranked): number {
  return a.priority - b.priority || a.usedAt - b.usedAt;
}

export function fetchSeconds(bytes: number): number {
  return FETCH_FIXED_SECONDS + bytes / FETCH_BYTES_PER_SECOND;
}
