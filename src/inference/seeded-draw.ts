/**
 * The randomness of `gumbel-topk-v1`: a number for each (seed, choice, position, token), computed and never stored. Two
 * nodes that know the seed draw the same numbers without talking, and a request that moved to another node goes on as it
 * would have on the first. The exact bytes are in docs/sampling.md.
 */
import { assert } from "../domain/assert.ts";
import type { SeedHex } from "../domain/sampling.ts";
import { compress, hmacStates, SCHEDULE_WORDS } from "./sha256.ts";

export const SEED_BYTES = 32;
/** ASCII `gs1` and a zero byte. */
const DOMAIN_WORD = 0x67733100;
const END_OF_MESSAGE = 0x80000000 | 0;
const MESSAGE_BYTES = 16;
const DIGEST_BYTES = 32;
const KEY_BLOCK_BYTES = 64;
const TWO_POW_21 = 2_097_152;
const TWO_POW_53 = 9_007_199_254_740_992;

/** The draws of one choice. Not shared between sequences: it keeps the blocks that it hashes. */
export class SeededDraw {
  readonly #inner: Int32Array;
  readonly #outer: Int32Array;
  readonly #message = new Int32Array(SCHEDULE_WORDS);
  readonly #digestBlock = new Int32Array(SCHEDULE_WORDS);
  readonly #digest = new Int32Array(DIGEST_BYTES / 4);

  constructor(seed: Uint8Array, choice: number) {
    assert(seed.length === SEED_BYTES, `a seed of ${seed.length} bytes has ${SEED_BYTES}`);
    assert(Number.isInteger(choice) && choice >= 0 && choice <= 0xffffffff, `choice ${choice} fits in 32 bits`);
    const states = hmacStates(seed);
    this.#inner = states.inner;
    this.#outer = states.outer;
    this.#message[0] = DOMAIN_WORD;
    this.#message[1] = choice | 0;
    this.#message[4] = END_OF_MESSAGE;
    this.#message[15] = (KEY_BLOCK_BYTES + MESSAGE_BYTES) * 8;
    this.#digestBlock[8] = END_OF_MESSAGE;
    this.#digestBlock[15] = (KEY_BLOCK_BYTES + DIGEST_BYTES) * 8;
  }

  /** Uniform integer in [0, 2^53): the first 53 bits of the HMAC, big-endian. */
  uint53(position: number, tokenId: number): number {
    const message = this.#message;
    message[2] = position | 0;
    message[3] = tokenId | 0;
    // The inner digest lands in the first eight words of the outer block, whose padding never changes.
    compress(this.#inner, message, this.#digestBlock);
    compress(this.#outer, this.#digestBlock, this.#digest);
    return ((this.#digest[0] ?? 0) >>> 0) * TWO_POW_21 + ((this.#digest[1] ?? 0) >>> 11);
  }

  /** Standard Gumbel noise. `Math.log` may differ in the last bit between engines; see docs/sampling.md. */
  gumbel(position: number, tokenId: number): number {
    return -Math.log(-Math.log((this.uint53(position, tokenId) + 0.5) / TWO_POW_53));
  }
}

export function seedBytes(seed: SeedHex): Uint8Array {
  const bytes = new Uint8Array(SEED_BYTES);
  for (let index = 0; index < SEED_BYTES; index++) {
    bytes[index] = Number.parseInt(seed.slice(2 * index, 2 * index + 2), 16);
  }
  return bytes;
}
