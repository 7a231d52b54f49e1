/** Rates and budgets of relayed bytes: plain arithmetic over a given time. */

/** A rate with a burst of one second. What was taken beyond it has to be waited for. */
export class ByteRate {
  readonly #bytesPerSecond: number;
  #tokens: number;
  #atMs: number;

  constructor(bytesPerSecond: number, nowMs: number) {
    this.#bytesPerSecond = bytesPerSecond;
    this.#tokens = bytesPerSecond;
    this.#atMs = nowMs;
  }

  /** Takes the bytes and answers how long nothing more may come; 0 when it may at once. */
  take(bytes: number, nowMs: number): number {
    const gained = ((nowMs - this.#atMs) / 1_000) * this.#bytesPerSecond;
    this.#tokens = Math.min(this.#bytesPerSecond, this.#tokens + gained) - bytes;
    this.#atMs = nowMs;
    return this.#tokens >= 0 ? 0 : Math.ceil((-this.#tokens / this.#bytesPerSecond) * 1_000);
  }
}

const HOUR_MS = 3_600_000;
const HOURS = 24;

/** Bytes of the last 24 hours, by hours. */
export class DayBytes {
  #hours: Array<{ readonly hour: number; bytes: number }> = [];

  add(bytes: number, nowMs: number): void {
    const hour = Math.floor(nowMs / HOUR_MS);
    const last = this.#hours.at(-1);
    if (last?.hour === hour) last.bytes += bytes;
    else this.#hours.push({ hour, bytes });
  }

  sum(nowMs: number): number {
    const hour = Math.floor(nowMs / HOUR_MS);
    this.#hours = this.#hours.filter((at) => at.hour > hour - HOURS);
    return this.#hours.reduce((sum, { bytes }) => sum + bytes, 0);
  }
}
