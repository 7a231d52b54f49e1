/**
 * What holds for one request of what its body, its headers and its key say. The body goes over the headers, both go over the key's
 * defaults, field by field; then the key's rules narrow what came out, and whatever cannot be kept together is refused with the
 * names of both. Nothing is ever widened or dropped.
 *
 * | field                                         | request under a key's rule                                |
 * | --------------------------------------------- | --------------------------------------------------------- |
 * | regions, provider.only, quantizations         | those in both; refused when that leaves none               |
 * | exclude_regions, provider.ignore              | those in either                                            |
 * | max_price, max_cost_usd, deadline_s           | the smaller                                                |
 * | trust_min                                     | the larger                                                 |
 * | confidentiality, verification                 | the narrower                                               |
 * | data_collection deny, zdr, no allow_fallbacks | once said, holds                                           |
 * | hybrid                                        | what both allow; refused when one says grid and one cloud  |
 * | order, sort, receipt                          | the request's, else the rule's: they forbid nothing        |
 */
import {
  CONFIDENTIALITIES,
  GRID_PROVIDER,
  type HybridMode,
  type KeyPreferences,
  type PreferenceWords,
  type RoutePreferences,
  VERIFICATIONS,
} from "../../domain/preferences.ts";
import { type Outcome, ok, refuse } from "../../domain/refusal.ts";
import type { ServiceTier } from "../../domain/tier.ts";
import { conflictOf } from "./preference-conflicts.ts";
import { overlayWords, preferencesIn } from "./preference-words.ts";
import { hybridOf } from "./route-rules.ts";

export interface PreferenceSources {
  readonly body: PreferenceWords | null;
  readonly headers: PreferenceWords | null;
  readonly key: KeyPreferences | null;
  readonly tier: ServiceTier;
}

export function mergePreferences(sources: PreferenceSources): Outcome<RoutePreferences> {
  const { body, headers, key, tier } = sources;
  const request = overlayWords(body, headers);
  const wished = withNamedProviders(preferencesIn(overlayWords(request, key?.defaults ?? null)));
  const own = conflictOf(wished, "said");
  if (own !== null) return own;
  const unkept = firstUnkept(wished);
  if (unkept !== null) return unkept;
  if (key === null || key.rules === null) return ok(wished);
  const narrowed = narrow(wished, withNamedProviders(preferencesIn(key.rules)), tier);
  if (!narrowed.ok) return narrowed;
  return firstUnkept(narrowed.value) ?? conflictOf(narrowed.value, "left") ?? narrowed;
}

/** Whoever names a cloud provider to run on allows it. */
function withNamedProviders(preferences: RoutePreferences): RoutePreferences {
  const { hybrid, only, order } = preferences;
  if (hybrid !== null) return preferences;
  if (only !== null && !only.includes(GRID_PROVIDER)) return { ...preferences, hybrid: "cloud-only" };
  const named = [...(only ?? []), ...(order ?? [])].some((name) => name !== GRID_PROVIDER);
  return named ? { ...preferences, hybrid: "cloud-fallback" } : preferences;
}

/** What the grid cannot keep yet is refused by its name: a promise that nobody keeps is worse than none. */
function firstUnkept({ confidentiality, verification }: RoutePreferences): Outcome<never> | null {
  if (confidentiality === "tee") {
    const message =
      "grid.confidentiality 'tee' is not supported: no node or provider here proves a trusted execution environment; one of 'public', 'verified-owner', 'own-nodes' is";
    return refuse("unsupported-parameter", message, { param: "grid.confidentiality" });
  }
  if (verification === "none") return null;
  const message = `grid.verification '${verification}' is not supported: answers are not checked by a second node here; leave it out, or send 'none'`;
  return refuse("unsupported-parameter", message, { param: "grid.verification" });
}

