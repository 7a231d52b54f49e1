/**
 * SHA-256 (FIPS 180-4), one block at a time, and HMAC (RFC 2104) with the two key blocks hashed once. The sampler hashes two
 * short messages per candidate and token, thousands of times a second: starting from the stored states of a key costs two
 * compressions instead of four, and no object is made. Whole-message hashing belongs to the `Crypto` port.
 */
import { assert } from "../domain/assert.ts";

const ROUND_CONSTANTS = Int32Array.of(
  0x428a2f98,
  0x71374491,
  0xb5c0fbcf,
  0xe9b5dba5,
  0x3956c25b,
  0x59f111f1,
  0x923f82a4,
  0xab1c5ed5,
  0xd807aa98,
  0x12835b01,
  0x243185be,
  0x550c7dc3,
  0x72be5d74,
  0x80deb1fe,
  0x9bdc06a7,
  0xc19bf174,
  0xe49b69c1,
  0xefbe4786,
  0x0fc19dc6,
  0x240ca1cc,
  0x2de92c6f,
  0x4a7484aa,
  0x5cb0a9dc,
  0x76f988da,
  0x983e5152,
  0xa831c66d,
  0xb00327c8,
  0xbf597fc7,
  0xc6e00bf3,
  0xd5a79147,
  0x06ca6351,
  0x14292967,
  0x27b70a85,
  0x2e1b2138,
  0x4d2c6dfc,
  0x53380d13,
  0x650a7354,
  0x766a0abb,
  0x81c2c92e,
  0x92722c85,
  0xa2bfe8a1,
  0xa81a664b,
  0xc24b8b70,
  0xc76c51a3,
  0xd192e819,
  0xd6990624,
  0xf40e3585,
  0x106aa070,
  0x19a4c116,
  0x1e376c08,
  0x2748774c,
  0x34b0bcb5,
  0x391c0cb3,
  0x4ed8aa4a,
  0x5b9cca4f,
  0x682e6ff3,
  0x748f82ee,
  0x78a5636f,
  0x84c87814,
  0x8cc70208,
  0x90befffa,
  0xa4506ceb,
  0xbef9a3f7,
  0xc67178f2,
);

const INITIAL_STATE: readonly number[] = [
  0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19,
];

export const BLOCK_WORDS = 16;
export const SCHEDULE_WORDS = 64;
const BLOCK_BYTES = 64;

/**
 * One compression: `to` becomes the state after `from` took the block. The block is the first 16 words of `schedule`
 * (big-endian words), whose other 48 words are overwritten. `from` and `to` may be the same array.
 */
export function compress(from: Int32Array, schedule: Int32Array, to: Int32Array): void {
  for (let t = BLOCK_WORDS; t < SCHEDULE_WORDS; t++) {
    const w15 = schedule[t - 15] ?? 0;
    const w2 = schedule[t - 2] ?? 0;
    const s0 = ((w15 >>> 7) | (w15 << 25)) ^ ((w15 >>> 18) | (w15 << 14)) ^ (w15 >>> 3);
    const s1 = ((w2 >>> 17) | (w2 << 15)) ^ ((w2 >>> 19) | (w2 << 13)) ^ (w2 >>> 10);
    schedule[t] = ((schedule[t - 16] ?? 0) + s0 + (schedule[t - 7] ?? 0) + s1) | 0;
  }
  let a = from[0] ?? 0;
  let b = from[1] ?? 0;
  let c = from[2] ?? 0;
  let d = from[3] ?? 0;
  let e = from[4] ?? 0;
  let f = from[5] ?? 0;
  let g = from[6] ?? 0;
  let h = from[7] ?? 0;
  for (let t = 0; t < SCHEDULE_WORDS; t++) {
    const s1 = ((e >>> 6) | (e << 26)) ^ ((e >>> 11) | (e << 21)) ^ ((e >>> 25) | (e << 7));
    const first = (h + s1 + (g ^ (e & (f ^ g))) + (ROUND_CONSTANTS[t] ?? 0) + (schedule[t] ?? 0)) | 0;
    const s0 = ((a >>> 2) | (a << 30)) ^ ((a >>> 13) | (a << 19)) ^ ((a >>> 22) | (a << 10));
    const second = (s0 + ((a & b) | (c & (a | b)))) | 0;
    h = g;
    g = f;
    f = e;
    e = (d + first) | 0;
    d = c;
    c = b;
    b = a;
    a = (first + second) | 0;
  }
  to[0] = ((from[0] ?? 0) + a) | 0;
  to[1] = ((from[1] ?? 0) + b) | 0;
  to[2] = ((from[2] ?? 0) + c) | 0;
  to[3] = ((from[3] ?? 0) + d) | 0;
  to[4] = ((from[4] ?? 0) + e) | 0;
  to[5] = ((from[5] ?? 0) + f) | 0;
  to[6] = ((from[6] ?? 0) + g) | 0;
  to[7] = ((from[7] ?? 0) + h) | 0;
}

/** The states after the inner and the outer key block: all of a key that HMAC needs. */
export interface HmacStates {
  readonly inner: Int32Array;
  readonly outer: Int32Array;
}

/** `key` is at most 64 bytes: a longer one would have to be hashed first, and no caller has one. */
export function hmacStates(key: Uint8Array): HmacStates {
  assert(key.length <= BLOCK_BYTES, `an HMAC key of ${key.length} bytes is at most ${BLOCK_BYTES}`);
  return { inner: keyedState(key, 0x36), outer: keyedState(key, 0x5c) };
}

function keyedState(key: Uint8Array, padByte: number): Int32Array {
  const schedule = new Int32Array(SCHEDULE_WORDS);
  for (let index = 0; index < BLOCK_BYTES; index++) {
    const byte = (key[index] ?? 0) ^ padByte;
    schedule[index >> 2] = (schedule[index >> 2] ?? 0) | (byte << (24 - 8 * (index & 3)));
  }
  const state = Int32Array.from(INITIAL_STATE);
  compress(state, schedule, state);
  return state;
}
