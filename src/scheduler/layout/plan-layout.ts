/**
 * Which node holds which layers of one model. No method wins everywhere, so the planner tries several constructions, improves the
 * best of them by annealing on the score, and says how far the outcome is from a bound that nothing can pass.
 *
 * The work is counted in layouts looked at, not in seconds, so that a seed gives the same plan on every machine. Nodes are put into
 * an order of their own first: neither their names nor their place in the file changes what is found.
 */
import type { Cluster, Layout } from "../../domain/cluster.ts";
import { no, type Outcome, ok } from "../../domain/refusal.ts";
import type { Found } from "./anneal.ts";
import { inCanonicalOrder } from "./canonical-order.ts";
import { type ClusterTables, clusterTables } from "./cluster-tables.ts";
import { draftKey, layoutOf } from "./draft.ts";
import { contextTokensOf, eligibleNodes, type NodeRefusal } from "./eligible-nodes.ts";
import { FlowNetwork, type FlowReport, upperBoundOf } from "./flow.ts";
import { type Grown, improve } from "./improve.ts";
import { improveByResidence } from "./improve-by-residence.ts";
import { LayoutScore, type ScoreParts, type SearchStep } from "./layout-score.ts";
import { mostFlow } from "./most-flow.ts";
import type { MoveContext } from "./moves.ts";
import { DEFAULT_GOALS, DEFAULT_RULES, type PlanGoals, type PlanRules } from "./plan-goals.ts";
import { ALL_LAYOUTS, type Candidate, constructions } from "./portfolio.ts";
import { regionGroupings } from "./regions.ts";
import { SearchRandom } from "./search-random.ts";
import type { Calibration } from "./serving-model.ts";
import { hasChurn } from "./survival.ts";

export interface PlanRequest {
  readonly cluster: Cluster;
  readonly goals?: Partial<PlanGoals>;
  readonly rules?: Partial<PlanRules>;
  readonly seed?: number;
  /** A layout to start from beside the constructions: the plan in force. */
  readonly previous?: Layout | null;
  /** Layouts that the search may look at; fewer for a quick answer. */
  readonly evaluationsMax?: number;
  /** Called in the midst of the search with each step forward: for progress and a plot. It changes nothing. */
  readonly onImproved?: (step: SearchStep) => void;
}

export interface LayoutPlan {
  readonly layout: Layout;
  /** The layout's flow by Helix's measure, nothing derated. */
  readonly flow: FlowReport;
  readonly upperBoundTokensPerSecond: number;
  /** 1 - flow / bound; 0 is proven best. */
  readonly gapShare: number;
  /** The layout with most flow that was found, whatever it serves: for comparison with planners that maximise flow. */
  readonly mostFlow: { readonly tokensPerSecond: number; readonly layout: Layout };
  readonly parts: ScoreParts;
  /** With it a `LayoutScore` of the same cluster, goals and rules gives other layouts comparable scores. */
  readonly calibration: Calibration;
  /** Which construction the plan grew from. */
  readonly construction: string;
  readonly evaluations: number;
  readonly explanation: PlanExplanation;
}

export interface PlanExplanation {
  /** Nodes that no layout may use, and how many of them each constraint kept out. */
  readonly refusedNodes: readonly NodeRefusal[];
  readonly refusedByConstraint: ReadonlyMap<string, number>;
  /** Nodes that might be used and are not: no place found where they raise the score. */
  readonly idleNodes: readonly string[];
  /** The best layout of each other construction, best first, with what it lacked against the plan. */
  readonly losers: readonly LosingLayout[];
}

export interface LosingLayout {
  readonly construction: string;
  readonly score: number;
  readonly lacks: string;
}

export interface PlanRefusal {
  readonly code: "no-capable-node" | "no-capacity";
  readonly message: string;
  readonly refusedNodes: readonly NodeRefusal[];
}

/** 24 nodes take about 2 CPU-seconds with it (bench `layout`). */
export const EVALUATIONS_DEFAULT = 200_000;
/** The size of cluster that the default is meant for; a larger one gets fewer looks, each of which takes longer. */
const TYPICAL = { nodes: 24, links: 600 } as const;
/** Where nodes come and go each look takes several times as long, for the chance that every layer keeps a holder. */
const CHURN_SHARE = 0.4;
/** Share of the looks that the constructions get. */
const CONSTRUCTION_SHARE = 0.25;
/** Looks, beside the others, for the layout with most flow; each costs a fifth of another. */
const FLOW_SHARE = 0.15;
/** Looks for a cluster all of whose layouts were scored: only the choice by flow is left to make. */
const FEW_EVALUATIONS = 2_000;
const LOSERS_MAX = 5;

