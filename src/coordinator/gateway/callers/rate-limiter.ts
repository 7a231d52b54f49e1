/** The limits of all keys and tenants that were active lately, and the headers that tell a client where it stands. */
import type { KeyId, TenantId } from "../../../domain/ids.ts";
import { type Outcome, ok, refuse } from "../../../domain/refusal.ts";
import type { Clock } from "../../../ports/clock.ts";
import type { ApiKey, TenantLimits } from "../../../ports/store.ts";
import { goDuration, RATE_START, type RateState, type RateStep, stepRate, UNLIMITED_KEY } from "./rate-limit.ts";

/** Beyond it, keys whose allowances are full again are forgotten: they cost nothing to start anew. */
const HOLDERS_KEPT_MAX = 10_000;

interface Rates {
  requests: RateState;
  tokens: RateState;
}

type Kind = keyof Rates;

/** A key, with the limits of its tenant where the gateway has looked them up. */
export type LimitedKey = ApiKey & { readonly tenantLimits?: TenantLimits | null };

/** Who has an allowance: the key by itself, and its tenant for all of its keys together. */
interface Holder {
  readonly id: KeyId | TenantId;
  readonly who: string;
  readonly perMinute: number;
}

export class RateLimiter {
  readonly #clock: Clock;
  readonly #rates = new Map<KeyId | TenantId, Rates>();
  readonly #exempt = new WeakSet<ApiKey>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Lines of batches have bounds of their own: this object, not the key that it is a copy of, takes no allowance. */
  exempt(key: ApiKey): void {
    this.#exempt.add(key);
  }

  takeRequest(key: LimitedKey): Outcome<void> {
    const over = this.#take(key, "requests", 1);
    if (over === null) return ok(undefined);
    const { who, perMinute } = over.holder;
    return refuse("rate-limited", `${who} may send ${perMinute} requests per minute; try again later`, {
      retryAfterMs: over.step.retryAfterMs,
    });
  }

  /** The most tokens that a request may use, before it runs. */
  takeTokens(key: LimitedKey, tokens: number): Outcome<void> {
    const over = this.#take(key, "tokens", tokens);
    if (over === null) return ok(undefined);
    const { retryAfterMs } = over.step;
    const { who, perMinute } = over.holder;
    const hint = retryAfterMs === null ? "ask for fewer tokens (max_completion_tokens)" : "try again later";
    const message = `this request may use ${tokens} tokens; ${who} may use ${perMinute} per minute; ${hint}`;
    return refuse("rate-limited", message, { retryAfterMs });
  }

  /** What a request took and did not use. */
  giveBackTokens(key: LimitedKey, tokens: number): void {
    if (this.#exempt.has(key)) return;
    for (const { id, perMinute } of holdersOf(key, "tokens")) {
      const rates = this.#ratesOf(id);
      rates.tokens = stepRate(rates.tokens, { perMinute, cost: -tokens, nowMs: this.#clock.monoMs() }).state;
    }
  }

  /** Of key and tenant, whoever has less left. */
  writeHeaders(key: LimitedKey, headers: Headers): void {
    const nowMs = this.#clock.monoMs();
    for (const kind of ["requests", "tokens"] as const) {
      const looks = holdersOf(key, kind).map(({ id, perMinute }) => ({
        perMinute,
        step: stepRate(this.#ratesOf(id)[kind], { perMinute, cost: 0, nowMs }),
      }));
      const [first] = looks.sort((a, b) => a.step.remaining - b.step.remaining);
      if (first === undefined) continue;
      headers.set(`x-ratelimit-limit-${kind}`, String(first.perMinute));
      headers.set(`x-ratelimit-remaining-${kind}`, String(first.step.remaining));
      headers.set(`x-ratelimit-reset-${kind}`, goDuration(first.step.resetMs));
    }
  }

  /** From all holders or from none; null when all allow it, else the one that makes it wait longest. */
  #take(key: LimitedKey, kind: Kind, cost: number): { readonly holder: Holder; readonly step: RateStep } | null {
    if (this.#exempt.has(key)) return null;
    const nowMs = this.#clock.monoMs();
    const steps = holdersOf(key, kind).map((holder) => {
      const rates = this.#ratesOf(holder.id);
      return { holder, rates, step: stepRate(rates[kind], { perMinute: holder.perMinute, cost, nowMs }) };
    });
    const waitOf = ({ step }: (typeof steps)[number]) => step.retryAfterMs ?? Number.POSITIVE_INFINITY;
    const [over] = steps.filter(({ step }) => !step.isAllowed).sort((a, b) => waitOf(b) - waitOf(a));
    if (over !== undefined) return over;
    for (const { rates, step } of steps) rates[kind] = step.state;
    return null;
  }

  #ratesOf(id: KeyId | TenantId): Rates {
    const known = this.#rates.get(id);
    if (known !== undefined) return known;
    if (this.#rates.size >= HOLDERS_KEPT_MAX) this.#forgetFull();
    const rates: Rates = { requests: RATE_START, tokens: RATE_START };
    this.#rates.set(id, rates);
    return rates;
  }

  #forgetFull(): void {
    const nowMs = this.#clock.monoMs();
    for (const [id, rates] of this.#rates) {
      if (rates.requests.fullAtMs <= nowMs && rates.tokens.fullAtMs <= nowMs) this.#rates.delete(id);
    }
  }
}

function holdersOf(key: LimitedKey, kind: Kind): readonly Holder[] {
  const isRequests = kind === "requests";
  const own = isRequests ? key.requestsPerMinuteMax : key.tokensPerMinuteMax;
  const unlimited = isRequests ? UNLIMITED_KEY.requestsPerMinute : UNLIMITED_KEY.tokensPerMinute;
  const limits = key.tenantLimits ?? null;
  const tenants = isRequests ? limits?.requestsPerMinuteMax : limits?.tokensPerMinuteMax;
  const holder = { id: key.keyId, who: `key ${key.keyId}`, perMinute: own ?? unlimited };
  if (tenants === null || tenants === undefined) return [holder];
  return [holder, { id: key.tenantId, who: `tenant ${key.tenantId}`, perMinute: tenants }];
}
