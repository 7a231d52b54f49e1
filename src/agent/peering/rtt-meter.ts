/**
 * Round trips of one way, from pings. The base is the least of the last one to two minutes: what the way takes when nothing waits in
 * queues. Recent ones show the queue; their median, since a lost packet delays one and a queue all.
 */

const SAMPLES_KEPT = 128;
const RECENT = 5;
/** The least is forgotten after one to two of these: routes change. */
const BASE_SPAN_MS = 60_000;

export class RttMeter {
  readonly #samples: number[] = [];
  #next = 0;
  #spanStartMs = 0;
  #least: number | null = null;
  #leastBefore: number | null = null;

  add(rttMs: number, nowMs: number): void {
    this.#samples[this.#next % SAMPLES_KEPT] = rttMs;
    this.#next++;
    if (nowMs - this.#spanStartMs > BASE_SPAN_MS) {
      this.#spanStartMs = nowMs;
      this.#leastBefore = this.#least;
      this.#least = null;
    }
    this.#least = Math.min(this.#least ?? rttMs, rttMs);
  }

  baseMs(): number | null {
    if (this.#least === null) return this.#leastBefore;
    return this.#leastBefore === null ? this.#least : Math.min(this.#least, this.#leastBefore);
  }

  /** Of the last five; null before there are three. */
  recentMs(): number | null {
    const count = Math.min(this.#next, RECENT, this.#samples.length);
    if (count < 3) return null;
    const recent: number[] = [];
    for (let back = 1; back <= count; back++) recent.push(this.#samples[(this.#next - back) % SAMPLES_KEPT] ?? 0);
    return quantileOf(recent, 0.5);
  }

  /** Of the last 128. */
  quantileMs(share: number): number | null {
    return this.#samples.length === 0 ? null : quantileOf([...this.#samples], share);
  }
}

/** The smallest value that at least so large a share of the values does not exceed; `values` is not empty and gets sorted. */
function quantileOf(values: number[], share: number): number {
  values.sort((a, b) => a - b);
  const at = Math.min(values.length - 1, Math.max(0, Math.ceil(share * values.length) - 1));
  return values[at] ?? 0;
}
