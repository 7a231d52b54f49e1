/** The planner against every layout there is, on drawn clusters of two to six nodes. */
import { expect } from "vitest";
import { tinyInstance } from "../../bench/lib/tiny-instances.ts";
import { inCanonicalOrder } from "../../src/scheduler/layout/canonical-order.ts";
import { clusterTables } from "../../src/scheduler/layout/cluster-tables.ts";
import { forEachLayout } from "../../src/scheduler/layout/enumerate-layouts.ts";
import { denseIntervals } from "../../src/scheduler/layout/flow.ts";
import { LayoutScore } from "../../src/scheduler/layout/layout-score.ts";
import { DEFAULT_GOALS, DEFAULT_RULES, type PlanGoals } from "../../src/scheduler/layout/plan-goals.ts";
import { planLayout } from "../../src/scheduler/layout/plan-layout.ts";
import { EQUAL_SHARE } from "../../src/scheduler/layout/prefer-flow.ts";

export const OBJECTIVES = ["flow", "latency", "throughput"] as const satisfies readonly PlanGoals["objective"][];

/** Seeds from `from` to before `to`. */
export function expectOptimum(
  objective: PlanGoals["objective"],
  { from, to }: { readonly from: number; readonly to: number },
): void {
  let exact = 0;
  let worst = 0;
  for (let seed = from; seed < to; seed++) {
    const cluster = inCanonicalOrder(tinyInstance(seed));
    const plan = planLayout({ cluster, goals: { objective }, evaluationsMax: 130_000 });
    const tables = clusterTables(cluster);
    const score = new LayoutScore(tables, { ...DEFAULT_GOALS, objective }, DEFAULT_RULES);
    if (plan.ok) score.model.calibration = plan.value.calibration;
    let best = Number.NEGATIVE_INFINITY;
    forEachLayout(tables, (draft) => {
      best = Math.max(best, score.scoreIfAtLeast(draft, Math.max(best, -1e12)) ?? best);
    });
    // What cannot be planned has no layout that serves.
    expect(plan.ok).toBe(best > Number.NEGATIVE_INFINITY);
    if (!plan.ok) continue;
    const gap = (best - score.score(denseIntervals(tables, plan.value.layout))) / Math.abs(best);
    if (gap < 1e-3) exact += 1;
    worst = Math.max(worst, gap);
  }
  console.log(`objective ${objective}: ${exact} exact, worst gap ${(worst * 100).toFixed(2)} %`);
  // Throughput gives up to EQUAL_SHARE of the score for more flow, on purpose.
  expect(worst).toBeLessThan(objective === "throughput" ? EQUAL_SHARE + 1e-3 : 1e-3);
}
