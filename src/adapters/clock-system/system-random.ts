/** The Random port on the operating system's generator. */
import { randomBytes } from "node:crypto";
import type { Random } from "../../ports/random.ts";

export class SystemRandom implements Random {
  bytes(count: number): Uint8Array {
    return new Uint8Array(randomBytes(count));
  }

  /** 53 random bits, as many as a double in [0, 1) holds. */
  fraction(): number {
    const bits = randomBytes(8).readBigUInt64LE() >> 11n;
    return Number(bits) / 2 ** 53;
  }
}
