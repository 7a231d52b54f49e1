/**
 * What a request would be answered, tier by tier, from the same plan, route decision and outlook that it would meet if it were sent at this
 * moment. Nothing is held, queued, counted against a budget or run; what would be held is the bound of what it can cost.
 */
import type { GridOutlook } from "../../../domain/generation.ts";
import { sha256Hex } from "../../../domain/ids.ts";
import { addUsd, formatUsd, type MicroUsd, priced, type TokenPrice } from "../../../domain/money.ts";
import type { Refusal } from "../../../domain/refusal.ts";
import { SERVICE_TIERS, type ServiceTier, TIER_PROMISES } from "../../../domain/tier.ts";
import { holdAmount } from "../../../market/hold.ts";
import type { RouteCandidate, RouteDecision, RouteLoser } from "../../../scheduler/tiers/route-question.ts";
import type { Quote, TierQuote } from "../../../wire/openai/quote.ts";
import { ERROR_TABLE } from "../error-table.ts";
import type { GatewayState } from "../gateway-state.ts";
import type { DecideOn, RoutePlan } from "../inference-routes.ts";
import { type AskedTerms, askedTerms } from "../plans/asked-terms.ts";
import type { PlannedRequest, PlanRequest } from "../plans/plan-request.ts";
import { pricingOf } from "./model-list.ts";

export interface QuoteAsked extends Omit<PlanRequest<unknown>, "body"> {
  readonly endpoint: string;
  readonly request: PlannedRequest;
}

export function quoteOf(state: GatewayState, asked: QuoteAsked): Quote {
  const { request, exchange, endpoint } = asked;
  const { planned, onGrid } = request;
  const own = lookAt(state, asked, { plan: planned, tier: planned.tier });
  const expected = expectedTokens(planned, own.outlook);
  const constraints = own.on === null ? undefined : planned.terms(own.on).constraints;
  const tokensNeeded = planned.promptTokens + planned.outputTokensMax;
  const question = onGrid === null ? null : { modelId: onGrid.manifest.modelId, constraints, tokensNeeded };
  return {
    object: "grid.quote",
    created: Math.floor(exchange.createdAtMs / 1_000),
    endpoint,
    model: exchange.modelId ?? "",
    tokens: {
      prompt: planned.promptTokens,
      completion_max: planned.outputTokensMax * planned.choices,
      completion_expected: expected,
      choices: planned.choices,
    },
    tiers: SERVICE_TIERS.map((tier) => tierQuote(state, asked, tier)),
    nodes: (question === null ? [] : (state.deps.nodes?.places(question) ?? [])).map((place) => ({
      node_class: place.nodeClass,
      region: place.region,
      nodes: place.nodes,
      ready_replicas: place.readyReplicas,
      obstacle: place.obstacle,
    })),
  };
}

function tierQuote(state: GatewayState, asked: QuoteAsked, tier: ServiceTier): TierQuote {
  const terms = termsIn(asked, tier);
  const isRequested = asked.request.asked.tier === tier;
  const head = { service_tier: tier, promise: TIER_PROMISES[tier], is_requested: isRequested };
  if ("code" in terms) return { ...head, ...NOTHING, refusal: refusalRow(terms) };
  const plan = asked.request.planned.forTerms(terms);
  const { outlook, decision, price } = lookAt(state, asked, { plan, tier });
  const refusal = decision === null ? (outlook?.refusal ?? null) : decision.ok ? null : decision.reason;
  const candidates = decision?.ok === true ? decision.candidates : [];
  const [first] = candidates;
  const firstPrice = first?.price ?? price;
  const expected = expectedTokens(plan, outlook);
  const bound = decision?.ok === true ? decision.holdMicroUsd : price === null ? null : mostOf(plan, price);
  return {
    ...head,
    can_run: refusal === null,
    refusal: refusal === null ? null : refusalRow(refusal),
    pricing: firstPrice === null ? null : pricingOf(firstPrice),
    expected_cost_usd:
      firstPrice === null || expected === null ? null : formatUsd(costOf(plan.promptTokens, expected, firstPrice)),
    max_cost_usd: bound === null ? null : formatUsd(bound),
    eta_ms: whole(first === undefined || first.kind === "grid" ? (outlook?.firstTokenMs ?? null) : first.etaMs),
    queue_position: outlook?.queuePosition ?? null,
    candidates: candidates.map(candidateRow),
    forbidden: (decision?.losers ?? []).map(loserRow),
  };
}

