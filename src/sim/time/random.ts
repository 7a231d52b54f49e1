/**
 * The simulator's randomness: xoshiro128** (Blackman and Vigna, 2018), written here so that a run of today replays on
 * another version of Node.
 *
 * A stream is named, not shared: `fork("load")` depends on the seed and the label and on nothing that was drawn before. So
 * a draw added in one component leaves what all others see as it was, and a seed that found a bug keeps finding it.
 */
import { createHash } from "node:crypto";
import { assert } from "../../domain/assert.ts";
import type { Random } from "../../ports/random.ts";

export class SeededRandom implements Random {
  readonly #path: string;
  readonly #state: Uint32Array;

  constructor(path: string) {
    this.#path = path;
    const digest = createHash("sha256").update(path).digest();
    this.#state = new Uint32Array(4);
    for (let word = 0; word < 4; word++) this.#state[word] = digest.readUInt32LE(word * 4);
    // The all-zero state is a fixed point of the generator.
    if (this.#state.every((word) => word === 0)) this.#state[0] = 1;
  }

  fork(label: string): SeededRandom {
    return new SeededRandom(`${this.#path}/${label}`);
  }

  fraction(): number {
    const high = this.#next() >>> 5;
    const low = this.#next() >>> 6;
    return (high * 2 ** 26 + low) / 2 ** 53;
  }

  bytes(count: number): Uint8Array {
    const bytes = new Uint8Array(count);
    for (let at = 0; at < count; at += 4) {
      const word = this.#next();
      for (let offset = 0; offset < 4 && at + offset < count; offset++) bytes[at + offset] = word >>> (offset * 8);
    }
    return bytes;
  }

  /** A whole number, both ends included. */
  between(least: number, most: number): number {
    assert(
      Number.isSafeInteger(least) && Number.isSafeInteger(most) && least <= most,
      `${least} to ${most} is a range`,
    );
    return least + Math.floor(this.fraction() * (most - least + 1));
  }

  chance(probability: number): boolean {
    return this.fraction() < probability;
  }

  pick<T>(items: readonly T[]): T {
    const item = items[this.between(0, items.length - 1)];
    assert(item !== undefined, "there is something to pick from");
    return item;
  }

  /** Exponential with this mean: gaps between arrivals. */
  gap(mean: number): number {
    return -mean * Math.log(1 - this.fraction());
  }

  #next(): number {
    const s = this.#state;
    const [s0 = 0, s1 = 0, s2 = 0, s3 = 0] = s;
    const result = Math.imul(rotate(Math.imul(s1, 5), 7), 9) >>> 0;
    s[0] = s0 ^ s2 ^ s3;
    s[1] = s1 ^ s2 ^ s0;
    s[2] = s2 ^ s0 ^ (s1 << 9);
    s[3] = rotate(s3 ^ s1, 11);
    return result;
  }
}

function rotate(word: number, bits: number): number {
  return (word << bits) | (word >>> (32 - bits));
}
