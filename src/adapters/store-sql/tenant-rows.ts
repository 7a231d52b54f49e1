/** Tenants and their API keys. */
import type { Selectable } from "kysely";
import { z } from "zod";
import { FallowError } from "../../domain/fault.ts";
import {
  ID_PATTERNS,
  type KeyId,
  keyId,
  modelId,
  type Sha256Hex,
  sha256Hex,
  type TenantId,
  tenantId,
} from "../../domain/ids.ts";
import { type MicroUsd, microUsd, ZERO_USD } from "../../domain/money.ts";
import {
  type ApiKey,
  KEY_SCOPES,
  type KeyStore,
  type KeyTerms,
  type Tenant,
  type TenantLimits,
  type TenantStore,
} from "../../ports/store.ts";
import { keyPreferencesSchema } from "../../wire/openai/preferences.ts";
import type { Tx } from "./database.ts";
import { fromJsonColumn } from "./row-text.ts";
import type { ApiKeyTable, Tables } from "./tables.ts";

const scopesSchema = z.array(z.enum(KEY_SCOPES));
const modelsSchema = z.array(z.string().regex(ID_PATTERNS.model).transform(modelId));
const amountSchema = z.number().int().min(0).transform(microUsd).nullable();
const limitsSchema = z.object({
  requestsPerMinuteMax: z.number().int().min(1).nullable(),
  tokensPerMinuteMax: z.number().int().min(1).nullable(),
  budgetMicroUsd: amountSchema,
  monthlyBudgetMicroUsd: amountSchema,
  models: modelsSchema.nullable(),
});

export class TenantRows implements TenantStore {
  readonly #tx: Tx;

  constructor(tx: Tx) {
    this.#tx = tx;
  }

  async create(tenant: Tenant): Promise<void> {
    await this.#tx.write(async (connection) => {
      const known = await connection
        .selectFrom("tenants")
        .select("tenant_id")
        .where("tenant_id", "=", tenant.tenantId)
        .executeTakeFirst();
      if (known !== undefined) throw new FallowError("already-exists", `tenant ${tenant.tenantId} exists already`);
      await connection.insertInto("tenants").values(tenantRow(tenant)).execute();
    });
  }

  async get(id: TenantId): Promise<Tenant | null> {
    const row = await this.#tx.reader.selectFrom("tenants").selectAll().where("tenant_id", "=", id).executeTakeFirst();
    return row === undefined ? null : tenantOf(row);
  }

  setLimits(id: TenantId, limits: TenantLimits | null): Promise<boolean> {
    return this.#tx.write(async (connection) => {
      const result = await connection
        .updateTable("tenants")
        .set({ limits_json: limits === null ? null : JSON.stringify(limits) })
        .where("tenant_id", "=", id)
        .executeTakeFirst();
      return result.numUpdatedRows > 0n;
    });
  }

  async list(): Promise<readonly Tenant[]> {
    const rows = await this.#tx.reader.selectFrom("tenants").selectAll().orderBy("tenant_id").execute();
    return rows.map(tenantOf);
  }
}

export class KeyRows implements KeyStore {
  readonly #tx: Tx;

  constructor(tx: Tx) {
    this.#tx = tx;
  }