const NOTHING = {
  can_run: false,
  pricing: null,
  expected_cost_usd: null,
  max_cost_usd: null,
  eta_ms: null,
  queue_position: null,
  candidates: [],
  forbidden: [],
};

/** Of no request: what is asked about is what would become of one like it. */
const NO_REQUEST = sha256Hex("0".repeat(64));

interface Look {
  readonly on: DecideOn | null;
  readonly price: TokenPrice | null;
  readonly outlook: GridOutlook | null;
  readonly decision: RouteDecision | null;
}

function lookAt(state: GatewayState, asked: QuoteAsked, by: { plan: RoutePlan; tier: ServiceTier }): Look {
  const { plan, tier } = by;
  const { onGrid } = asked.request;
  const price = onGrid === null ? null : state.deps.models.priceOf(onGrid.manifest, tier);
  const { requestId } = asked.exchange;
  const requestSha256 = NO_REQUEST;
  const on =
    onGrid === null || price === null
      ? null
      : { requestId, requestSha256, key: asked.key, price, manifest: onGrid.manifest };
  const question = on === null ? null : { terms: plan.terms(on), ...plan.largest };
  const outlook = question === null ? null : (state.deps.dispatch.outlook?.(question) ?? null);
  return { on, price, outlook, decision: plan.decide?.(on, { always: true }) ?? null };
}

/** The request as it would be under another tier; its preferences may not hold there. */
function termsIn(asked: QuoteAsked, tier: ServiceTier): AskedTerms | Refusal {
  const { request, headers, key } = asked;
  const terms = askedTerms({ ...request.words, service_tier: tier }, { headers, key });
  return terms.ok ? terms.value : terms.reason;
}

function expectedTokens(plan: RoutePlan, outlook: GridOutlook | null): number | null {
  if (plan.outputTokensMax === 0) return 0;
  const share = outlook?.outputShare;
  return share === undefined ? null : Math.ceil(plan.outputTokensMax * share) * plan.choices;
}

function costOf(promptTokens: number, outputTokens: number, price: TokenPrice): MicroUsd {
  return addUsd(
    priced({ tokens: promptTokens, microUsdPerMtok: price.inputMicroUsdPerMtok, round: "up" }),
    priced({ tokens: outputTokens, microUsdPerMtok: price.outputMicroUsdPerMtok, round: "up" }),
  );
}

function mostOf(plan: RoutePlan, price: TokenPrice): MicroUsd {
  const { promptTokens, outputTokensMax: maxTokens, choices } = plan;
  return holdAmount({ promptTokens, maxTokens, choices, price });
}

function candidateRow(candidate: RouteCandidate) {
  return {
    provider: candidate.kind === "grid" ? "grid" : candidate.providerId,
    pricing: pricingOf(candidate.price),
    max_cost_usd: formatUsd(candidate.mostMicroUsd),
    eta_ms: whole(candidate.etaMs),
  };
}

function loserRow({ who, rule, detail, retryAfterMs }: RouteLoser) {
  return { provider: who, rule, why: detail, retry_after_ms: whole(retryAfterMs) };
}

function refusalRow({ code, message, retryAfterMs }: Refusal) {
  return { code: ERROR_TABLE[code].code, message, retry_after_ms: whole(retryAfterMs) };
}

function whole(ms: number | null): number | null {
  return ms === null ? null : Math.round(ms);
}
