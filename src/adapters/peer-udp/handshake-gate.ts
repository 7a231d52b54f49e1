/**
 * How many handshakes a node answers: each costs it curve arithmetic and a place for ten seconds, and anybody who knows its key may ask. A
 * bucket for everybody, and a smaller one for each key, so that one stranger with one key does not use up all.
 */

/** A node with 32 connections to each of some peers that all come back at once. */
const BURST = 64;
const PER_SECOND = 16;
const BURST_OF_KEY = 16;
const PER_SECOND_OF_KEY = 2;
const KEYS_MAX = 1_024;

interface Bucket {
  tokens: number;
  atMs: number;
}

export class HandshakeGate {
  readonly #all: Bucket = { tokens: BURST, atMs: 0 };
  readonly #ofKey = new Map<string, Bucket>();

  admits(keyHex: string, nowMs: number): boolean {
    const bucket = this.#ofKey.get(keyHex) ?? { tokens: BURST_OF_KEY, atMs: nowMs };
    this.#ofKey.delete(keyHex);
    this.#ofKey.set(keyHex, bucket);
    const [oldest] = this.#ofKey.keys();
    if (this.#ofKey.size > KEYS_MAX && oldest !== undefined) this.#ofKey.delete(oldest);
    return (
      take(bucket, { nowMs, burst: BURST_OF_KEY, perSecond: PER_SECOND_OF_KEY }) &&
      take(this.#all, { nowMs, burst: BURST, perSecond: PER_SECOND })
    );
  }
}

function take(
  bucket: Bucket,
  { nowMs, burst, perSecond }: { nowMs: number; burst: number; perSecond: number },
): boolean {
  bucket.tokens = Math.min(burst, bucket.tokens + ((nowMs - bucket.atMs) / 1_000) * perSecond);
  bucket.atMs = nowMs;
  if (bucket.tokens < 1) return false;
  bucket.tokens--;
  return true;
}
