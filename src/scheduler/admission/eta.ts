/**
 * When a request that waits will start: the work before it and what still runs, spread over the slots, or the cold start when
 * no replica is up. Pure; how far it is off is measured where it is used (`fallow_wait_eta_error_seconds`).
 *
 * Of `s` slots whose attempts need another r ms each on the mean, the next falls free after r / s, and each of the k requests
 * before this one puts it back by its own time / s. For one slot that is exact, for exponential times it is the mean.
 */

/** Retry-After is at least a second and at most two minutes, however wrong the estimate is. */
const RETRY_AFTER_MIN_MS = 1_000;
const RETRY_AFTER_MAX_MS = 120_000;
/** A load whose like was never seen: the tiny model takes 0.2 s, one of 5 GB over 1 Gbit/s takes 40 s. */
export const COLD_START_GUESS_MS = 10_000;

export interface WaitQuestion {
  /** Slots of ready replicas of the model that could take the request. */
  readonly slots: number;
  readonly slotsFree: number;
  /** Expected times, in ms, of those of this model that are served before. */
  readonly aheadMs: readonly number[];
  /** Expected rest of each running attempt of this model, in ms. */
  readonly runningRestMs: readonly number[];
  /** How long it takes until a replica that is not there is ready. */
  readonly coldStartMs: number;
}

export function expectedWaitMs(question: WaitQuestion): number {
  const { slots, slotsFree, aheadMs, runningRestMs, coldStartMs } = question;
  const before = sum(aheadMs);
  // The slots of the replica to come are not known: those before are taken to share it as one.
  if (slots === 0) return coldStartMs + (aheadMs.length === 0 ? 0 : before / aheadMs.length);
  if (slotsFree > aheadMs.length) return 0;
  const restMs = runningRestMs.length === 0 ? 0 : sum(runningRestMs) / runningRestMs.length;
  return restMs / slots + before / slots;
}

/** When a request that is turned away may try again. */
export function retryAfterMs(waitMs: number): number {
  return Math.round(Math.min(RETRY_AFTER_MAX_MS, Math.max(RETRY_AFTER_MIN_MS, waitMs)));
}

function sum(values: readonly number[]): number {
  let total = 0;
  for (const value of values) total += value;
  return total;
}
