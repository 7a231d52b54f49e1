/**
 * Keeps failures from becoming a storm: a token bucket over all attempts that failed on a node that still lives. Moves off a
 * dead or leaving node are not counted, since all its streams must move at once. When the bucket is empty a retry is put off
 * until it has refilled, never dropped.
 */
export const RETRY_BURST = 100;
export const RETRIES_PER_SECOND = 20;

export class RetryBudget {
  #left: number;
  #atMs: number;

  constructor(nowMs: number) {
    this.#left = RETRY_BURST;
    this.#atMs = nowMs;
  }

  /** Takes one retry and returns the time from which it may run: `nowMs` while there are some left. */
  take(nowMs: number): number {
    this.#left = Math.min(RETRY_BURST, this.#left + ((nowMs - this.#atMs) * RETRIES_PER_SECOND) / 1_000);
    this.#atMs = nowMs;
    this.#left -= 1;
    return this.#left >= 0 ? nowMs : nowMs + (-this.#left * 1_000) / RETRIES_PER_SECOND;
  }
}
