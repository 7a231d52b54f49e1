/**
 * Requests and tokens per minute of a key, by the generic cell rate algorithm: one number per limit, the time at which the
 * key would be back to its full allowance (ITU-T I.371; Brandur, "Rate Limiting, Cells, and GCRA"). A full allowance may
 * be used at once and comes back evenly over a minute.
 */
import { assert } from "../../../domain/assert.ts";

const MINUTE_MS = 60_000;

/** Enforced where a key has no limit of its own: far above what one coordinator can do, but a bound. */
export const UNLIMITED_KEY = { requestsPerMinute: 1_000_000, tokensPerMinute: 1_000_000_000 } as const;

export interface RateState {
  /** When the allowance is full again; in the past: it is full. */
  readonly fullAtMs: number;
}
export const RATE_START: RateState = { fullAtMs: 0 };

export interface RateStep {
  readonly isAllowed: boolean;
  readonly state: RateState;
  /** Whole units that are left after this step. */
  readonly remaining: number;
  readonly resetMs: number;
  /** When the same cost would be allowed; 0 when it is, null when it exceeds the limit itself. */
  readonly retryAfterMs: number | null;
}

/** `cost` above 0 takes, below 0 gives back, 0 looks. Times are on one monotonic clock. */
export function stepRate(
  state: RateState,
  step: { readonly perMinute: number; readonly cost: number; readonly nowMs: number },
): RateStep {
  const { perMinute, cost, nowMs } = step;
  assert(perMinute > 0, `${perMinute} per minute is above zero`);
  const msPerUnit = MINUTE_MS / perMinute;
  const from = Math.max(state.fullAtMs, nowMs);
  const fullAtMs = Math.max(from + cost * msPerUnit, nowMs);
  const overMs = fullAtMs - (nowMs + MINUTE_MS);
  // A thousandth of a unit: what floating point may be off by after many small steps.
  const isAllowed = cost <= 0 || overMs <= msPerUnit / 1000;
  const kept = isAllowed ? fullAtMs : from;
  return {
    isAllowed,
    state: { fullAtMs: kept },
    remaining: Math.max(0, Math.floor((nowMs + MINUTE_MS - kept) / msPerUnit + 1e-3)),
    resetMs: Math.max(0, kept - nowMs),
    retryAfterMs: isAllowed ? 0 : cost > perMinute ? null : Math.ceil(overMs),
  };
}

/** As Go prints durations and OpenAI's headers carry them: `12ms`, `1.5s`, `6m0s`. */
export function goDuration(ms: number): string {
  const whole = Math.ceil(ms);
  if (whole < 1000) return `${whole}ms`;
  const seconds = whole / 1000;
  if (seconds < 60) return `${Number(seconds.toFixed(3))}s`;
  const hours = Math.floor(seconds / 3600);
  const minutes = Math.floor(seconds / 60) - hours * 60;
  const rest = Number((seconds - hours * 3600 - minutes * 60).toFixed(3));
  return `${hours > 0 ? `${hours}h` : ""}${minutes}m${rest}s`;
}
