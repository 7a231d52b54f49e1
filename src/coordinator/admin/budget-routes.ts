/** The operator's routes about who may spend what: tenants with their limits, changes of keys, and usage over all tenants. */
import type { Context, Hono } from "hono";
import { ID_PATTERNS, keyId, modelId, type TenantId, tenantId } from "../../domain/ids.ts";
import { availableMicroUsd } from "../../domain/ledger.ts";
import { microUsd } from "../../domain/money.ts";
import { refuse } from "../../domain/refusal.ts";
import { tenantAccount } from "../../market/accounts.ts";
import { monthOf } from "../../market/usage-day.ts";
import type { KeyTerms, Tenant, TenantLimits } from "../../ports/store.ts";
import { usageQuery, usageResponse } from "../gateway/routes/usage-report.ts";
import { keyRow } from "./admin-rows.ts";
import type { AdminSources } from "./admin-sources.ts";
import {
  createTenantSchema,
  type SetKey,
  setKeySchema,
  setTenantSchema,
  type TenantLimitsBody,
  type TenantRow,
} from "./budget-schemas.ts";
import { bodyOf } from "./request-body.ts";

const NO_LIMITS: TenantLimits = {
  requestsPerMinuteMax: null,
  tokensPerMinuteMax: null,
  budgetMicroUsd: null,
  monthlyBudgetMicroUsd: null,
  models: null,
};

export interface BudgetSources extends Pick<AdminSources, "store" | "clock" | "ids"> {
  readonly gate: Pick<AdminSources["gate"], "refusal" | "forgetKey" | "forgetTenant">;
}

export function addBudgetRoutes(app: Hono, sources: BudgetSources): void {
  addTenantRoutes(app, sources);
  addKeyChange(app, sources);
  const { gate, store, clock } = sources;
  app.get("/admin/v1/usage", async (context) => {
    const asked = usageQuery((name) => context.req.query(name), {
      accept: context.req.header("accept"),
      nowMs: Math.floor(clock.wallMs()),
      fallback: ["day", "tenant", "key", "model", "tier", "provider"],
    });
    if (!asked.ok) return gate.refusal(context, asked.reason);
    const named = context.req.query("tenant");
    if (named !== undefined && !ID_PATTERNS.tenant.test(named)) return gate.refusal(context, unknownTenant(named));
    const { fromMs, toMs } = asked.value;
    const whose = named === undefined ? {} : { tenantId: tenantId(named) };
    return usageResponse(await store.receipts.usage({ ...whose, fromMs, toMs }), asked.value);
  });
}

function addTenantRoutes(app: Hono, sources: BudgetSources): void {
  const { gate, store, clock, ids } = sources;
  app.get("/admin/v1/tenants", async (context) => {
    const tenants = await store.tenants.list();
    return context.json({ tenants: await Promise.all(tenants.map((tenant) => rowOf(sources, tenant))) });
  });
  app.post("/admin/v1/tenants", async (context) => {
    const body = await bodyOf(context, createTenantSchema);
    if (!body.ok) return gate.refusal(context, body.reason);
    const { name, ...limits } = body.value;
    const hasLimits = Object.values(limits).some((limit) => limit !== undefined && limit !== null);
    const tenant: Tenant = {
      tenantId: tenantId(ids.make("ten")),
      name,
      createdAtMs: Math.floor(clock.wallMs()),
      limits: hasLimits ? changed(NO_LIMITS, limits) : null,
    };
    await store.tenants.create(tenant);
    return context.json({ tenant: await rowOf(sources, tenant) }, 201);
  });
  app.patch("/admin/v1/tenants/:tenantId", async (context) => {
    const tenant = await namedTenant(sources, context);
    if (tenant === null) return gate.refusal(context, unknownTenant(context.req.param("tenantId")));
    const body = await bodyOf(context, setTenantSchema);
    if (!body.ok) return gate.refusal(context, body.reason);
    const limits = changed(tenant.limits ?? NO_LIMITS, body.value);
    const kept = Object.values(limits).some((limit) => limit !== null) ? limits : null;
    await store.tenants.setLimits(tenant.tenantId, kept);
    gate.forgetTenant?.(tenant.tenantId);
    return context.json({ tenant: await rowOf(sources, { ...tenant, limits: kept }) });
  });
}