function narrow(wish: RoutePreferences, rule: RoutePreferences, tier: ServiceTier): Outcome<RoutePreferences> {
  const regions = both(wish.regions, rule.regions);
  if (regions?.length === 0) return nothingLeft("grid.regions", wish.regions, rule.regions);
  const only = both(wish.only, rule.only);
  if (only?.length === 0) return nothingLeft("provider.only", wish.only, rule.only);
  const quantisations = both(wish.quantisations, rule.quantisations);
  if (quantisations?.length === 0) return nothingLeft("provider.quantizations", wish.quantisations, rule.quantisations);
  const hybrid = narrowHybrid(wish, rule, tier);
  if (!hybrid.ok) return hybrid;
  return ok({
    order: wish.order ?? rule.order,
    only,
    ignore: either(wish.ignore, rule.ignore),
    allowFallbacks: wish.allowFallbacks && rule.allowFallbacks,
    sort: wish.sort ?? rule.sort,
    maxPrice: {
      promptMicroUsdPerMtok: smaller(wish.maxPrice.promptMicroUsdPerMtok, rule.maxPrice.promptMicroUsdPerMtok),
      completionMicroUsdPerMtok: smaller(
        wish.maxPrice.completionMicroUsdPerMtok,
        rule.maxPrice.completionMicroUsdPerMtok,
      ),
      requestMicroUsd: smaller(wish.maxPrice.requestMicroUsd, rule.maxPrice.requestMicroUsd),
    },
    quantisations,
    dataCollection: rule.dataCollection === "deny" ? "deny" : wish.dataCollection,
    requiresZeroRetention: wish.requiresZeroRetention || rule.requiresZeroRetention,
    regions,
    excludedRegions: either(wish.excludedRegions, rule.excludedRegions),
    deadlineMs: smaller(wish.deadlineMs, rule.deadlineMs),
    maxCostMicroUsd: smaller(wish.maxCostMicroUsd, rule.maxCostMicroUsd),
    confidentiality: later(CONFIDENTIALITIES, wish.confidentiality, rule.confidentiality),
    verification: later(VERIFICATIONS, wish.verification, rule.verification),
    hybrid: hybrid.value,
    trustMin: larger(wish.trustMin, rule.trustMin),
    wantsReceipt: wish.wantsReceipt || rule.wantsReceipt,
  });
}

/** Grid first in each; `cloud-fallback` turns to the cloud for more reasons than `prefer-grid`. */
const WITHIN: Readonly<Record<HybridMode, readonly HybridMode[]>> = {
  "grid-only": ["grid-only"],
  "prefer-grid": ["grid-only", "prefer-grid"],
  "cloud-fallback": ["grid-only", "prefer-grid", "cloud-fallback", "cloud-only"],
  "cloud-only": ["cloud-only"],
};

function narrowHybrid(wish: RoutePreferences, rule: RoutePreferences, tier: ServiceTier): Outcome<HybridMode | null> {
  const limit = rule.hybrid;
  if (limit === null) return ok(wish.hybrid);
  const wanted = hybridOf(tier, wish);
  if (WITHIN[limit].includes(wanted)) return ok(wish.hybrid ?? wanted);
  if (WITHIN[wanted].includes(limit)) return ok(limit);
  // The tier's own way is no wish: under a rule of cloud-only a default request goes to the cloud.
  if (wish.hybrid === null) return ok(limit);
  const message = `grid.hybrid '${wish.hybrid}' and the rule '${limit}' of this key exclude each other: the one forbids where the other has to run`;
  return refuse("invalid-request", message, { param: "grid.hybrid" });
}

function nothingLeft(name: string, wish: readonly string[] | null, rule: readonly string[] | null): Outcome<never> {
  const message = `${name} ${shown(wish)} and this key's rule ${shown(rule)} have nothing in common: a request can only narrow the rules of its key`;
  return refuse("invalid-request", message, { param: name });
}

export function shown(names: readonly string[] | null): string {
  return JSON.stringify(names ?? []);
}

function both(a: readonly string[] | null, b: readonly string[] | null): readonly string[] | null {
  if (a === null) return b;
  return b === null ? a : a.filter((name) => b.includes(name));
}

function either(a: readonly string[], b: readonly string[]): readonly string[] {
  return [...new Set([...a, ...b])];
}

function smaller<Value extends number>(a: Value | null, b: Value | null): Value | null {
  if (a === null) return b;
  return b === null || a <= b ? a : b;
}

function larger(a: number | null, b: number | null): number | null {
  if (a === null) return b;
  return b === null || a >= b ? a : b;
}

function later<Value>(order: readonly Value[], a: Value, b: Value): Value {
  return order.indexOf(a) >= order.indexOf(b) ? a : b;
}
