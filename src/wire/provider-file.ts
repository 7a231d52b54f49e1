/**
 * Providers in a file that a person writes (TOML or JSON; docs/providers.md has an example). Prices are USD per million tokens, what a
 * tenant pays is the cost and a margin unless it is named, and what is left out has the usual value.
 */
import { z } from "zod";
import { ID_PATTERNS, modelId } from "../domain/ids.ts";
import type { TokenPrice } from "../domain/money.ts";
import type { DataPolicy } from "../domain/provider.ts";
import { no, type Outcome, ok } from "../domain/refusal.ts";
import { type FileRefusal, ProblemList } from "./file-problems.ts";
import { PRICE_MICRO_USD_PER_MTOK_MAX, type ProviderSettings, providerSettingsSchema } from "./provider-settings.ts";

export const PROVIDER_FILE_BYTES_MAX = 4 * 1_048_576;
export const PROVIDER_DEFAULTS = { concurrencyMax: 32, contextTokensMax: 8_192, marginPercent: 0 } as const;
/** Ten times the cost. */
export const MARGIN_PERCENT_MAX = 900;

const usd = z
  .number()
  .min(0)
  .max(PRICE_MICRO_USD_PER_MTOK_MAX / 1e6);
const modelSchema = z.strictObject({
  id: z.string().regex(ID_PATTERNS.model),
  upstream: z.string().min(1).max(256).optional(),
  cost_in_usd: usd,
  cost_out_usd: usd,
  price_in_usd: usd.optional(),
  price_out_usd: usd.optional(),
  context_tokens: z.number().int().min(1).optional(),
  output_tokens: z.number().int().min(1).optional(),
  quantisation: z.string().optional(),
});
const providerSchema = z
  .strictObject({
    id: z.string(),
    name: z.string().optional(),
    base_url: z.string(),
    key_env: z.string().optional(),
    key_secret: z.string().optional(),
    regions: z.array(z.string()).optional(),
    collects_data: z.boolean().optional(),
    zero_retention: z.boolean().optional(),
    requests_per_minute: z.number().int().min(1).optional(),
    tokens_per_minute: z.number().int().min(1).optional(),
    concurrency: z.number().int().min(1).optional(),
    margin_percent: z.number().min(0).max(MARGIN_PERCENT_MAX).optional(),
    enabled: z.boolean().optional(),
    models: z.array(modelSchema).min(1),
  })
  .refine(({ key_env, key_secret }) => key_env === undefined || key_secret === undefined, {
    path: ["key_secret"],
    message: "name key_env or key_secret, not both",
  });
const fileSchema = z.strictObject({ providers: z.array(providerSchema).min(1).max(256) });
type FileProvider = z.infer<typeof providerSchema>;
type FileModel = z.infer<typeof modelSchema>;

/** `value`: the file as TOML or JSON was read. */
export function parseProviderFile(value: unknown): Outcome<readonly ProviderSettings[], FileRefusal> {
  const problems = new ProblemList();
  const parsed = fileSchema.safeParse(value);
  if (!parsed.success) {
    problems.addIssues(parsed.error, value);
    return no(problems.refusal(WHAT));
  }
  const all: ProviderSettings[] = [];
  const seen = new Set<string>();
  for (const [at, provider] of parsed.data.providers.entries()) {
    const settings = providerSettingsSchema.safeParse(settingsOfFile(provider));
    if (settings.success) all.push(settings.data);
    else
      for (const issue of settings.error.issues)
        problems.add(["providers", at, ...fieldOf(issue.path)], provider.id, issue.message);
    if (seen.has(provider.id)) problems.add(["providers", at, "id"], provider.id, "it is in the file twice");
    seen.add(provider.id);
  }
  return problems.count === 0 ? ok(all) : no(problems.refusal(WHAT));
}

const WHAT = { code: "provider-file-invalid", title: "the providers file" } as const;

