/** The Random port on the operating system's generator. */
import { randomBytes, randomFillSync } from "node:crypto";
import type { Random } from "../../ports/random.ts";

/** A fraction takes 8 bytes; asking the system for each alone costs 13 µs, and an id takes 16 fractions. */
const FRACTION_BYTES = 8;
const POOL_BYTES = 512 * FRACTION_BYTES;

export class SystemRandom implements Random {
  readonly #pool = Buffer.alloc(POOL_BYTES);
  #used = POOL_BYTES;

  bytes(count: number): Uint8Array {
    return new Uint8Array(randomBytes(count));
  }

  /** 53 random bits, as many as a double in [0, 1) holds. */
  fraction(): number {
    if (this.#used === POOL_BYTES) {
      randomFillSync(this.#pool);
      this.#used = 0;
    }
    const high = this.#pool.readUInt32LE(this.#used) >>> 11;
    const low = this.#pool.readUInt32LE(this.#used + 4);
    this.#used += FRACTION_BYTES;
    return (high * 2 ** 32 + low) / 2 ** 53;
  }
}
