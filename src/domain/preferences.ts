/**
 * What a caller wants of where his request runs, and what he forbids: OpenRouter's `provider` object and our `grid` object, with a key's
 * defaults beneath them, in one form. Schemas are in wire/openai/preferences.ts, the decision in scheduler/tiers/. Everything but
 * `order` and `sort` is hard: refused rather than broken.
 */
import type { MicroUsd } from "./money.ts";

/**
 * Where a request may run.
 *
 * | value          | grid                 | cloud                                              |
 * | -------------- | -------------------- | -------------------------------------------------- |
 * | grid-only      | yes                  | never                                              |
 * | prefer-grid    | first                | when the grid refuses, or is lost in mid-stream     |
 * | cloud-fallback | first                | as above, and when the grid would be late           |
 * | cloud-only     | never                | yes                                                |
 */
export const HYBRID_MODES = ["grid-only", "prefer-grid", "cloud-fallback", "cloud-only"] as const;
export type HybridMode = (typeof HYBRID_MODES)[number];

/** Whose machines may see the prompt; each is narrower than the one before. */
export const CONFIDENTIALITIES = ["public", "verified-owner", "own-nodes", "tee"] as const;
export type Confidentiality = (typeof CONFIDENTIALITIES)[number];

export const VERIFICATIONS = ["none", "sampled", "full", "attested"] as const;
export type Verification = (typeof VERIFICATIONS)[number];

/** `price`: cheapest first; `throughput`: most tokens a second; `latency`: earliest first token. */
export const ROUTE_SORTS = ["price", "throughput", "latency"] as const;
export type RouteSort = (typeof ROUTE_SORTS)[number];

/** Upper bounds on what a caller pays; null: none. */
export interface PriceCaps {
  readonly promptMicroUsdPerMtok: number | null;
  readonly completionMicroUsdPerMtok: number | null;
  /** For a whole request. */
  readonly requestMicroUsd: MicroUsd | null;
}

/** Providers are named by their ids; `grid` names the grid's own nodes together. Null lists: not set. */
export interface RoutePreferences {
  /** Tried in this order, before others. */
  readonly order: readonly string[] | null;
  readonly only: readonly string[] | null;
  readonly ignore: readonly string[];
  /** False: only the first that `order` and `sort` give is tried. */
  readonly allowFallbacks: boolean;
  readonly sort: RouteSort | null;
  readonly maxPrice: PriceCaps;
  /** Lower-case names, e.g. `q8_0`, `fp16`. */
  readonly quantisations: readonly string[] | null;
  /** `deny`: no provider that keeps or trains on what it is sent. */
  readonly dataCollection: "allow" | "deny";
  /** Only providers that say they keep nothing at all; the grid's own nodes keep nothing. */
  readonly requiresZeroRetention: boolean;
  /** A node or provider of unknown region is in none. */
  readonly regions: readonly string[] | null;
  readonly excludedRegions: readonly string[];
  /** From acceptance to the end of the answer. */
  readonly deadlineMs: number | null;
  /** For the whole request; the hold is never larger. */
  readonly maxCostMicroUsd: MicroUsd | null;
  readonly confidentiality: Confidentiality;
  readonly verification: Verification;
  /** Null: what the tier does without a word: `cloud-fallback` for priority, `grid-only` for the others. */
  readonly hybrid: HybridMode | null;
  /** 0 to 1; null: any. */
  readonly trustMin: number | null;
  /** The whole receipt in the answer, not only its id. */
  readonly wantsReceipt: boolean;
}

export const NO_PRICE_CAPS: PriceCaps = {
  promptMicroUsdPerMtok: null,
  completionMicroUsdPerMtok: null,
  requestMicroUsd: null,
};

export const NO_PREFERENCES: RoutePreferences = {
  order: null,
  only: null,
  ignore: [],
  allowFallbacks: true,
  sort: null,
  maxPrice: NO_PRICE_CAPS,
  quantisations: null,
  dataCollection: "allow",
  requiresZeroRetention: false,
  regions: null,
  excludedRegions: [],
  deadlineMs: null,
  maxCostMicroUsd: null,
  confidentiality: "public",
  verification: "none",
  hybrid: null,
  trustMin: null,
  wantsReceipt: false,
};

/** The name of the grid's own nodes among providers. */
export const GRID_PROVIDER = "grid";

/** As callers write them, in the API's own names and units: `provider` as OpenRouter has it, `grid` ours. `null` means absent. */
export interface PreferenceWords {
  readonly provider?: ProviderWords | null | undefined;
  readonly grid?: GridWords | null | undefined;
}

export interface ProviderWords {
  readonly order?: readonly string[] | null | undefined;
  readonly only?: readonly string[] | null | undefined;
  readonly ignore?: readonly string[] | null | undefined;
  readonly allow_fallbacks?: boolean | null | undefined;
  /** Always so here: what a provider cannot do is never left out silently. */
  readonly require_parameters?: boolean | null | undefined;
  readonly data_collection?: "allow" | "deny" | null | undefined;
  readonly zdr?: boolean | null | undefined;
  readonly quantizations?: readonly string[] | null | undefined;
  readonly sort?: RouteSort | null | undefined;
  readonly max_price?: MaxPriceWords | null | undefined;
}

/** USD per million tokens, and for a whole request. */
export interface MaxPriceWords {
  readonly prompt?: number | string | null | undefined;
  readonly completion?: number | string | null | undefined;
  readonly request?: number | string | null | undefined;
}

export interface GridWords {
  readonly regions?: readonly string[] | null | undefined;
  readonly exclude_regions?: readonly string[] | null | undefined;
  readonly deadline_s?: number | null | undefined;
  readonly max_cost_usd?: number | string | null | undefined;
  readonly confidentiality?: Confidentiality | null | undefined;
  readonly verification?: Verification | null | undefined;
  readonly hybrid?: HybridMode | null | undefined;
  readonly trust_min?: number | null | undefined;
  readonly receipt?: boolean | null | undefined;
}

/** What an operator lays under the requests of a key. */
export interface KeyPreferences {
  /** Hold where a request says nothing. */
  readonly defaults: PreferenceWords | null;
  /** Hold whatever a request says: it can only narrow them. */
  readonly rules: PreferenceWords | null;
}
