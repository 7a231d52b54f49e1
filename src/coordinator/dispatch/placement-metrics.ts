/** What the planner shows of itself; docs/metrics.md says what each is for. Read when somebody asks. */
import { Gauge, type Registry } from "prom-client";
import type { Clock } from "../../ports/clock.ts";
import type { ReplicaPool } from "./replica-pool.ts";

export function registerPlacementMetrics(
  registry: Registry,
  pool: Pick<ReplicaPool, "plan" | "planningStats">,
  clock: Pick<Clock, "monoMs">,
): void {
  /** Null: nothing to show yet. */
  const gauge = (name: string, help: string, value: () => number | null) =>
    new Gauge({
      name,
      help,
      registers: [registry],
      collect() {
        const shown = value();
        if (shown !== null) this.set(shown);
      },
    });
  gauge("fallow_plan_gap_ratio", "Share of its bound that the newest placement plan does not reach", () => {
    return pool.plan()?.plan.gap ?? null;
  });
  gauge("fallow_plan_seconds", "From question to answer of the newest placement plan", () => {
    const newest = pool.plan();
    return newest === null ? null : newest.tookMs / 1_000;
  });
  gauge("fallow_plan_age_seconds", "Since the newest placement plan", () => {
    const newest = pool.plan();
    return newest === null ? null : (clock.monoMs() - newest.madeAtMonoMs) / 1_000;
  });
  gauge("fallow_planned_moved_bytes", "Weights that ordered loads had to bring to nodes, since the start", () => {
    return pool.planningStats().movedBytes;
  });
  gauge("fallow_cold_starts", "Loads ordered while somebody waited for the model, since the start", () => {
    return pool.planningStats().coldStarts;
  });
  gauge("fallow_plan_orders_dropped", "Orders that no longer stood when their plan arrived, since the start", () => {
    return pool.planningStats().dropped;
  });
  new Gauge({
    name: "fallow_plan_refusals",
    help: "Pairs of node and model that each constraint kept apart in the newest placement plan",
    labelNames: ["constraint"],
    registers: [registry],
    collect() {
      this.reset();
      for (const { losers } of pool.plan()?.plan.models ?? []) {
        for (const [constraint, count] of losers) this.inc({ constraint }, count);
      }
    },
  });
}
