/** A set of chunk indices as a bitmap; runs are its compact form on the wire: `[[from, count], …]`, ascending, never touching. */
import { assert } from "./assert.ts";

export type ChunkRun = readonly [from: number, count: number];

export class ChunkSet {
  readonly chunkCount: number;
  readonly #bits: Uint8Array;
  #size = 0;

  constructor(chunkCount: number) {
    assert(Number.isSafeInteger(chunkCount) && chunkCount >= 0, `${chunkCount} is a count of chunks`);
    this.chunkCount = chunkCount;
    this.#bits = new Uint8Array(Math.ceil(chunkCount / 8));
  }

  static full(chunkCount: number): ChunkSet {
    const set = new ChunkSet(chunkCount);
    if (chunkCount > 0) set.addRun([0, chunkCount]);
    return set;
  }

  /** Runs beyond the count are a bug: borders check them first (`areRunsValid`). */
  static of(chunkCount: number, runs: readonly ChunkRun[]): ChunkSet {
    const set = new ChunkSet(chunkCount);
    for (const run of runs) set.addRun(run);
    return set;
  }

  get size(): number {
    return this.#size;
  }

  get isFull(): boolean {
    return this.#size === this.chunkCount;
  }

  has(chunk: number): boolean {
    return ((this.#bits[chunk >> 3] ?? 0) & (1 << (chunk & 7))) !== 0;
  }

  /** True when it was not there. */
  add(chunk: number): boolean {
    assert(chunk >= 0 && chunk < this.chunkCount, `chunk ${chunk} is one of ${this.chunkCount}`);
    if (this.has(chunk)) return false;
    this.#bits[chunk >> 3] = (this.#bits[chunk >> 3] ?? 0) | (1 << (chunk & 7));
    this.#size++;
    return true;
  }

  addRun([from, count]: ChunkRun): void {
    const end = from + count;
    assert(from >= 0 && end <= this.chunkCount, `chunks ${from} to ${end - 1} are among ${this.chunkCount}`);
    for (let chunk = from; chunk < end; ) {
      if ((chunk & 7) !== 0 || end - chunk < 8) {
        this.add(chunk++);
        continue;
      }
      // Whole bytes at once: a holder of all of a large model is told as one run.
      this.#size += 8 - bitsIn(this.#bits[chunk >> 3] ?? 0);
      this.#bits[chunk >> 3] = 0xff;
      chunk += 8;
    }
  }

  /** True when it was there. */
  delete(chunk: number): boolean {
    if (!this.has(chunk)) return false;
    this.#bits[chunk >> 3] = (this.#bits[chunk >> 3] ?? 0) & ~(1 << (chunk & 7));
    this.#size--;
    return true;
  }

  /** Ascending. */
  *[Symbol.iterator](): Iterator<number> {
    for (let chunk = 0; chunk < this.chunkCount; chunk++) {
      if ((this.#bits[chunk >> 3] ?? 0) === 0) chunk |= 7;
      else if (this.has(chunk)) yield chunk;
    }
  }

  runs(): readonly ChunkRun[] {
    const runs: [number, number][] = [];
    for (const chunk of this) {
      const last = runs.at(-1);
      if (last !== undefined && last[0] + last[1] === chunk) last[1]++;
      else runs.push([chunk, 1]);
    }
    return runs;
  }

  clone(): ChunkSet {
    const copy = new ChunkSet(this.chunkCount);
    copy.#bits.set(this.#bits);
    copy.#size = this.#size;
    return copy;
  }

  /** Those of this set that the other lacks; both are of one model. */
  minus(other: ChunkSet): ChunkSet {
    const rest = new ChunkSet(this.chunkCount);
    for (let at = 0; at < this.#bits.length; at++) {
      const left = (this.#bits[at] ?? 0) & ~(other.#bits[at] ?? 0);
      rest.#bits[at] = left;
      rest.#size += bitsIn(left);
    }
    return rest;
  }

  includes(other: ChunkSet): boolean {
    return other.#bits.every((bits, at) => (bits & ~(this.#bits[at] ?? 0)) === 0);
  }

  /** True when some chunk is in both. */
  intersects(other: ChunkSet): boolean {
    return this.#bits.some((bits, at) => (bits & (other.#bits[at] ?? 0)) !== 0);
  }

  /** Takes in all of the other; both are of one model. A byte at a time: unions of many sets are made often. */
  addAll(other: ChunkSet): void {
    assert(other.chunkCount === this.chunkCount, "both sets are of one model");
    let size = 0;
    for (let at = 0; at < this.#bits.length; at++) {
      const bits = (this.#bits[at] ?? 0) | (other.#bits[at] ?? 0);
      this.#bits[at] = bits;
      size += bitsIn(bits);
    }
    this.#size = size;
  }

  /** How many chunks are in both; both are of one model. */
  countCommon(other: ChunkSet): number {
    assert(other.chunkCount === this.chunkCount, "both sets are of one model");
    let common = 0;
    for (let at = 0; at < this.#bits.length; at++) common += bitsIn((this.#bits[at] ?? 0) & (other.#bits[at] ?? 0));
    return common;
  }
}

/** Ones in a byte. */
function bitsIn(byte: number): number {
  const pairs = byte - ((byte >> 1) & 0x55);
  const nibbles = (pairs & 0x33) + ((pairs >> 2) & 0x33);
  return (nibbles + (nibbles >> 4)) & 0x0f;
}

/** Ascending, positive, apart from each other and within the model. */
export function areRunsValid(runs: readonly ChunkRun[], chunkCount: number): boolean {
  let end = -1;
  for (const [from, count] of runs) {
    if (from <= end || count < 1 || from + count > chunkCount) return false;
    end = from + count;
  }
  return true;
}
