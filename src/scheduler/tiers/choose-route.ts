/**
 * Where a request runs: on the grid, at which cloud providers, and in which order they are tried. Pure: the same facts and wishes give the
 * same way. Hard rules (route-rules.ts) keep resources out and are never relaxed; then wishes order those that are left.
 *
 * | order by, first that tells them apart               |                                                                     |
 * | --------------------------------------------------- | ------------------------------------------------------------------- |
 * | `provider.order`                                    | named ones first, as they are named                                 |
 * | `provider.sort`                                     | price of the whole request, expected first token, or tokens a second |
 * | neither: the grid first                             | but last where it would be late and `cloud-fallback` holds          |
 * | price of the whole request, then the id             | so that there is always one order                                   |
 *
 * A resource that keeps the rules and cannot begin at this moment (a full queue, an open circuit breaker, a provider's rate) keeps its place
 * until `allow_fallbacks: false` has cut the list to its first, and is left out then: who forbids fallbacks waits rather than go elsewhere.
 */
import { addUsd, type MicroUsd, microUsd, type TokenPrice } from "../../domain/money.ts";
import { GRID_PROVIDER } from "../../domain/preferences.ts";
import type { Refusal } from "../../domain/refusal.ts";
import { routeRefusal } from "./explain-route.ts";
import { FIRST_TOKEN_MS_MAX } from "./first-token.ts";
import type {
  CloudFacts,
  RequestNeeds,
  RouteCandidate,
  RouteDecision,
  RouteLoser,
  RouteQuestion,
} from "./route-question.ts";
import { cloudLoser, costCap, gridLoser, hybridOf, listed, lose, mostOf } from "./route-rules.ts";

/** Legs of one choice: the grid, four providers, the grid again. Each part's bill is rounded up by itself. */
export const LEGS_PER_CHOICE_MAX = 6;

/** A resource that keeps the rules, and why it cannot begin at this moment. */
interface Allowed {
  readonly candidate: RouteCandidate;
  readonly obstacle: RouteLoser | null;
}

export function chooseRoute(question: RouteQuestion): RouteDecision {
  const losers: RouteLoser[] = [];
  const allowed = inOrder(question, allowedOf(question, losers));
  const kept = question.preferences.allowFallbacks ? allowed : allowed.slice(0, 1);
  for (const { candidate } of allowed.slice(kept.length)) {
    losers.push(
      lose(nameOf(candidate), "provider.allow_fallbacks", "another comes first, and fallbacks are not allowed"),
    );
  }
  const ready: RouteCandidate[] = [];
  for (const { candidate, obstacle } of kept) {
    const loser = obstacle ?? tooDearTogether(question, ready, candidate);
    if (loser === null) ready.push(candidate);
    else losers.push(loser);
  }
  if (ready.length === 0) return { ok: false, reason: routeRefusal(question, losers), losers };
  return { ok: true, candidates: ready, losers, holdMicroUsd: holdOf(question.request, ready) };
}

export function nameOf(candidate: RouteCandidate): string {
  return candidate.kind === "grid" ? GRID_PROVIDER : candidate.providerId;
}

/**
 * The most that any way over these candidates costs: a part of the tokens may be billed at each price, so the dearest of each kind counts.
 * The grid alone is billed in two lines, as it always was; parts elsewhere are rounded up one by one.
 */
export function holdOf(request: RequestNeeds, candidates: readonly RouteCandidate[]): MicroUsd {
  const price: TokenPrice = {
    inputMicroUsdPerMtok: Math.max(0, ...candidates.map((one) => one.price.inputMicroUsdPerMtok)),
    outputMicroUsdPerMtok: Math.max(0, ...candidates.map((one) => one.price.outputMicroUsdPerMtok)),
  };
  const most = mostOf(request, price);
  const isGridAlone = candidates.every((one) => one.kind === "grid");
  return isGridAlone || most === 0 ? most : addUsd(most, microUsd(request.choices * LEGS_PER_CHOICE_MAX));
}

function allowedOf(question: RouteQuestion, losers: RouteLoser[]): readonly Allowed[] {
  const { grid, request } = question;
  const allowed: Allowed[] = [];
  if (grid !== null) {
    const loser = gridLoser(question, grid);
    if (loser === null) {
      const { price, outlook, tokPerSecond } = grid;
      const terms = { price, tokPerSecond, etaMs: outlook.firstTokenMs, mostMicroUsd: mostOf(request, price) };
      allowed.push({ candidate: { kind: "grid", ...terms }, obstacle: gridObstacle(question, outlook.refusal) });
    } else losers.push(loser);
  }
  for (const cloud of question.clouds) {
    const loser = notOffered(cloud) ?? cloudLoser(question, cloud);
    if (loser !== null) {
      losers.push(loser);
      continue;
    }
    const { health, model, spec } = cloud;
    const candidate: RouteCandidate = {
      kind: "cloud",
      providerId: spec.providerId,
      model,
      price: model.price,
      etaMs: health.firstTokenMsP50,
      tokPerSecond: health.tokPerSecondP50,
      mostMicroUsd: mostOf(request, model.price),
    };
    allowed.push({ candidate, obstacle: busy(cloud, question.nowMs) });
  }
  return allowed;
}

