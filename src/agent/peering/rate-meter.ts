/** Bytes a second over about the last second, and the highest of late. */

const SPAN_MS = 1_000;
/** The highest fades by this much with each span in which something moved. */
const FADE = 0.98;

export class RateMeter {
  #spanStartMs: number | null = null;
  #bytes = 0;
  #perSecond = 0;
  #highest: number | null = null;

  add(bytes: number, nowMs: number): void {
    this.#spanStartMs ??= nowMs;
    this.#bytes += bytes;
    const passedMs = nowMs - this.#spanStartMs;
    if (passedMs < SPAN_MS / 2) return;
    this.#perSecond = (this.#bytes * 1_000) / passedMs;
    if (this.#bytes > 0) this.#highest = Math.max((this.#highest ?? 0) * FADE, this.#perSecond);
    this.#bytes = 0;
    this.#spanStartMs = nowMs;
  }

  perSecond(nowMs: number): number {
    const isStale = this.#spanStartMs === null || nowMs - this.#spanStartMs > 2 * SPAN_MS;
    return isStale ? 0 : this.#perSecond;
  }

  /** Null: nothing ever moved. */
  highestPerSecond(): number | null {
    return this.#highest === null ? null : Math.round(this.#highest);
  }
}