export function planLayout(request: PlanRequest): Outcome<LayoutPlan, PlanRefusal> {
  const goals = { ...DEFAULT_GOALS, ...request.goals };
  const rules = { ...DEFAULT_RULES, ...request.rules };
  const { cluster, refused } = eligibleNodes(request.cluster, rules);
  const tables = clusterTables(inCanonicalOrder(cluster), contextTokensOf(cluster, rules));
  const hopeless = whyHopeless(request.cluster, tables, refused);
  if (hopeless !== null) return no(hopeless);
  const score = new LayoutScore(tables, goals, rules);
  const random = new SearchRandom(request.seed ?? 0);
  const budget = Math.ceil((request.evaluationsMax ?? EVALUATIONS_DEFAULT) * shareFor(cluster, hasChurn(tables)));
  const groupings = regionGroupings(tables);
  const candidates = constructions(score, {
    groupings,
    random,
    previous: request.previous ?? null,
    evaluations: Math.ceil(budget * CONSTRUCTION_SHARE),
  });
  const [first] = candidates;
  if (first === undefined) return no(whyNoWay(tables, refused));
  score.onImproved = request.onImproved ?? null;
  score.found(first.score);
  const context: MoveContext = {
    layerCount: tables.layerCount,
    nodes: tables.nodes.flatMap((_, node) => ((tables.layersMax[node] ?? 0) > 0 ? [node] : [])),
    layersMax: tables.layersMax,
    groupings,
    random,
  };
  const work = { candidates: [first, ...candidates.slice(1)] as const, evaluations: budget - score.evaluations };
  const best = candidates.some(isExhaustive)
    ? improve(score, context, { ...work, evaluations: FEW_EVALUATIONS })
    : improveByResidence(score, context, work);
  const parts = score.parts(best.found.draft);
  if (parts.brokenRules > 0) return no(whyRulesBroken(parts, refused));
  const starts = [...candidates, { draft: best.found.draft }];
  const widest = mostFlow(score, context, { starts, evaluations: Math.ceil(budget * FLOW_SHARE) }) ?? best.found;
  return ok(planOf({ request, score, refused, candidates, best, parts, widest }));
}

/** Looks that a cluster of this size gets, of those that a typical one gets. */
function shareFor({ nodes, links }: Cluster, isChurning: boolean): number {
  const bySize = Math.min(1, TYPICAL.nodes / Math.max(1, nodes.length), TYPICAL.links / Math.max(1, links.length));
  return isChurning ? bySize * CHURN_SHARE : bySize;
}

function isExhaustive({ construction }: Candidate): boolean {
  return construction === ALL_LAYOUTS;
}

function planOf(made: {
  request: PlanRequest;
  score: LayoutScore;
  refused: readonly NodeRefusal[];
  candidates: readonly Candidate[];
  best: Grown;
  parts: ScoreParts;
  widest: Found;
}): LayoutPlan {
  const { score, best, parts } = made;
  const { tables } = score;
  const network = new FlowNetwork(tables);
  const flow = network.report(network.solve(best.found.draft, { isPartialAllowed: score.rules.isPartialAllowed }));
  const upperBoundTokensPerSecond = upperBoundOf(tables);
  const layout = layoutOf(tables, best.found.draft);
  return {
    // In the order of the request's nodes, not of the search's.
    layout: new Map(
      made.request.cluster.nodes.flatMap(({ id }) => {
        const interval = layout.get(id);
        return interval === undefined ? [] : [[id, interval]];
      }),
    ),
    flow,
    upperBoundTokensPerSecond,
    gapShare: upperBoundTokensPerSecond > 0 ? 1 - flow.tokensPerSecond / upperBoundTokensPerSecond : 0,
    mostFlow: { tokensPerSecond: score.flow(made.widest.draft), layout: layoutOf(tables, made.widest.draft) },
    parts,
    calibration: score.model.calibration,
    construction: best.construction,
    evaluations: score.evaluations,
    explanation: {
      refusedNodes: made.refused,
      refusedByConstraint: countBy(made.refused),
      idleNodes: tables.nodes.flatMap(({ id }) => (layout.has(id) ? [] : [id])),
      losers: losersOf(made),
    },
  };
}

