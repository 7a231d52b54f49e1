/**
 * Where a request may run, as callers write it: `provider` with OpenRouter's fields and meaning, and our own `grid`. A client that
 * cannot add fields sends the same as headers, `x-provider-*` and `x-grid-*`. Whatever is not listed here is refused by its name:
 * a rule that is misspelt and then ignored would let a prompt out of its region.
 *
 * What the words mean together (and with those of the key) is decided in scheduler/tiers/merge-preferences.ts.
 */
import { z } from "zod";
import {
  CONFIDENTIALITIES,
  type GridWords,
  HYBRID_MODES,
  type PreferenceWords,
  type ProviderWords,
  ROUTE_SORTS,
  VERIFICATIONS,
} from "../../domain/preferences.ts";
import { PROVIDER_ID_PATTERN } from "../../domain/provider.ts";
import { REGION_PATTERN } from "../../domain/region.ts";
import { REQUESTED_TIERS } from "../../domain/tier.ts";

export const PREFERENCE_BOUNDS = {
  /** More providers, regions or quantisations than anybody lists by hand. */
  listMax: 64,
  /** Above any price; a slip of the unit shows. */
  usdMax: 1_000_000,
  /** A day: what is not answered by then is a batch. */
  deadlineSecondsMax: 86_400,
} as const;

const list = (item: z.ZodString) => z.array(item).min(1).max(PREFERENCE_BOUNDS.listMax).readonly();
const providerId = z
  .string()
  .regex(PROVIDER_ID_PATTERN, "expected ids of providers in lower case, or `grid` for the grid's own nodes");
const region = z.string().regex(REGION_PATTERN, "expected names of regions such as eu or us-east");
const quantisation = z
  .string()
  .regex(/^[A-Za-z0-9][A-Za-z0-9_.-]{0,31}$/, "expected names of quantisations such as q8_0 or fp16");
/** OpenRouter takes numbers and decimal texts alike. */
const usd = z.union([
  z.number().min(0).max(PREFERENCE_BOUNDS.usdMax),
  z.string().regex(/^\d{1,6}(\.\d{1,12})?$/, "expected dollars such as 0.25"),
]);

export const providerSchema = z.strictObject({
  order: list(providerId).nullish().describe("Tried in this order, before others."),
  only: list(providerId).nullish().describe("No others."),
  ignore: list(providerId).nullish().describe("Not these."),
  allow_fallbacks: z.boolean().nullish().describe("false: only the first of `order` and `sort` is tried."),
  require_parameters: z.boolean().nullish().describe("Always so: no parameter is left out silently."),
  data_collection: z
    .enum(["allow", "deny"])
    .nullish()
    .describe("deny: no provider that keeps or trains on what it is sent."),
  zdr: z.boolean().nullish().describe("Only providers that keep nothing at all."),
  quantizations: list(quantisation).nullish(),
  sort: z.enum(ROUTE_SORTS).nullish(),
  max_price: z
    .strictObject({ prompt: usd.nullish(), completion: usd.nullish(), request: usd.nullish() })
    .nullish()
    .describe("USD per million tokens of prompt and completion, and USD for the whole request."),
}) satisfies z.ZodType<ProviderWords>;

export const gridSchema = z.strictObject({
  regions: list(region).nullish().describe("Hard: refused rather than run elsewhere."),
  exclude_regions: list(region).nullish(),
  deadline_s: z.number().min(0.001).max(PREFERENCE_BOUNDS.deadlineSecondsMax).nullish(),
  max_cost_usd: usd.nullish().describe("For the whole request; never more is held."),
  confidentiality: z.enum(CONFIDENTIALITIES).nullish(),
  verification: z.enum(VERIFICATIONS).nullish(),
  hybrid: z.enum(HYBRID_MODES).nullish(),
  trust_min: z.number().min(0).max(1).nullish(),
  receipt: z.boolean().nullish().describe("The whole receipt in the answer."),
}) satisfies z.ZodType<GridWords>;

export const preferenceFields = {
  provider: providerSchema.nullish(),
  grid: gridSchema.nullish(),
} as const;

export const preferenceWordsSchema = z.strictObject(preferenceFields) satisfies z.ZodType<PreferenceWords>;

export const keyPreferencesSchema = z.strictObject({
  defaults: preferenceWordsSchema.nullable(),
  rules: preferenceWordsSchema.nullable(),
});

