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
