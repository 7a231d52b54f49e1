/**
 * The hard rules: each keeps a resource out or lets it in, whatever else speaks for it. The first rule that is broken is told. What nobody
 * knows of a resource breaks a rule that asks for it: a provider without a region is in no region, one whose quantisation is not told
 * has none of those that are asked for.
 */
import { formatUsd, type MicroUsd, microUsd, type TokenPrice } from "../../domain/money.ts";
import { GRID_PROVIDER, type HybridMode, type RoutePreferences } from "../../domain/preferences.ts";
import { quantisationClass } from "../../domain/quantisation-class.ts";
import type { ServiceTier } from "../../domain/tier.ts";
import { priceBound } from "../admission/price-bound.ts";
import type { CloudFacts, GridFacts, RequestNeeds, RouteLoser, RouteQuestion, RouteRule } from "./route-question.ts";

/** What the tier does where the caller says nothing. */
export function hybridOf(tier: ServiceTier, preferences: Pick<RoutePreferences, "hybrid">): HybridMode {
  return preferences.hybrid ?? (tier === "priority" ? "cloud-fallback" : "grid-only");
}

/** Who asks for a model that the grid does not have, and says nothing of where, asks for whoever has it. */
export function hybridIn({
  tier,
  preferences,
  grid,
}: Pick<RouteQuestion, "tier" | "preferences" | "grid">): HybridMode {
  return grid === null && preferences.hybrid === null ? "cloud-only" : hybridOf(tier, preferences);
}

/** Null: no rule keeps the grid out. */
export function gridLoser(question: RouteQuestion, grid: GridFacts): RouteLoser | null {
  const { preferences, request } = question;
  if (hybridOf(question.tier, preferences) === "cloud-only") {
    return lose(GRID_PROVIDER, "grid.hybrid", "hybrid is cloud-only");
  }
  const named = namedLoser(GRID_PROVIDER, preferences) ?? claimLoser(GRID_PROVIDER, preferences);
  if (named !== null) return named;
  const tokens = request.promptTokens + request.outputTokensMax;
  if (tokens > grid.contextTokensMax) {
    return lose(
      GRID_PROVIDER,
      "context",
      `its context holds ${grid.contextTokensMax} tokens, the request needs ${tokens}`,
    );
  }
  const quantisation = quantisationLoser(GRID_PROVIDER, { has: grid.quantisation, preferences });
  return quantisation ?? priceLoser(GRID_PROVIDER, { price: grid.price, preferences, request });
}

/** Null: no rule keeps the provider out. */
export function cloudLoser(question: RouteQuestion, cloud: CloudFacts): RouteLoser | null {
  const { preferences, request, tier } = question;
  const who = cloud.spec.providerId;
  if (hybridIn(question) === "grid-only") {
    const why = preferences.hybrid === null ? `what ${tier} does without a word on it` : "what the request asks for";
    return lose(who, "grid.hybrid", `hybrid is grid-only, ${why}; prefer-grid, cloud-fallback or cloud-only let it in`);
  }
  const rule =
    namedLoser(who, preferences) ??
    claimLoser(who, preferences) ??
    regionLoser(who, cloud.spec.regions, preferences) ??
    dataLoser(cloud, preferences) ??
    quantisationLoser(who, { has: cloud.model.quantisation, preferences });
  if (rule !== null) return rule;
  return (
    priceLoser(who, { price: cloud.model.price, preferences, request }) ??
    contextLoser(cloud, request) ??
    abilityLoser(cloud, request)
  );
}

/** The most that a request may cost as the caller bounds it; null: no bound. */
export function costCap({ maxCostMicroUsd, maxPrice }: RoutePreferences): MicroUsd | null {
  const caps = [maxCostMicroUsd, maxPrice.requestMicroUsd].filter((cap) => cap !== null);
  return caps.length === 0 ? null : microUsd(Math.min(...caps));
}

export function lose(who: string, rule: RouteRule, detail: string, retryAfterMs: number | null = null): RouteLoser {
  return { who, rule, detail, retryAfterMs };
}

function namedLoser(who: string, { only, ignore }: RoutePreferences): RouteLoser | null {
  if (only !== null && !only.includes(who)) return lose(who, "provider.only", `only ${listed(only)} may run it`);
  return ignore.includes(who) ? lose(who, "provider.ignore", `${who} is to be ignored`) : null;
}

/** What nobody here can promise yet is refused by its name, never taken for granted. */
function claimLoser(who: string, { confidentiality, verification }: RoutePreferences): RouteLoser | null {
  if (verification !== "none") {
    return lose(
      who,
      "grid.verification",
      `verification is ${verification}, and nothing here verifies answers yet; none is`,
    );
  }
  switch (confidentiality) {
    case "public":
      return null;
    case "verified-owner":
      return lose(
        who,
        "grid.confidentiality",
        "confidentiality is verified-owner, and nobody's identity is verified here yet",
      );
    case "own-nodes":
      return lose(
        who,
        "grid.confidentiality",
        "confidentiality is own-nodes, and nodes do not belong to tenants here yet",
      );
    case "tee":
      return lose(who, "grid.confidentiality", "confidentiality is tee, and no resource has attested hardware yet");
  }
}

