/** What the routes of tenants, changes of keys and usage answer and take. Money is micro-USD; null means no such limit. */
import { z } from "zod";
import { ID_PATTERNS } from "../../domain/ids.ts";
import { KEY_SCOPES } from "../../ports/store.ts";
import { keyPreferencesSchema } from "../../wire/openai/preferences.ts";

const rate = z.number().int().min(1).nullable();
const cap = z.number().int().min(0).max(Number.MAX_SAFE_INTEGER).nullable();
const models = z.array(z.string().regex(ID_PATTERNS.model)).min(1).max(100).nullable();
const name = z.string().min(1).max(128);
const limits = {
  requestsPerMinuteMax: rate.optional(),
  tokensPerMinuteMax: rate.optional(),
  budgetMicroUsd: cap.optional(),
  monthlyBudgetMicroUsd: cap.optional(),
  models: models.optional(),
};

export const tenantRowSchema = z.object({
  tenantId: z.string(),
  name: z.string(),
  createdAtMs: z.number(),
  requestsPerMinuteMax: rate,
  tokensPerMinuteMax: rate,
  budgetMicroUsd: cap,
  monthlyBudgetMicroUsd: cap,
  models: z.array(z.string()).nullable(),
  spentMicroUsd: z.number(),
  /** In this UTC month. */
  spentMonthMicroUsd: z.number(),
  /** Null: it never had money. */
  availableMicroUsd: z.number().nullable(),
  keys: z.number(),
});
export type TenantRow = z.infer<typeof tenantRowSchema>;

export const tenantListSchema = z.object({ tenants: z.array(tenantRowSchema) });
export const tenantAnswerSchema = z.object({ tenant: tenantRowSchema });

export const createTenantSchema = z.strictObject({ name, ...limits });
/** Only what is named changes. */
export const setTenantSchema = z.strictObject(limits);
export type TenantLimitsBody = z.infer<typeof setTenantSchema>;

export const setKeySchema = z.strictObject({
  name: name.optional(),
  scopes: z.array(z.enum(KEY_SCOPES)).min(1).max(KEY_SCOPES.length).optional(),
  ...limits,
  preferences: keyPreferencesSchema.nullable().optional(),
  expiresAtMs: z.number().int().min(0).nullable().optional(),
});
export type SetKey = z.infer<typeof setKeySchema>;

export const usageListSchema = z.object({ data: z.array(z.record(z.string(), z.union([z.string(), z.number()]))) });
