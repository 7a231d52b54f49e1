/**
 * Asks for the decision where a request runs, with what the grid and the cloud say at this moment. Null where there is nothing to decide: the
 * grid has the model, no rule of the caller needs looking at, and no provider may take it; dispatch alone then says yes or no.
 */
import type { Dispatch, GridOutlook, RequestConstraints, RequestTerms } from "../../../domain/generation.ts";
import type { ModelId } from "../../../domain/ids.ts";
import type { TokenPrice } from "../../../domain/money.ts";
import type { RoutePreferences } from "../../../domain/preferences.ts";
import type { Clock } from "../../../ports/clock.ts";
import type { Cloud } from "../../../ports/cloud.ts";
import { chooseRoute } from "../../../scheduler/tiers/choose-route.ts";
import type { GridFacts, RequestNeeds, RouteDecision } from "../../../scheduler/tiers/route-question.ts";
import { hybridOf } from "../../../scheduler/tiers/route-rules.ts";
import type { GenerationPlan } from "../plans/generation-plan.ts";

export interface RouteSources {
  readonly clock: Clock;
  readonly dispatch: Pick<Dispatch, "outlook">;
  readonly cloud?: Cloud;
}

export interface GridSide {
  /** As dispatch would be asked. */
  readonly terms: () => RequestTerms;
  readonly price: TokenPrice;
  readonly quantisation: string;
  readonly contextTokensMax: number;
  readonly readyReplicas: () => number;
}

export interface DecideOptions {
  /** Also where there is nothing to decide: who asks wants to see all that could be, and why the rest could not. */
  readonly always: boolean;
}

/** `grid`: null where only providers have the model. */
export function decideRoute(
  sources: RouteSources,
  plan: GenerationPlan,
  grid: GridSide | null,
  options: DecideOptions = { always: false },
): RouteDecision | null {
  const { modelId } = plan.model.manifest;
  const { preferences, tier } = plan;
  const clouds = plan.cloud === undefined ? [] : (sources.cloud?.offers(modelId) ?? []);
  const mayOverflow = clouds.length > 0 && hybridOf(tier, preferences) !== "grid-only";
  if (grid !== null && !options.always && !mayOverflow && !hasRules(preferences)) return null;
  return chooseRoute({
    modelId,
    tier,
    preferences,
    request: needsOf(plan),
    grid: grid === null ? null : factsOf(sources, plan, grid),
    clouds,
    nowMs: sources.clock.wallMs(),
  });
}

/** Embeddings run on the grid only: nobody else has the vectors of this very file. Null as for generations. */
export function decideEmbedding(
  sources: RouteSources,
  plan: EmbeddingFacts,
  grid: GridSide,
  options: DecideOptions = { always: false },
): RouteDecision | null {
  const { modelId } = plan.model.manifest;
  const { preferences, tier, promptTokens } = plan;
  if (!options.always && !hasRules(preferences)) return null;
  const longest = Math.max(...plan.inputs.map((input) => input.length));
  const own = { kind: "completion", hasTools: false, hasJson: false, hasTokenIds: true, hasLogprobs: false } as const;
  const counts = {
    promptTokens,
    promptTokensLikely: promptTokens,
    outputTokensMax: 0,
    isOutputAsked: true,
    choices: 1,
  };
  return chooseRoute({
    modelId,
    tier,
    preferences,
    request: { ...own, ...counts },
    grid: gridFacts(sources, grid, { promptTokens: longest, tokensMax: 0 }),
    clouds: [],
    nowMs: sources.clock.wallMs(),
  });
}

interface EmbeddingFacts extends Pick<GenerationPlan, "tier" | "preferences" | "promptTokens"> {
  readonly model: { readonly manifest: { readonly modelId: ModelId } };
  readonly inputs: readonly (readonly number[])[];
}

/** What of the preferences the grid's own nodes are held to by dispatch; undefined where it is nothing. */
export function constraintsOf(preferences: RoutePreferences): RequestConstraints | undefined {
  const { regions, excludedRegions, trustMin } = preferences;
  if (regions === null && excludedRegions.length === 0 && trustMin === null) return undefined;
  return { regions, trustMin, priceMicroUsdPerHourMax: null, excludedRegions };
}

/** Whether a rule may keep the grid out, or has to be named when nothing is left. */
function hasRules(preferences: RoutePreferences): boolean {
  const { only, ignore, maxPrice, quantisations, maxCostMicroUsd, hybrid } = preferences;
  return (
    only !== null ||
    ignore.length > 0 ||
    hybrid === "cloud-only" ||
    quantisations !== null ||
    maxCostMicroUsd !== null ||
    maxPrice.promptMicroUsdPerMtok !== null ||
    maxPrice.completionMicroUsdPerMtok !== null ||
    maxPrice.requestMicroUsd !== null ||
    preferences.confidentiality !== "public" ||
    preferences.verification !== "none" ||
    constraintsOf(preferences) !== undefined
  );
}

function needsOf(plan: GenerationPlan): RequestNeeds {
  const { promptTokens, tokensMax, choices, topLogprobs, grammar } = plan;
  const own = { kind: "chat", hasTools: false, hasJson: grammar !== null, hasTokenIds: false } as const;
  return {
    ...own,
    hasLogprobs: topLogprobs !== null,
    ...plan.cloud?.needs,
    promptTokens,
    promptTokensLikely: plan.promptTokensLikely ?? promptTokens,
    outputTokensMax: tokensMax,
    isOutputAsked: plan.isTokensMaxAsked,
    choices: choices.length,
  };
}

function factsOf(sources: RouteSources, plan: GenerationPlan, grid: GridSide): GridFacts {
  const promptTokens = Math.max(...plan.choices.map(({ promptTokenIds }) => promptTokenIds.length));
  return gridFacts(sources, grid, { promptTokens, tokensMax: plan.tokensMax });
}

function gridFacts(
  sources: RouteSources,
  grid: GridSide,
  size: { readonly promptTokens: number; readonly tokensMax: number },
): GridFacts {
  const question = { terms: grid.terms(), ...size };
  const outlook: GridOutlook = sources.dispatch.outlook?.(question) ?? {
    refusal: null,
    waitMs: 0,
    firstTokenMs: 0,
    readyReplicas: grid.readyReplicas(),
    regions: [],
  };
  const { price, quantisation, contextTokensMax } = grid;
  return { price, quantisation: quantisation.toLowerCase(), contextTokensMax, outlook, tokPerSecond: null };
}
