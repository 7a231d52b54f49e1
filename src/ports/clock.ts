/** Time comes in through this port. Durations and deadlines use `monoMs`; only what people read uses `wallMs`. */
export interface Clock {
  /** Monotonic milliseconds from an arbitrary start; may be fractional. */
  monoMs(): number;
  /** Milliseconds since the Unix epoch; may jump. */
  wallMs(): number;
  /** Calls `fire` once after at least `delayMs`. Never keeps the process alive by itself. */
  setTimer(delayMs: number, fire: () => void): Timer;
}

export interface Timer {
  /** May be called twice, and after the timer fired. */
  cancel(): void;
}

/** Resolves after `delayMs`, or at once when `signal` aborts. */
export function pause(clock: Clock, delayMs: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal?.aborted) return resolve();
    const done = () => {
      timer.cancel();
      signal?.removeEventListener("abort", done);
      resolve();
    };
    const timer = clock.setTimer(delayMs, done);
    signal?.addEventListener("abort", done, { once: true });
  });
}
