/**
 * Waits between retries: exponential with full jitter. The wait is uniform between 0 and a ceiling that doubles with each
 * failure up to a cap, so that peers that failed together do not come back together (M. Brooker, "Exponential Backoff And
 * Jitter", AWS Architecture Blog, 2015).
 */
import { assert } from "../../domain/assert.ts";

export interface BackoffBounds {
  /** Ceiling of the first wait. */
  readonly baseMs: number;
  /** Ceiling of all waits. */
  readonly capMs: number;
}

/** `failures` counts from 0; `draw` is uniform in [0, 1). */
export function backoffMs(retry: { failures: number; draw: number }, bounds: BackoffBounds): number {
  return Math.floor(retry.draw * backoffCeilingMs(retry.failures, bounds));
}

/** The longest that `backoffMs` answers. */
export function backoffCeilingMs(failures: number, bounds: BackoffBounds): number {
  assert(Number.isInteger(failures) && failures >= 0, `${failures} is a count of failures`);
  // 2^53 ms is past every cap, and keeps the product finite.
  return Math.min(bounds.capMs, bounds.baseMs * 2 ** Math.min(failures, 53));
}