  async create(key: ApiKey): Promise<void> {
    await this.#tx.write(async (connection) => {
      const known = await connection
        .selectFrom("api_keys")
        .select("key_id")
        .where((where) => where.or([where("key_id", "=", key.keyId), where("secret_sha256", "=", key.secretSha256)]))
        .executeTakeFirst();
      if (known !== undefined) throw new FallowError("already-exists", `key ${known.key_id} exists already`);
      const tenant = await connection
        .selectFrom("tenants")
        .select("tenant_id")
        .where("tenant_id", "=", key.tenantId)
        .executeTakeFirst();
      if (tenant === undefined) throw new FallowError("tenant-unknown", `there is no tenant ${key.tenantId}`);
      await connection.insertInto("api_keys").values(rowOf(key)).execute();
    });
  }

  async findBySecret(secretSha256: Sha256Hex): Promise<ApiKey | null> {
    const row = await this.#tx.reader
      .selectFrom("api_keys")
      .selectAll()
      .where("secret_sha256", "=", secretSha256)
      .executeTakeFirst();
    return row === undefined ? null : keyOf(row);
  }

  async get(id: KeyId): Promise<ApiKey | null> {
    const row = await this.#tx.reader.selectFrom("api_keys").selectAll().where("key_id", "=", id).executeTakeFirst();
    return row === undefined ? null : keyOf(row);
  }

  async list(): Promise<readonly ApiKey[]> {
    const rows = await this.#tx.reader.selectFrom("api_keys").selectAll().orderBy("key_id").execute();
    return rows.map(keyOf);
  }

  revoke(id: KeyId, atMs: number): Promise<boolean> {
    return this.#tx.write(async (connection) => {
      const result = await connection
        .updateTable("api_keys")
        .set({ revoked_at_ms: atMs })
        .where("key_id", "=", id)
        .where("revoked_at_ms", "is", null)
        .executeTakeFirst();
      return result.numUpdatedRows > 0n;
    });
  }

  update(id: KeyId, terms: Partial<KeyTerms>): Promise<boolean> {
    return this.#tx.write(async (connection) => {
      const row = await connection
        .selectFrom("api_keys")
        .selectAll()
        .where("key_id", "=", id)
        .where("revoked_at_ms", "is", null)
        .executeTakeFirst();
      if (row === undefined) return false;
      const { spent_micro_usd: _, ...changed } = rowOf({ ...keyOf(row), ...terms });
      await connection.updateTable("api_keys").set(changed).where("key_id", "=", id).execute();
      return true;
    });
  }

  async spent(id: KeyId): Promise<MicroUsd> {
    const row = await this.#tx.reader
      .selectFrom("api_keys")
      .select("spent_micro_usd")
      .where("key_id", "=", id)
      .executeTakeFirst();
    return row === undefined ? ZERO_USD : microUsd(row.spent_micro_usd);
  }
}

function tenantOf(row: Selectable<Tables["tenants"]>): Tenant {
  return {
    tenantId: tenantId(row.tenant_id),
    name: row.name,
    createdAtMs: row.created_at_ms,
    limits:
      row.limits_json === null
        ? null
        : fromJsonColumn({ name: "tenants.limits_json", text: row.limits_json, schema: limitsSchema }),
  };
}

function tenantRow(tenant: Tenant): Tables["tenants"] {
  return {
    tenant_id: tenant.tenantId,
    name: tenant.name,
    created_at_ms: tenant.createdAtMs,
    limits_json: tenant.limits === null ? null : JSON.stringify(tenant.limits),
  };
}

function keyOf(row: Selectable<ApiKeyTable>): ApiKey {
  return {
    keyId: keyId(row.key_id),
    tenantId: tenantId(row.tenant_id),
    secretSha256: sha256Hex(row.secret_sha256),
    secretHint: row.secret_hint,
    name: row.name,
    scopes: fromJsonColumn({ name: "api_keys.scopes_json", text: row.scopes_json, schema: scopesSchema }),
    requestsPerMinuteMax: row.requests_per_minute_max,
    tokensPerMinuteMax: row.tokens_per_minute_max,
    budgetMicroUsd: row.budget_micro_usd === null ? null : microUsd(row.budget_micro_usd),
    monthlyBudgetMicroUsd: row.monthly_budget_micro_usd === null ? null : microUsd(row.monthly_budget_micro_usd),
    preferences:
      row.preferences_json === null
        ? null
        : fromJsonColumn({
            name: "api_keys.preferences_json",
            text: row.preferences_json,
            schema: keyPreferencesSchema,
          }),
    models:
      row.models_json === null
        ? null
        : fromJsonColumn({ name: "api_keys.models_json", text: row.models_json, schema: modelsSchema }),
    createdAtMs: row.created_at_ms,
    expiresAtMs: row.expires_at_ms,
    revokedAtMs: row.revoked_at_ms,
  };
}

function rowOf(key: ApiKey): ApiKeyTable {
  return {
    key_id: key.keyId,
    tenant_id: key.tenantId,
    secret_sha256: key.secretSha256,
    secret_hint: key.secretHint,
    name: key.name,
    scopes_json: JSON.stringify(key.scopes),
    requests_per_minute_max: key.requestsPerMinuteMax,
    tokens_per_minute_max: key.tokensPerMinuteMax,
    budget_micro_usd: key.budgetMicroUsd,
    monthly_budget_micro_usd: key.monthlyBudgetMicroUsd,
    preferences_json: key.preferences === null ? null : JSON.stringify(key.preferences),
    models_json: key.models === null ? null : JSON.stringify(key.models),
    created_at_ms: key.createdAtMs,
    expires_at_ms: key.expiresAtMs,
    revoked_at_ms: key.revokedAtMs,
    spent_micro_usd: 0,
  };
}
