/**
 * Keeps failures from becoming a storm: retries of attempts that failed on a node that still lives may add a tenth to the load,
 * no more. Each attempt that starts pays a tenth of a retry in, so that a busy grid may retry more than a quiet one; a small
 * floor lets a quiet one retry at all (as Finagle's retry budgets do). Moves off dead or leaving nodes, and off engines that
 * died, are not counted, since all their streams must move at once and the load that they were is gone. When the budget is
 * empty a retry is put off until it has refilled, never dropped.
 */
export const RETRY_BURST = 20;
/** Attempts that pay for one retry: extra load of a tenth. */
export const STARTS_PER_RETRY = 10;
export const RETRIES_PER_SECOND_MIN = 2;

const MAX = RETRY_BURST * STARTS_PER_RETRY;
const PER_MS = (RETRIES_PER_SECOND_MIN * STARTS_PER_RETRY) / 1_000;

export class RetryBudget {
  /** In starts. */
  #left = MAX;
  #atMs: number;

  constructor(nowMs: number) {
    this.#atMs = nowMs;
  }

  /** An attempt of a request started that is no retry. */
  started(): void {
    this.#left = Math.min(MAX, this.#left + 1);
  }

  /** Takes one retry and returns the time from which it may run: `nowMs` while there are some left. */
  take(nowMs: number): number {
    this.#left = Math.min(MAX, this.#left + (nowMs - this.#atMs) * PER_MS);
    this.#atMs = nowMs;
    this.#left -= STARTS_PER_RETRY;
    return this.#left >= 0 ? nowMs : nowMs - this.#left / PER_MS;
  }
}