function regionLoser(who: string, has: readonly string[], preferences: RoutePreferences): RouteLoser | null {
  const { regions, excludedRegions } = preferences;
  const stands = has.length === 0 ? "its region is not known" : `it computes in ${listed(has)}`;
  // A provider that may compute in several regions has to have all of them allowed: nobody can tell it which one to take.
  if (regions !== null && (has.length === 0 || !has.every((region) => regions.includes(region)))) {
    return lose(who, "grid.regions", `${stands}, allowed is ${listed(regions)}`);
  }
  if (excludedRegions.length > 0 && (has.length === 0 || has.some((region) => excludedRegions.includes(region)))) {
    return lose(who, "grid.exclude_regions", `${stands}, excluded is ${listed(excludedRegions)}`);
  }
  return null;
}

function dataLoser({ spec }: CloudFacts, preferences: RoutePreferences): RouteLoser | null {
  const { collectsData, isZeroRetention } = spec.dataPolicy;
  if (preferences.dataCollection === "deny" && collectsData) {
    return lose(
      spec.providerId,
      "provider.data_collection",
      "it keeps or trains on what it is sent, and data_collection is deny",
    );
  }
  if (preferences.requiresZeroRetention && !isZeroRetention) {
    return lose(spec.providerId, "provider.zdr", "it does not say that it keeps nothing, and zdr is asked for");
  }
  return null;
}

function quantisationLoser(
  who: string,
  by: { readonly has: string | null; readonly preferences: RoutePreferences },
): RouteLoser | null {
  const { quantisations } = by.preferences;
  if (quantisations === null || (by.has !== null && namesOf(by.has).some((name) => quantisations.includes(name))))
    return null;
  const has = by.has === null ? "does not tell its quantisation" : `runs ${by.has.toLowerCase()}`;
  return lose(who, "provider.quantizations", `it ${has}, allowed is ${listed(quantisations)}`);
}

function priceLoser(
  who: string,
  by: { readonly price: TokenPrice; readonly preferences: RoutePreferences; readonly request: RequestNeeds },
): RouteLoser | null {
  const { price, preferences, request } = by;
  const { promptMicroUsdPerMtok, completionMicroUsdPerMtok } = preferences.maxPrice;
  const caps = [
    { what: "prompt", asks: price.inputMicroUsdPerMtok, cap: promptMicroUsdPerMtok },
    { what: "completion", asks: price.outputMicroUsdPerMtok, cap: completionMicroUsdPerMtok },
  ];
  for (const { what, asks, cap } of caps) {
    if (cap === null || asks <= cap) continue;
    const detail = `a million ${what} tokens cost ${usd(asks)} USD there, at most ${usd(cap)} are allowed`;
    return lose(who, "provider.max_price", detail);
  }
  const most = mostOf(request, price);
  const cap = costCap(preferences);
  if (cap === null || most <= cap) return null;
  const rule = cap === preferences.maxCostMicroUsd ? "grid.max_cost_usd" : "provider.max_price";
  return lose(who, rule, `the request may cost ${formatUsd(most)} USD there, at most ${formatUsd(cap)} are allowed`);
}

function contextLoser({ spec, model }: CloudFacts, request: RequestNeeds): RouteLoser | null {
  const { providerId: who } = spec;
  const outputTokensMax = request.isOutputAsked ? request.outputTokensMax : 1;
  const tokens = request.promptTokensLikely + outputTokensMax;
  if (tokens > model.contextTokensMax) {
    return lose(who, "context", `its context holds ${model.contextTokensMax} tokens, the request needs ${tokens}`);
  }
  if (model.outputTokensMax !== null && outputTokensMax > model.outputTokensMax) {
    return lose(
      who,
      "context",
      `it answers with at most ${model.outputTokensMax} tokens, ${outputTokensMax} may be needed`,
    );
  }
  return null;
}

/** Abilities are found by probing: what was not probed is not there, but for plain chats, which every provider has. */
function abilityLoser({ spec, model }: CloudFacts, request: RequestNeeds): RouteLoser | null {
  const { abilities } = model;
  const lacking = [
    { isNeeded: request.hasTools, has: abilities?.tools ?? false, what: "tools" },
    { isNeeded: request.hasJson, has: abilities?.jsonSchema ?? false, what: "response_format" },
    { isNeeded: request.kind === "completion", has: abilities?.rawPrompt ?? false, what: "raw prompts" },
    // The port to providers carries none, whatever they can.
    { isNeeded: request.hasLogprobs, has: false, what: "logprobs" },
    { isNeeded: request.hasTokenIds, has: false, what: "prompts of token ids" },
  ].filter(({ isNeeded, has }) => isNeeded && !has);
  if (lacking.length === 0) return null;
  const known = abilities === null ? " (it was not probed yet)" : "";
  return lose(spec.providerId, "ability", `it does not take ${listed(lacking.map(({ what }) => what))}${known}`);
}

/** What a request costs at one price at most. */
export function mostOf(request: RequestNeeds, price: TokenPrice): MicroUsd {
  return priceBound({ ...request, price });
}

export function listed(names: readonly string[]): string {
  return names.length === 0 ? "nothing" : names.join(", ");
}

function usd(microUsdPerMtok: number): string {
  return formatUsd(microUsd(microUsdPerMtok));
}

/** By its own name, and by its class: a caller may ask for either. */
function namesOf(quantisation: string): readonly string[] {
  return [quantisation.toLowerCase(), quantisationClass(quantisation) ?? "unknown"];
}
