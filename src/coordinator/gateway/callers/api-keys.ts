/**
 * Who is asking. A key's secret is looked up by its SHA-256; what was found is kept for a few seconds, so that a busy key does
 * not cost a query for each request. Revocations that pass through this process take effect at once (`forget`).
 */
import { type KeyId, type Sha256Hex, sha256Hex, type TenantId } from "../../../domain/ids.ts";
import { type Outcome, ok, refuse } from "../../../domain/refusal.ts";
import { toHex } from "../../../market/hex.ts";
import { dayOf } from "../../../market/usage-day.ts";
import type { Clock } from "../../../ports/clock.ts";
import type { Crypto } from "../../../ports/crypto.ts";
import type { ApiKey, KeyScope, KeyStore, TenantLimits, TenantStore } from "../../../ports/store.ts";
import type { HoldRequest } from "../../settlement/settlement.ts";

/** More keys than one coordinator meets in a few seconds. */
const KEYS_CACHED_MAX = 4_096;
/** Ours have 47; the bound keeps a hostile header from being hashed at length. */
const SECRET_CHARS_MAX = 512;

/** A key with what its tenant may do; `models` are those that both may use. */
export interface CallerKey extends ApiKey {
  readonly tenantLimits: TenantLimits | null;
}

interface CachedKey {
  readonly key: CallerKey;
  readonly staleAtMs: number;
}

export class ApiKeys {
  readonly #cache = new Map<Sha256Hex, CachedKey>();
  readonly #limits = new Map<TenantId, { readonly limits: TenantLimits | null; readonly staleAtMs: number }>();
  readonly #options: {
    readonly store: KeyStore;
    readonly tenants: Pick<TenantStore, "get">;
    readonly clock: Clock;
    readonly crypto: Crypto;
    readonly cacheMs: number;
  };

  constructor(options: {
    store: KeyStore;
    tenants: Pick<TenantStore, "get">;
    clock: Clock;
    crypto: Crypto;
    cacheMs: number;
  }) {
    this.#options = options;
  }

  async authenticate(authorization: string | null, scope: KeyScope): Promise<Outcome<CallerKey>> {
    if (authorization === null) {
      return refuse("missing-key", "no API key was sent; send it as 'Authorization: Bearer fal_…'");
    }
    const secret = /^Bearer +(\S+) *$/i.exec(authorization)?.[1];
    if (secret === undefined || secret.length > SECRET_CHARS_MAX) {
      return refuse("invalid-key", "the Authorization header holds no bearer key; send 'Bearer fal_…'");
    }
    const key = await this.#find(secret);
    if (key === null) return refuse("invalid-key", `the API key ${hintOf(secret)} is not known here`);
    if (key.revokedAtMs !== null) {
      return refuse("invalid-key", `the API key ${key.keyId} was revoked at ${isoTime(key.revokedAtMs)}`);
    }
    const nowMs = this.#options.clock.wallMs();
    if (key.expiresAtMs !== null && key.expiresAtMs <= nowMs) {
      return refuse("invalid-key", `the API key ${key.keyId} expired at ${isoTime(key.expiresAtMs)}`);
    }
    if (!key.scopes.includes(scope)) {
      const has = key.scopes.join(", ");
      return refuse("insufficient-scope", `the API key ${key.keyId} has the scopes ${has}; this needs ${scope}`);
    }
    return ok(key);
  }

  /** After a change of a key in this process. */
  forget(keyId: KeyId): void {
    for (const [digest, { key }] of this.#cache) if (key.keyId === keyId) this.#cache.delete(digest);
  }

  /** After a change of a tenant in this process. */
  forgetTenant(tenantId: TenantId): void {
    this.#limits.delete(tenantId);
    for (const [digest, { key }] of this.#cache) if (key.tenantId === tenantId) this.#cache.delete(digest);
  }

  /** Caps on a request of this key, those of its tenant included; also for a key that came without a request. */
  async capsOf(key: ApiKey | CallerKey): Promise<Pick<HoldRequest, "budgetMicroUsd" | "caps">> {
    const limits = "tenantLimits" in key ? key.tenantLimits : await this.#limitsOf(key.tenantId);
    const caps = {
      keyMonthMicroUsd: key.monthlyBudgetMicroUsd,
      tenantMicroUsd: limits?.budgetMicroUsd ?? null,
      tenantMonthMicroUsd: limits?.monthlyBudgetMicroUsd ?? null,
    };
    return { budgetMicroUsd: key.budgetMicroUsd, caps };
  }

  async #limitsOf(tenantId: TenantId): Promise<TenantLimits | null> {
    const { tenants, clock, cacheMs } = this.#options;
    const nowMs = clock.monoMs();
    const known = this.#limits.get(tenantId);
    if (known !== undefined && known.staleAtMs > nowMs) return known.limits;
    const limits = (await tenants.get(tenantId))?.limits ?? null;
    if (this.#limits.size >= KEYS_CACHED_MAX) this.#limits.clear();
    this.#limits.set(tenantId, { limits, staleAtMs: nowMs + cacheMs });
    return limits;
  }

  async #find(secret: string): Promise<CallerKey | null> {
    const { store, clock, crypto, cacheMs } = this.#options;
    const digest = sha256Hex(toHex(crypto.sha256(new TextEncoder().encode(secret))));
    const nowMs = clock.monoMs();
    const cached = this.#cache.get(digest);
    if (cached !== undefined && cached.staleAtMs > nowMs) return cached.key;
    const found = await store.findBySecret(digest);
    this.#cache.delete(digest);
    if (found === null) return null;
    const key = callerKey(found, await this.#limitsOf(found.tenantId));
    const oldest = this.#cache.keys().next();
    if (this.#cache.size >= KEYS_CACHED_MAX && oldest.done !== true) this.#cache.delete(oldest.value);
    this.#cache.set(digest, { key, staleAtMs: nowMs + cacheMs });
    return key;
  }
}

function callerKey(key: ApiKey, tenantLimits: TenantLimits | null): CallerKey {
  const open = tenantLimits?.models ?? null;
  const models = key.models === null ? open : key.models.filter((model) => open?.includes(model) ?? true);
  return { ...key, models, tenantLimits };
}

/** Enough to tell one's own keys apart, too little to use. */
function hintOf(secret: string): string {
  return secret.length > 12 ? `${secret.slice(0, 8)}…` : "that was sent";
}

const DAY_MS = 86_400_000;

/** Whole seconds in UTC, without a clock: `2026-11-22T13:00:00Z`. */
export function isoTime(wallMs: number): string {
  const second = Math.floor((wallMs % DAY_MS) / 1000);
  const two = (value: number) => String(value).padStart(2, "0");
  const time = `${two(Math.floor(second / 3600))}:${two(Math.floor(second / 60) % 60)}:${two(second % 60)}`;
  return `${dayOf(wallMs)}T${time}Z`;
}