function losersOf(made: {
  score: LayoutScore;
  candidates: readonly Candidate[];
  best: Grown;
  parts: ScoreParts;
}): LosingLayout[] {
  const seen = new Set([made.best.construction]);
  const losers: LosingLayout[] = [];
  for (const { construction, draft } of made.candidates) {
    if (seen.has(construction) || losers.length >= LOSERS_MAX) continue;
    seen.add(construction);
    if (draftKey(draft) === draftKey(made.best.found.draft)) continue;
    const parts = made.score.parts(draft);
    losers.push({ construction, score: parts.score, lacks: lackOf(parts, made.parts) });
  }
  return losers;
}

/** The largest relative disadvantage, in words. */
function lackOf(loser: ScoreParts, winner: ScoreParts): string {
  const [a, b] = [loser.serving, winner.serving];
  const lacks = [
    {
      by: b.concurrentRequests / a.concurrentRequests,
      text: `room for ${a.concurrentRequests.toFixed(0)} requests, the plan has ${b.concurrentRequests.toFixed(0)}`,
    },
    {
      by: a.passSeconds / b.passSeconds,
      text: `a token's pass takes ${a.passSeconds.toFixed(3)} s, in the plan ${b.passSeconds.toFixed(3)} s`,
    },
    {
      by: winner.survival / loser.survival,
      text: `survives the horizon with ${loser.survival.toFixed(3)}, the plan with ${winner.survival.toFixed(3)}`,
    },
    {
      by: (1 + loser.costTokensPerSecond) / (1 + winner.costTokensPerSecond),
      text: `its nodes cost as much as ${loser.costTokensPerSecond.toFixed(1)} tokens/s, the plan's ${winner.costTokensPerSecond.toFixed(1)}`,
    },
  ];
  if (loser.brokenRules > 0) return `breaks the rules of ways or domains ${loser.brokenRules} times`;
  lacks.sort((x, y) => y.by - x.by);
  return lacks[0]?.text ?? "";
}

function countBy(refused: readonly NodeRefusal[]): Map<string, number> {
  const counts = new Map<string, number>();
  for (const { constraint } of refused) counts.set(constraint, (counts.get(constraint) ?? 0) + 1);
  return counts;
}

/** Reasons that need no search. */
function whyHopeless(asked: Cluster, tables: ClusterTables, refused: readonly NodeRefusal[]): PlanRefusal | null {
  const because = sayCounts(refused);
  if (asked.nodes.length === 0) {
    return { code: "no-capable-node", message: "the cluster has no nodes", refusedNodes: refused };
  }
  if (tables.nodeCount === 0) {
    return {
      code: "no-capable-node",
      message: `none of ${asked.nodes.length} nodes may be used: ${because}`,
      refusedNodes: refused,
    };
  }
  const layers = tables.layersMax.reduce((sum, most) => sum + most, 0);
  if (layers < tables.layerCount) {
    return {
      code: "no-capacity",
      message: `the model has ${tables.layerCount} layers and all ${tables.nodeCount} usable nodes together hold at most ${layers}${because === "" ? "" : ` (not usable: ${because})`}`,
      refusedNodes: refused,
    };
  }
  return null;
}

function whyNoWay(tables: ClusterTables, refused: readonly NodeRefusal[]): PlanRefusal {
  const entries = tables.sourceTokensPerSecond.filter((rate) => rate > 0).length;
  const exits = tables.sinkTokensPerSecond.filter((rate) => rate > 0).length;
  const links = tables.linkTokensPerSecond.filter((rate) => rate > 0).length;
  return {
    code: "no-capacity",
    message: `no chain of nodes leads from layer 0 to layer ${tables.layerCount - 1}: ${entries} of ${tables.nodeCount} nodes can be reached from the coordinator, ${exits} can reach it, ${links} links join nodes`,
    refusedNodes: refused,
  };
}

function whyRulesBroken(parts: ScoreParts, refused: readonly NodeRefusal[]): PlanRefusal {
  return {
    code: "no-capacity",
    message: `every layout found breaks the limits on hops, wide-area hops or shared domains; the nearest by ${parts.brokenRules}, with ${parts.serving.hopsMean.toFixed(1)} hops and ${parts.serving.slowHopsMean.toFixed(1)} wide-area hops on average`,
    refusedNodes: refused,
  };
}

function sayCounts(refused: readonly NodeRefusal[]): string {
  return [...countBy(refused)].map(([constraint, count]) => `${count} by ${constraint}`).join(", ");
}
