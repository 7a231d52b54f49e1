/** From options of the command line to what the operator's API takes: limits of keys and tenants, preferences of keys. */
import type { GridWords, KeyPreferences, PreferenceWords, ProviderWords } from "../domain/preferences.ts";
import { overlayWords } from "../scheduler/tiers/preference-words.ts";
import { preferenceWordsSchema } from "../wire/openai/preferences.ts";
import { CliError } from "./cli-error.ts";
import { EXIT } from "./exit-codes.ts";

/** `none` takes it away. */
type Limit = number | "none";

export interface LimitOptions {
  readonly rpm?: Limit;
  readonly tpm?: Limit;
  /** Dollars. */
  readonly budget?: Limit;
  readonly monthly?: Limit;
  readonly models?: string;
}

export interface PreferenceOptions {
  readonly region?: string;
  readonly excludeRegion?: string;
  readonly maxCost?: number;
  readonly maxPricePrompt?: number;
  readonly maxPriceCompletion?: number;
  readonly hybrid?: string;
  readonly confidentiality?: string;
  readonly trustMin?: number;
  readonly deadline?: number;
  readonly providerOnly?: string;
  readonly providerIgnore?: string;
  readonly denyDataCollection?: boolean;
  readonly zdr?: boolean;
  readonly asDefault?: boolean;
}

/** Null takes a limit away; what was not named is left out. */
export function limitsBody(options: LimitOptions): Readonly<Record<string, unknown>> {
  const { rpm, tpm, budget, monthly, models } = options;
  return {
    ...(rpm === undefined ? {} : { requestsPerMinuteMax: rpm === "none" ? null : rpm }),
    ...(tpm === undefined ? {} : { tokensPerMinuteMax: tpm === "none" ? null : tpm }),
    ...(budget === undefined ? {} : { budgetMicroUsd: microOf(budget) }),
    ...(monthly === undefined ? {} : { monthlyBudgetMicroUsd: microOf(monthly) }),
    ...(models === undefined ? {} : { models: models === "all" ? null : listOf(models) }),
  };
}

/** A key is made without limits, so one that is taken away is one that is not named. */
export function namedLimits(options: LimitOptions): Readonly<Record<string, unknown>> {
  return Object.fromEntries(Object.entries(limitsBody(options)).filter(([, value]) => value !== null));
}

/** What is named goes over what the key has, in its rules or its defaults; null when nothing is named. */
export function preferencesBody(options: PreferenceOptions, before: KeyPreferences | null): KeyPreferences | null {
  const words = wordsOf(options);
  if (words === null) return null;
  const { defaults = null, rules = null } = before ?? {};
  if (options.asDefault === true) return { defaults: overlayWords(words, defaults), rules };
  return { defaults, rules: overlayWords(words, rules) };
}

function wordsOf(options: PreferenceOptions): PreferenceWords | null {
  const grid: Record<keyof GridWords, unknown> = {
    regions: listOf(options.region),
    exclude_regions: listOf(options.excludeRegion),
    deadline_s: options.deadline,
    max_cost_usd: options.maxCost,
    confidentiality: options.confidentiality,
    verification: undefined,
    hybrid: options.hybrid,
    trust_min: options.trustMin,
    receipt: undefined,
  };
  const provider: Partial<Record<keyof ProviderWords, unknown>> = {
    only: listOf(options.providerOnly),
    ignore: listOf(options.providerIgnore),
    data_collection: options.denyDataCollection === true ? "deny" : undefined,
    zdr: options.zdr,
    max_price: capsOf(options),
  };
  const isSaid = (words: object) => Object.values(words).some((value) => value !== undefined);
  if (!isSaid(grid) && !isSaid(provider)) return null;
  const parsed = preferenceWordsSchema.safeParse({ grid, provider });
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0];
  throw new CliError(`${issue?.path.join(".") ?? "a preference"}: ${issue?.message ?? "does not fit"}`, {
    exitCode: EXIT.usage,
    code: "usage",
    fix: "see docs/tiers.md for what preferences there are",
  });
}

function capsOf({ maxPricePrompt: prompt, maxPriceCompletion: completion }: PreferenceOptions) {
  return prompt === undefined && completion === undefined ? undefined : { prompt, completion };
}

function listOf(text: string): readonly string[];
function listOf(text: string | undefined): readonly string[] | undefined;
function listOf(text: string | undefined): readonly string[] | undefined {
  return text?.split(",").map((part) => part.trim());
}

function microOf(dollars: Limit): number | null {
  return dollars === "none" ? null : Math.round(dollars * 1e6);
}
