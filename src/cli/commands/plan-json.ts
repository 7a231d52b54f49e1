/** What `fallow plan --json` prints: a layout file (wire/layout-file.ts) with all that is known about the plan. */
import type { Cluster } from "../../domain/cluster.ts";
import type { SearchStep } from "../../scheduler/layout/layout-score.ts";
import type { PlanGoals } from "../../scheduler/layout/plan-goals.ts";
import type { LayoutPlan } from "../../scheduler/layout/plan-layout.ts";
import { LAYOUT_FORMAT, LAYOUT_VERSION, layoutEntries } from "../../wire/layout-file.ts";

export interface MadePlan {
  readonly cluster: Cluster;
  readonly plan: LayoutPlan;
  readonly objective: PlanGoals["objective"];
  readonly seed: number;
  readonly cpuSeconds: number;
  readonly isPartialAllowed: boolean;
  readonly steps: readonly SearchStep[];
  readonly warnings: readonly string[];
}

export function planJson(made: MadePlan) {
  const { cluster, plan } = made;
  const { serving } = plan.parts;
  return {
    format: LAYOUT_FORMAT,
    version: LAYOUT_VERSION,
    cluster: cluster.name,
    layers: cluster.model.layerCount,
    nodes: layoutEntries(plan.layout, cluster),
    isPartialAllowed: made.isPartialAllowed,
    objective: made.objective,
    seed: made.seed,
    construction: plan.construction,
    evaluations: plan.evaluations,
    cpuSeconds: rounded(made.cpuSeconds),
    score: plan.parts.score,
    flow: { tokensPerSecond: plan.flow.tokensPerSecond, edges: plan.flow.edges },
    bottlenecks: plan.flow.bottlenecks,
    upperBound: plan.upperBoundTokensPerSecond,
    gap: plan.gapShare,
    mostFlow: {
      tokensPerSecond: plan.mostFlow.tokensPerSecond,
      nodes: layoutEntries(plan.mostFlow.layout, cluster),
    },
    expected: {
      decodeTokensPerSecond: serving.decodeTokensPerSecond,
      promptSeconds: serving.promptSeconds,
      passSeconds: serving.passSeconds,
      requestSeconds: serving.requestSeconds,
      concurrentRequests: serving.concurrentRequests,
      hops: serving.hopsMean,
      wanHops: serving.slowHopsMean,
      survival: plan.parts.survival,
      costTokensPerSecond: plan.parts.costTokensPerSecond,
    },
    explanation: {
      refusals: Object.fromEntries(plan.explanation.refusedByConstraint),
      refusedNodes: plan.explanation.refusedNodes,
      idleNodes: plan.explanation.idleNodes,
      losers: plan.explanation.losers,
    },
    convergence: made.steps.map(({ evaluations, score }) => [evaluations, score]),
    warnings: made.warnings,
  };
}

function rounded(seconds: number): number {
  return Math.round(seconds * 1_000) / 1_000;
}