/** The file's words for the settings' fields. */
const FIELDS: Readonly<Record<string, string>> = {
  providerId: "id",
  baseUrl: "base_url",
  credential: "key_env",
  dataPolicy: "collects_data",
  requestsPerMinuteMax: "requests_per_minute",
  tokensPerMinuteMax: "tokens_per_minute",
  concurrencyMax: "concurrency",
  contextTokensMax: "context_tokens",
  outputTokensMax: "output_tokens",
};

function fieldOf(path: readonly PropertyKey[]): readonly (string | number)[] {
  return path.map((part) => (typeof part === "number" ? part : (FIELDS[String(part)] ?? String(part))));
}

function settingsOfFile(provider: FileProvider): unknown {
  const { key_env, key_secret } = provider;
  return {
    providerId: provider.id,
    name: provider.name ?? provider.id,
    baseUrl: provider.base_url.replace(/\/+$/, ""),
    credential:
      key_env !== undefined
        ? { kind: "environment", variable: key_env }
        : key_secret !== undefined
          ? { kind: "secret", name: key_secret }
          : null,
    regions: provider.regions ?? [],
    dataPolicy: dataPolicyOf({ collectsData: provider.collects_data, isZeroRetention: provider.zero_retention }),
    requestsPerMinuteMax: provider.requests_per_minute ?? null,
    tokensPerMinuteMax: provider.tokens_per_minute ?? null,
    concurrencyMax: provider.concurrency ?? PROVIDER_DEFAULTS.concurrencyMax,
    models: provider.models.map((model) =>
      modelOfFile(model, provider.margin_percent ?? PROVIDER_DEFAULTS.marginPercent),
    ),
    isEnabled: provider.enabled ?? true,
  };
}

function modelOfFile(model: FileModel, marginPercent: number): unknown {
  const cost = priceOfUsd({ inputUsd: model.cost_in_usd, outputUsd: model.cost_out_usd });
  const withMargin = pricedWithMargin(cost, marginPercent);
  return {
    modelId: modelId(model.id),
    upstreamModel: model.upstream ?? model.id,
    cost,
    price: {
      inputMicroUsdPerMtok: microUsdPerMtok(model.price_in_usd) ?? withMargin.inputMicroUsdPerMtok,
      outputMicroUsdPerMtok: microUsdPerMtok(model.price_out_usd) ?? withMargin.outputMicroUsdPerMtok,
    },
    contextTokensMax: model.context_tokens ?? PROVIDER_DEFAULTS.contextTokensMax,
    outputTokensMax: model.output_tokens ?? null,
    quantisation: model.quantisation?.toLowerCase() ?? null,
  };
}

/** Of whom nobody said that he keeps nothing, it is assumed: a rule against collecting must not rest on silence. */
export function dataPolicyOf(said: {
  collectsData?: boolean | undefined;
  isZeroRetention?: boolean | undefined;
}): DataPolicy {
  const isZeroRetention = said.isZeroRetention ?? false;
  return { collectsData: said.collectsData ?? !isZeroRetention, isZeroRetention };
}

/** USD per million tokens as micro-USD, to the nearest. */
export function priceOfUsd({ inputUsd, outputUsd }: { inputUsd: number; outputUsd: number }): TokenPrice {
  return { inputMicroUsdPerMtok: Math.round(inputUsd * 1e6), outputMicroUsdPerMtok: Math.round(outputUsd * 1e6) };
}

/** A cost and a margin on it, rounded up: a margin never turns into a loss. */
export function pricedWithMargin(cost: TokenPrice, marginPercent: number): TokenPrice {
  const basisPoints = Math.round(marginPercent * 100);
  const raised = (amount: number) =>
    Math.min(PRICE_MICRO_USD_PER_MTOK_MAX, amount + Math.ceil((amount * basisPoints) / 10_000));
  return {
    inputMicroUsdPerMtok: raised(cost.inputMicroUsdPerMtok),
    outputMicroUsdPerMtok: raised(cost.outputMicroUsdPerMtok),
  };
}

function microUsdPerMtok(amountUsd: number | undefined): number | undefined {
  return amountUsd === undefined ? undefined : Math.round(amountUsd * 1e6);
}
