/** From the API's words to preferences, and one layer of words over another. */
import { type MicroUsd, microUsd } from "../../domain/money.ts";
import {
  type GridWords,
  type MaxPriceWords,
  NO_PREFERENCES,
  type PreferenceWords,
  type PriceCaps,
  type ProviderWords,
  type RoutePreferences,
} from "../../domain/preferences.ts";

/** Field by field: what `over` says holds, where it says nothing `under` does. A cap of `max_price` is a field of its own. */
export function overlayWords(over: PreferenceWords | null, under: PreferenceWords | null): PreferenceWords {
  const provider = overlay<ProviderWords>(over?.provider, under?.provider);
  const grid = overlay<GridWords>(over?.grid, under?.grid);
  const maxPrice = overlay<MaxPriceWords>(over?.provider?.max_price, under?.provider?.max_price);
  if (Object.keys(maxPrice).length > 0) Object.assign(provider, { max_price: maxPrice });
  return { ...(isEmpty(provider) ? {} : { provider }), ...(isEmpty(grid) ? {} : { grid }) };
}

function isEmpty(words: object): boolean {
  return Object.keys(words).length === 0;
}

function overlay<Words extends object>(
  over: Words | null | undefined,
  under: Words | null | undefined,
): Partial<Words> {
  const said: Partial<Words> = {};
  for (const words of [under, over]) {
    if (words === null || words === undefined) continue;
    let key: keyof Words;
    for (key in words) if (words[key] !== null && words[key] !== undefined) said[key] = words[key];
  }
  return said;
}

export function preferencesIn(words: PreferenceWords | null): RoutePreferences {
  const provider: ProviderWords = words?.provider ?? {};
  const grid: GridWords = words?.grid ?? {};
  return {
    order: provider.order ?? null,
    only: provider.only ?? null,
    ignore: provider.ignore ?? [],
    allowFallbacks: provider.allow_fallbacks ?? true,
    sort: provider.sort ?? null,
    maxPrice: capsIn(provider.max_price ?? {}),
    quantisations: provider.quantizations?.map((name) => name.toLowerCase()) ?? null,
    dataCollection: provider.data_collection ?? "allow",
    requiresZeroRetention: provider.zdr ?? false,
    regions: grid.regions ?? null,
    excludedRegions: grid.exclude_regions ?? [],
    deadlineMs: isSaid(grid.deadline_s) ? Math.ceil(grid.deadline_s * 1_000) : null,
    maxCostMicroUsd: isSaid(grid.max_cost_usd) ? microOf(grid.max_cost_usd) : null,
    confidentiality: grid.confidentiality ?? NO_PREFERENCES.confidentiality,
    verification: grid.verification ?? NO_PREFERENCES.verification,
    hybrid: grid.hybrid ?? null,
    trustMin: grid.trust_min ?? null,
    wantsReceipt: grid.receipt ?? false,
  };
}

/** USD per million tokens are micro-USD per token's millionth: the same factor as of an amount. */
function capsIn(words: MaxPriceWords): PriceCaps {
  return {
    promptMicroUsdPerMtok: isSaid(words.prompt) ? microOf(words.prompt) : null,
    completionMicroUsdPerMtok: isSaid(words.completion) ? microOf(words.completion) : null,
    requestMicroUsd: isSaid(words.request) ? microOf(words.request) : null,
  };
}

/** Down: a cap is never above what was said. Rounded to a thousandth of a micro-USD first, since 0.29 dollars are no exact number. */
function microOf(usd: number | string): MicroUsd {
  return microUsd(Math.floor(Math.round(Number(usd) * 1e9) / 1e3));
}

function isSaid<T>(value: T | null | undefined): value is T {
  return value !== null && value !== undefined;
}
