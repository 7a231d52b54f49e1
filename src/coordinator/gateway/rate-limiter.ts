/** The limits of all keys that were used lately, and the headers that tell a client where it stands. */
import type { KeyId } from "../../domain/ids.ts";
import { type Outcome, ok, refuse } from "../../domain/refusal.ts";
import type { Clock } from "../../ports/clock.ts";
import type { ApiKey } from "../../ports/store.ts";
import { goDuration, RATE_START, type RateState, stepRate, UNLIMITED_KEY } from "./rate-limit.ts";

/** Beyond it, keys whose allowances are full again are forgotten: they cost nothing to start anew. */
const KEYS_KEPT_MAX = 10_000;

interface KeyRates {
  requests: RateState;
  tokens: RateState;
}

export class RateLimiter {
  readonly #clock: Clock;
  readonly #rates = new Map<KeyId, KeyRates>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  takeRequest(key: ApiKey): Outcome<void> {
    const rates = this.#ratesOf(key.keyId);
    const perMinute = key.requestsPerMinuteMax ?? UNLIMITED_KEY.requestsPerMinute;
    const step = stepRate(rates.requests, { perMinute, cost: 1, nowMs: this.#clock.monoMs() });
    rates.requests = step.state;
    if (step.isAllowed) return ok(undefined);
    return refuse("rate-limited", `key ${key.keyId} may send ${perMinute} requests per minute; try again later`, {
      retryAfterMs: step.retryAfterMs,
    });
  }

  /** The most tokens that a request may use, before it runs. */
  takeTokens(key: ApiKey, tokens: number): Outcome<void> {
    const rates = this.#ratesOf(key.keyId);
    const perMinute = key.tokensPerMinuteMax ?? UNLIMITED_KEY.tokensPerMinute;
    const step = stepRate(rates.tokens, { perMinute, cost: tokens, nowMs: this.#clock.monoMs() });
    rates.tokens = step.state;
    if (step.isAllowed) return ok(undefined);
    const hint = step.retryAfterMs === null ? "ask for fewer tokens (max_completion_tokens)" : "try again later";
    return refuse(
      "rate-limited",
      `this request may use ${tokens} tokens; key ${key.keyId} may use ${perMinute} per minute; ${hint}`,
      { retryAfterMs: step.retryAfterMs },
    );
  }

  /** What a request took and did not use. */
  giveBackTokens(key: ApiKey, tokens: number): void {
    const rates = this.#ratesOf(key.keyId);
    const perMinute = key.tokensPerMinuteMax ?? UNLIMITED_KEY.tokensPerMinute;
    rates.tokens = stepRate(rates.tokens, { perMinute, cost: -tokens, nowMs: this.#clock.monoMs() }).state;
  }

  writeHeaders(key: ApiKey, headers: Headers): void {
    const rates = this.#ratesOf(key.keyId);
    const nowMs = this.#clock.monoMs();
    const limits = [
      ["requests", rates.requests, key.requestsPerMinuteMax ?? UNLIMITED_KEY.requestsPerMinute],
      ["tokens", rates.tokens, key.tokensPerMinuteMax ?? UNLIMITED_KEY.tokensPerMinute],
    ] as const;
    for (const [name, state, perMinute] of limits) {
      const step = stepRate(state, { perMinute, cost: 0, nowMs });
      headers.set(`x-ratelimit-limit-${name}`, String(perMinute));
      headers.set(`x-ratelimit-remaining-${name}`, String(step.remaining));
      headers.set(`x-ratelimit-reset-${name}`, goDuration(step.resetMs));
    }
  }

  #ratesOf(keyId: KeyId): KeyRates {
    const known = this.#rates.get(keyId);
    if (known !== undefined) return known;
    if (this.#rates.size >= KEYS_KEPT_MAX) this.#forgetFull();
    const rates: KeyRates = { requests: RATE_START, tokens: RATE_START };
    this.#rates.set(keyId, rates);
    return rates;
  }

  #forgetFull(): void {
    const nowMs = this.#clock.monoMs();
    for (const [keyId, rates] of this.#rates) {
      if (rates.requests.fullAtMs <= nowMs && rates.tokens.fullAtMs <= nowMs) this.#rates.delete(keyId);
    }
  }
}
