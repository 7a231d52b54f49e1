/**
 * What may go to a provider now: the operator's limits (requests and tokens a minute, how many at once), and what the provider itself says in
 * its headers. The narrowest counts. Tokens are taken before a request at the most that it may use, and what it did not use is given back.
 */
import type { UpstreamLimits } from "../../ports/cloud-upstream.ts";
import { RATE_START, type RateState, stepRate } from "../gateway/callers/rate-limit.ts";

export interface RateLimits {
  readonly requestsPerMinuteMax: number | null;
  readonly tokensPerMinuteMax: number | null;
  readonly concurrencyMax: number;
}

/** A provider that says "no more until tomorrow" is asked again after a minute all the same: its plan may have been raised. */
const HEARD_MS_MAX = 60_000;
/** When all places are taken nobody knows when the next is free. */
const BUSY_RETRY_MS = 1_000;

interface Heard {
  left: number;
  resetAtMs: number;
}

/** All times are on one monotonic clock. */
export class ProviderRates {
  limits: RateLimits;
  #running = 0;
  #requests: RateState = RATE_START;
  #tokens: RateState = RATE_START;
  #heardRequests: Heard | null = null;
  #heardTokens: Heard | null = null;
  #blockedUntilMs = 0;

  constructor(limits: RateLimits) {
    this.limits = limits;
  }

  get running(): number {
    return this.#running;
  }

  /** Requests that could start now, of at least one token each. */
  freeSlots(nowMs: number): number {
    const { concurrencyMax, requestsPerMinuteMax, tokensPerMinuteMax } = this.limits;
    if (nowMs < this.#blockedUntilMs) return 0;
    const left = [
      concurrencyMax - this.#running,
      requestsPerMinuteMax === null
        ? concurrencyMax
        : stepRate(this.#requests, { perMinute: requestsPerMinuteMax, cost: 0, nowMs }).remaining,
      heardLeft(this.#heardRequests, nowMs),
    ];
    const hasTokens =
      heardLeft(this.#heardTokens, nowMs) > 0 &&
      (tokensPerMinuteMax === null ||
        stepRate(this.#tokens, { perMinute: tokensPerMinuteMax, cost: 0, nowMs }).remaining > 0);
    return hasTokens ? Math.max(0, Math.min(...left)) : 0;
  }

  /** When a request of so many tokens could start: 0 for now, null for never. */
  waitMs(tokens: number, nowMs: number): number | null {
    const { concurrencyMax, requestsPerMinuteMax, tokensPerMinuteMax } = this.limits;
    const waits = [
      this.#blockedUntilMs - nowMs,
      this.#running < concurrencyMax ? 0 : BUSY_RETRY_MS,
      heardWait(this.#heardRequests, { needed: 1, nowMs }),
      heardWait(this.#heardTokens, { needed: tokens, nowMs }),
    ];
    if (requestsPerMinuteMax !== null) {
      waits.push(stepRate(this.#requests, { perMinute: requestsPerMinuteMax, cost: 1, nowMs }).retryAfterMs ?? 0);
    }
    if (tokensPerMinuteMax !== null) {
      const wait = stepRate(this.#tokens, { perMinute: tokensPerMinuteMax, cost: tokens, nowMs }).retryAfterMs;
      if (wait === null) return null;
      waits.push(wait);
    }
    return Math.max(0, Math.ceil(Math.max(...waits)));
  }

  /** Only after `waitMs` answered 0. */
  begin(tokens: number, nowMs: number): void {
    const { requestsPerMinuteMax, tokensPerMinuteMax } = this.limits;
    this.#running += 1;
    if (requestsPerMinuteMax !== null) {
      this.#requests = stepRate(this.#requests, { perMinute: requestsPerMinuteMax, cost: 1, nowMs }).state;
    }
    if (tokensPerMinuteMax !== null) {
      this.#tokens = stepRate(this.#tokens, { perMinute: tokensPerMinuteMax, cost: tokens, nowMs }).state;
    }
    if (this.#heardRequests !== null) this.#heardRequests.left -= 1;
    if (this.#heardTokens !== null) this.#heardTokens.left -= tokens;
  }

  end(tokens: { readonly taken: number; readonly used: number }, nowMs: number): void {
    const { tokensPerMinuteMax } = this.limits;
    this.#running -= 1;
    if (tokensPerMinuteMax === null || tokens.used >= tokens.taken) return;
    const cost = tokens.used - tokens.taken;
    this.#tokens = stepRate(this.#tokens, { perMinute: tokensPerMinuteMax, cost, nowMs }).state;
  }

  /** What the headers of an answer said. */
  hear({ requestsLeft, requestsResetMs, tokensLeft, tokensResetMs }: UpstreamLimits, nowMs: number): void {
    if (requestsLeft !== null) this.#heardRequests = heard(requestsLeft, requestsResetMs, nowMs);
    if (tokensLeft !== null) this.#heardTokens = heard(tokensLeft, tokensResetMs, nowMs);
  }

  /** It said "too many", and how long to wait. */
  block(waitMs: number, nowMs: number): void {
    this.#blockedUntilMs = Math.max(this.#blockedUntilMs, nowMs + waitMs);
  }
}

function heard(left: number, resetMs: number | null, nowMs: number): Heard {
  return { left, resetAtMs: nowMs + Math.min(resetMs ?? HEARD_MS_MAX, HEARD_MS_MAX) };
}

function heardLeft(of: Heard | null, nowMs: number): number {
  return of === null || nowMs >= of.resetAtMs ? Number.MAX_SAFE_INTEGER : Math.max(0, of.left);
}

function heardWait(of: Heard | null, { needed, nowMs }: { needed: number; nowMs: number }): number {
  return of === null || nowMs >= of.resetAtMs || of.left >= needed ? 0 : of.resetAtMs - nowMs;
}