/** The grid's own word, by the rule that it is about. */
function gridObstacle({ preferences }: RouteQuestion, refusal: Refusal | null): RouteLoser | null {
  if (refusal === null) return null;
  const { regions, excludedRegions } = preferences;
  const isForGood = refusal.code === "no-capable-node";
  if (isForGood && regions !== null) {
    return lose(GRID_PROVIDER, "grid.regions", `${refusal.message}; allowed is ${listed(regions)}`);
  }
  if (isForGood && excludedRegions.length > 0) {
    return lose(GRID_PROVIDER, "grid.exclude_regions", `${refusal.message}; excluded is ${listed(excludedRegions)}`);
  }
  return lose(GRID_PROVIDER, "capacity", refusal.message, refusal.retryAfterMs);
}

function notOffered({ spec, health }: CloudFacts): RouteLoser | null {
  if (!spec.isEnabled) return lose(spec.providerId, "not-ready", "the grid's operator has switched it off");
  return health.hasCredential
    ? null
    : lose(spec.providerId, "not-ready", "its key is not on the coordinator's machine");
}

function busy({ spec, health }: CloudFacts, nowMs: number): RouteLoser | null {
  const { providerId } = spec;
  if (health.breaker === "open") {
    const waitMs = Math.max(0, (health.opensAgainAtMs ?? nowMs) - nowMs);
    return lose(providerId, "not-ready", `it failed lately (${health.lastFailure ?? "no reason told"})`, waitMs);
  }
  if (health.freeSlots > 0) return null;
  return lose(providerId, "capacity", "all requests that it may have at a time are running", health.retryAfterMs);
}

function inOrder(question: RouteQuestion, allowed: readonly Allowed[]): readonly Allowed[] {
  const { preferences, tier } = question;
  const gridWaitMs = question.grid?.outlook.firstTokenMs ?? 0;
  const isGridLate = hybridOf(tier, preferences) === "cloud-fallback" && gridWaitMs > FIRST_TOKEN_MS_MAX[tier];
  const keysOf = ({ candidate }: Allowed): readonly number[] => [
    placeIn(preferences.order, nameOf(candidate)),
    sortKey(preferences.sort, candidate),
    candidate.kind === "grid" ? (isGridLate ? 1 : -1) : 0,
    candidate.mostMicroUsd,
  ];
  return [...allowed].sort((a, b) => {
    const [before, after] = [keysOf(a), keysOf(b)];
    for (const [at, key] of before.entries()) {
      const other = after[at] ?? 0;
      if (key !== other) return key < other ? -1 : 1;
    }
    return nameOf(a.candidate) < nameOf(b.candidate) ? -1 : 1;
  });
}

function placeIn(order: readonly string[] | null, name: string): number {
  const place = order?.indexOf(name) ?? -1;
  return place === -1 ? Number.MAX_SAFE_INTEGER : place;
}

/** What is not known comes last. */
function sortKey(sort: RouteQuestion["preferences"]["sort"], candidate: RouteCandidate): number {
  switch (sort) {
    case null:
      return 0;
    case "price":
      return candidate.mostMicroUsd;
    case "latency":
      return candidate.etaMs ?? Number.MAX_SAFE_INTEGER;
    case "throughput":
      return -(candidate.tokPerSecond ?? 0);
  }
}

/** Each alone may be below the bound and a request that runs on both above it: then it has to end where it began. */
function tooDearTogether(
  question: RouteQuestion,
  before: readonly RouteCandidate[],
  candidate: RouteCandidate,
): RouteLoser | null {
  const cap = costCap(question.preferences);
  if (cap === null || holdOf(question.request, [...before, candidate]) <= cap) return null;
  const rule = question.preferences.maxCostMicroUsd === cap ? "grid.max_cost_usd" : "provider.max_price";
  const how = before.length === 0 ? "with the rounding of its parts" : `together with ${before.map(nameOf).join(", ")}`;
  return lose(nameOf(candidate), rule, `${how} the request could cost more than is allowed`);
}
