/** Requests that one address may make of a bootstrap node: what it forwards for a stranger is at most this. */

/** A building of some hundred machines behind one address that all start at once. */
const BURST = 2_000;
const PER_SECOND = 200;
const SOURCES_MAX = 10_000;

export class SourceGate {
  readonly #sources = new Map<string, { tokens: number; atMs: number }>();

  admits(host: string, nowMs: number): boolean {
    const source = this.#sources.get(host) ?? { tokens: BURST, atMs: nowMs };
    this.#sources.delete(host);
    this.#sources.set(host, source);
    const [oldest] = this.#sources.keys();
    if (this.#sources.size > SOURCES_MAX && oldest !== undefined) this.#sources.delete(oldest);
    source.tokens = Math.min(BURST, source.tokens + ((nowMs - source.atMs) / 1_000) * PER_SECOND);
    source.atMs = nowMs;
    if (source.tokens < 1) return false;
    source.tokens--;
    return true;
  }
}
