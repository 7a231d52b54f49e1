/** Makes an API key. The secret exists here once: the caller shows it, the store keeps its digest. */
import { keyId, modelId, sha256Hex, type TenantId } from "../../domain/ids.ts";
import { microUsd } from "../../domain/money.ts";
import { toHex } from "../../market/hex.ts";
import type { Clock } from "../../ports/clock.ts";
import type { Crypto } from "../../ports/crypto.ts";
import type { Ids } from "../../ports/ids.ts";
import type { Random } from "../../ports/random.ts";
import type { ApiKey, KeyScope } from "../../ports/store.ts";
import { toBase64Url } from "../../wire/base64url.ts";
import type { CreateKey } from "./admin-schemas.ts";

/** 256 bits: nothing to guess, so the digest at rest needs no salt. */
const SECRET_BYTES = 32;
const SECRET_PREFIX = "fal_";
/** Prefix and 4 of 43 letters. */
const HINT_CHARS = SECRET_PREFIX.length + 4;
/** A key for a program needs no more than these; `admin` is asked for by name. */
const SCOPES_DEFAULT: readonly KeyScope[] = ["inference", "usage"];

export interface KeyMaking {
  readonly clock: Clock;
  readonly random: Random;
  readonly ids: Ids;
  readonly crypto: Crypto;
}

export function makeSecret(random: Random): string {
  return SECRET_PREFIX + toBase64Url(random.bytes(SECRET_BYTES));
}

export function createKey(ports: KeyMaking, tenant: TenantId, terms: CreateKey): { key: ApiKey; secret: string } {
  const secret = makeSecret(ports.random);
  return { secret, key: keyFor(ports, { secret, tenant, terms }) };
}

/** The key of a secret that exists already. */
export function keyFor(
  ports: Omit<KeyMaking, "random">,
  { secret, tenant, terms }: { secret: string; tenant: TenantId; terms: CreateKey },
): ApiKey {
  const nowMs = Math.floor(ports.clock.wallMs());
  return {
    keyId: keyId(ports.ids.make("key")),
    tenantId: tenant,
    secretSha256: sha256Hex(toHex(ports.crypto.sha256(new TextEncoder().encode(secret)))),
    secretHint: secret.slice(0, HINT_CHARS),
    name: terms.name,
    scopes: terms.scopes ?? SCOPES_DEFAULT,
    requestsPerMinuteMax: terms.requestsPerMinuteMax ?? null,
    tokensPerMinuteMax: terms.tokensPerMinuteMax ?? null,
    budgetMicroUsd: terms.budgetMicroUsd === undefined ? null : microUsd(terms.budgetMicroUsd),
    monthlyBudgetMicroUsd: terms.monthlyBudgetMicroUsd === undefined ? null : microUsd(terms.monthlyBudgetMicroUsd),
    models: terms.models?.map(modelId) ?? null,
    preferences: terms.preferences ?? null,
    createdAtMs: nowMs,
    expiresAtMs: terms.expiresInMs === undefined ? null : nowMs + terms.expiresInMs,
    revokedAtMs: null,
  };
}
