/**
 * A cloud provider as the operator's API takes and answers it. A key is never in it: `credential` names an environment variable of the grid's
 * process, or an entry of `secrets.json` in its home. Prices are micro-USD per million tokens.
 */
import { z } from "zod";
import { ID_PATTERNS, modelId } from "../domain/ids.ts";
import { GRID_PROVIDER } from "../domain/preferences.ts";
import { PROVIDER_ID_PATTERN, type ProviderModel, type ProviderSpec } from "../domain/provider.ts";
import { REGION_PATTERN } from "../domain/region.ts";

/** As `TokenPrice` bounds it: 1,000 USD. */
export const PRICE_MICRO_USD_PER_MTOK_MAX = 1e9;
export const PROVIDER_MODELS_MAX = 500;
/** Sockets and memory of answers; one provider with more is two providers. */
export const PROVIDER_CONCURRENCY_MAX = 10_000;
const CONTEXT_TOKENS_MAX = 1e8;

export const providerIdSchema = z
  .string()
  .regex(PROVIDER_ID_PATTERN, "1 to 64 lower-case letters, digits and hyphens, such as acme or acme-eu")
  .refine((id) => id !== GRID_PROVIDER, `${GRID_PROVIDER} means the grid's own nodes`);

export const credentialSchema = z.discriminatedUnion("kind", [
  z.strictObject({ kind: z.literal("environment"), variable: z.string().regex(/^[A-Za-z_][A-Za-z0-9_]{0,127}$/) }),
  z.strictObject({ kind: z.literal("secret"), name: z.string().regex(/^[\w.-]{1,64}$/) }),
]);

const price = z.number().int().min(0).max(PRICE_MICRO_USD_PER_MTOK_MAX);
const priceSchema = z.strictObject({ inputMicroUsdPerMtok: price, outputMicroUsdPerMtok: price });
const tokens = z.number().int().min(1).max(CONTEXT_TOKENS_MAX);

export const providerModelSettingsSchema = z.strictObject({
  modelId: z.string().regex(ID_PATTERNS.model).transform(modelId),
  upstreamModel: z.string().min(1).max(256),
  cost: priceSchema,
  price: priceSchema,
  contextTokensMax: tokens,
  outputTokensMax: tokens.nullable(),
  quantisation: z
    .string()
    .regex(/^[a-z0-9][a-z0-9._-]{0,31}$/, "lower case, such as fp8 or q4_k_m")
    .nullable(),
});
export type ProviderModelSettings = z.infer<typeof providerModelSettingsSchema>;

export const providerSettingsSchema = z
  .strictObject({
    providerId: providerIdSchema,
    name: z.string().min(1).max(100),
    baseUrl: z.string().min(1).max(512),
    credential: credentialSchema.nullable(),
    regions: z.array(z.string().regex(REGION_PATTERN)).max(32),
    dataPolicy: z.strictObject({ collectsData: z.boolean(), isZeroRetention: z.boolean() }),
    requestsPerMinuteMax: z.number().int().min(1).max(1e9).nullable(),
    tokensPerMinuteMax: z.number().int().min(1).max(1e12).nullable(),
    concurrencyMax: z.number().int().min(1).max(PROVIDER_CONCURRENCY_MAX),
    models: z.array(providerModelSettingsSchema).max(PROVIDER_MODELS_MAX),
    isEnabled: z.boolean(),
  })
  .refine(({ models }) => new Set(models.map((model) => model.modelId)).size === models.length, {
    path: ["models"],
    message: "a model is offered twice under the same id",
  })
  .refine(({ dataPolicy }) => !(dataPolicy.collectsData && dataPolicy.isZeroRetention), {
    path: ["dataPolicy"],
    message: "a provider that collects data does not keep nothing",
  });
export type ProviderSettings = z.infer<typeof providerSettingsSchema>;

/** Settings as a spec; what was found by probing stays where neither address nor upstream's name of the model changed. */
export function specOf(settings: ProviderSettings, before: ProviderSpec | null, nowMs: number): ProviderSpec {
  const isSamePlace = before !== null && before.baseUrl === settings.baseUrl;
  const known = (model: ProviderModelSettings): ProviderModel["abilities"] =>
    (isSamePlace
      ? before.models.find((one) => one.modelId === model.modelId && one.upstreamModel === model.upstreamModel)
          ?.abilities
      : null) ?? null;
  return {
    ...settings,
    models: settings.models.map((model) => ({ ...model, abilities: known(model) })),
    addedAtMs: before?.addedAtMs ?? nowMs,
  };
}

/** The other way: what an operator may change, as he gave it. */
export function settingsOf(spec: ProviderSpec): ProviderSettings {
  const { addedAtMs: _, regions, models, ...rest } = spec;
  return { ...rest, regions: [...regions], models: models.map(({ abilities: __, ...model }) => model) };
}
