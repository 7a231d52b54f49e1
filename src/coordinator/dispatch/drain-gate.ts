/** The door of a grid that shuts down: nothing new comes in, and whoever waits for the last to leave is told. */
import type { Refusal } from "../../domain/refusal.ts";
import type { Clock } from "../../ports/clock.ts";

/** A coordinator restarts within this. */
const DRAIN_RETRY_MS = 5_000;

export class DrainGate {
  readonly #clock: Clock;
  readonly #waiters: (() => void)[] = [];
  isClosed = false;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Resolves at the next `idle`, or after `withinMs`. */
  whenIdle(withinMs: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = this.#clock.setTimer(withinMs, resolve);
      this.#waiters.push(() => {
        timer.cancel();
        resolve();
      });
    });
  }

  /** Nothing runs or waits. */
  idle(): void {
    for (const wake of this.#waiters.splice(0)) wake();
  }
}

export function draining(what: string): Refusal {
  const message = `the grid is shutting down and ${what}`;
  return { code: "draining", message, param: null, retryAfterMs: DRAIN_RETRY_MS };
}