/** What headers say: the words, and the tier for a client whose body has no field for it. */
export const headerWordsSchema = z.strictObject({
  ...preferenceFields,
  service_tier: z.enum(REQUESTED_TIERS).nullish(),
});
export type HeaderWords = z.infer<typeof headerWordsSchema>;

type Kind = "list" | "number" | "text" | "boolean";

/** Header, where it belongs in the words, and how its text is read. Lists are separated by commas. */
const HEADERS: Readonly<Record<string, { readonly path: readonly string[]; readonly kind: Kind }>> = {
  "x-grid-tier": { path: ["service_tier"], kind: "text" },
  "x-grid-regions": { path: ["grid", "regions"], kind: "list" },
  "x-grid-exclude-regions": { path: ["grid", "exclude_regions"], kind: "list" },
  "x-grid-deadline-s": { path: ["grid", "deadline_s"], kind: "number" },
  "x-grid-max-cost-usd": { path: ["grid", "max_cost_usd"], kind: "text" },
  "x-grid-confidentiality": { path: ["grid", "confidentiality"], kind: "text" },
  "x-grid-verification": { path: ["grid", "verification"], kind: "text" },
  "x-grid-hybrid": { path: ["grid", "hybrid"], kind: "text" },
  "x-grid-trust-min": { path: ["grid", "trust_min"], kind: "number" },
  "x-grid-receipt": { path: ["grid", "receipt"], kind: "boolean" },
  "x-provider-order": { path: ["provider", "order"], kind: "list" },
  "x-provider-only": { path: ["provider", "only"], kind: "list" },
  "x-provider-ignore": { path: ["provider", "ignore"], kind: "list" },
  "x-provider-allow-fallbacks": { path: ["provider", "allow_fallbacks"], kind: "boolean" },
  "x-provider-require-parameters": { path: ["provider", "require_parameters"], kind: "boolean" },
  "x-provider-data-collection": { path: ["provider", "data_collection"], kind: "text" },
  "x-provider-zdr": { path: ["provider", "zdr"], kind: "boolean" },
  "x-provider-quantizations": { path: ["provider", "quantizations"], kind: "list" },
  "x-provider-sort": { path: ["provider", "sort"], kind: "text" },
  "x-provider-max-price-prompt": { path: ["provider", "max_price", "prompt"], kind: "text" },
  "x-provider-max-price-completion": { path: ["provider", "max_price", "completion"], kind: "text" },
  "x-provider-max-price-request": { path: ["provider", "max_price", "request"], kind: "text" },
};

export const PREFERENCE_HEADERS: readonly string[] = Object.keys(HEADERS);

/** Ours in a request, whether it is known or not. */
const OURS = /^x-(?:grid|provider)-/;

export interface ReadHeaders {
  /** For `headerWordsSchema`; what could not be read is left as its text, so that the schema refuses it with the text. */
  readonly words: Readonly<Record<string, unknown>>;
  /** Headers with our prefix that mean nothing. */
  readonly unknown: readonly string[];
}

/** Names in lower case, as `Headers` gives them. */
export function readPreferenceHeaders(headers: Iterable<readonly [string, string]>): ReadHeaders {
  const words: Record<string, Record<string, unknown>> = {};
  const top: Record<string, unknown> = {};
  const unknown: string[] = [];
  for (const [name, text] of headers) {
    if (!OURS.test(name)) continue;
    const header = HEADERS[name];
    if (header === undefined) {
      unknown.push(name);
      continue;
    }
    const [first = "", second, third] = header.path;
    const value = readAs(text.trim(), header.kind);
    if (second === undefined) {
      top[first] = value;
      continue;
    }
    const group = words[first] ?? {};
    words[first] = group;
    if (third === undefined) group[second] = value;
    else group[second] = { ...objectAt(group[second]), [third]: value };
  }
  return { words: { ...words, ...top }, unknown };
}

/** The header that a field of the words came from, or null. `param` as in `grid.regions[0]`. */
export function headerOf(param: string): string | null {
  const plain = param.replace(/\[\d+\]/g, "");
  const found = Object.entries(HEADERS).find(([, { path }]) => path.join(".") === plain);
  return found?.[0] ?? null;
}

function objectAt(value: unknown): object {
  return typeof value === "object" && value !== null ? value : {};
}

function readAs(text: string, kind: Kind): unknown {
  switch (kind) {
    case "list":
      return text.split(",").map((part) => part.trim());
    case "number":
      return text !== "" && Number.isFinite(Number(text)) ? Number(text) : text;
    case "boolean":
      return text === "true" ? true : text === "false" ? false : text;
    case "text":
      return text;
  }
}