function addKeyChange(app: Hono, { gate, store }: BudgetSources): void {
  app.patch("/admin/v1/keys/:keyId", async (context) => {
    const named = context.req.param("keyId");
    const body = await bodyOf(context, setKeySchema);
    if (!body.ok) return gate.refusal(context, body.reason);
    const isDone = ID_PATTERNS.key.test(named) && (await store.keys.update(keyId(named), termsOf(body.value)));
    const key = isDone ? await store.keys.get(keyId(named)) : null;
    if (key === null) {
      const message = `no valid key has the id ${named.slice(0, 80)}: it is unknown or revoked`;
      return gate.refusal(context, refuse("not-found", message).reason);
    }
    gate.forgetKey(key.keyId);
    return context.json({ key: keyRow(key, await store.keys.spent(key.keyId)) });
  });
}

function termsOf(body: SetKey): Partial<KeyTerms> {
  const { models, budgetMicroUsd, monthlyBudgetMicroUsd, name, scopes, preferences, expiresAtMs } = body;
  const { requestsPerMinuteMax, tokensPerMinuteMax } = body;
  return {
    ...(name === undefined ? {} : { name }),
    ...(scopes === undefined ? {} : { scopes }),
    ...(requestsPerMinuteMax === undefined ? {} : { requestsPerMinuteMax }),
    ...(tokensPerMinuteMax === undefined ? {} : { tokensPerMinuteMax }),
    ...(budgetMicroUsd === undefined ? {} : { budgetMicroUsd: usd(budgetMicroUsd) }),
    ...(monthlyBudgetMicroUsd === undefined ? {} : { monthlyBudgetMicroUsd: usd(monthlyBudgetMicroUsd) }),
    ...(models === undefined ? {} : { models: models?.map(modelId) ?? null }),
    ...(preferences === undefined ? {} : { preferences }),
    ...(expiresAtMs === undefined ? {} : { expiresAtMs }),
  };
}

function changed(before: TenantLimits, body: TenantLimitsBody): TenantLimits {
  const { models, budgetMicroUsd, monthlyBudgetMicroUsd, requestsPerMinuteMax, tokensPerMinuteMax } = body;
  return {
    requestsPerMinuteMax: requestsPerMinuteMax === undefined ? before.requestsPerMinuteMax : requestsPerMinuteMax,
    tokensPerMinuteMax: tokensPerMinuteMax === undefined ? before.tokensPerMinuteMax : tokensPerMinuteMax,
    budgetMicroUsd: budgetMicroUsd === undefined ? before.budgetMicroUsd : usd(budgetMicroUsd),
    monthlyBudgetMicroUsd:
      monthlyBudgetMicroUsd === undefined ? before.monthlyBudgetMicroUsd : usd(monthlyBudgetMicroUsd),
    models: models === undefined ? before.models : (models?.map(modelId) ?? null),
  };
}

function usd(amount: number | null) {
  return amount === null ? null : microUsd(amount);
}

async function namedTenant({ store }: BudgetSources, context: Context): Promise<Tenant | null> {
  const named = context.req.param("tenantId") ?? "";
  return ID_PATTERNS.tenant.test(named) ? await store.tenants.get(tenantId(named)) : null;
}

async function rowOf({ store, clock }: BudgetSources, tenant: Tenant): Promise<TenantRow> {
  const spent = await store.spending.ofTenant(tenant.tenantId, monthOf(Math.floor(clock.wallMs())));
  const account = await store.ledger.account(tenantAccount(tenant.tenantId));
  const keys = await keysOf(store, tenant.tenantId);
  const { models, ...limits } = tenant.limits ?? NO_LIMITS;
  return {
    tenantId: tenant.tenantId,
    name: tenant.name,
    createdAtMs: tenant.createdAtMs,
    ...limits,
    models: models === null ? null : [...models],
    spentMicroUsd: spent.totalMicroUsd,
    spentMonthMicroUsd: spent.monthMicroUsd,
    availableMicroUsd: account === null ? null : availableMicroUsd(account),
    keys,
  };
}

async function keysOf(store: AdminSources["store"], tenant: TenantId): Promise<number> {
  const keys = await store.keys.list();
  return keys.filter((key) => key.tenantId === tenant && key.revokedAtMs === null).length;
}

function unknownTenant(named: string | undefined) {
  return refuse("not-found", `there is no tenant called ${JSON.stringify((named ?? "").slice(0, 80))}`).reason;
}
