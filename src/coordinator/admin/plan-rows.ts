/** How the newest placement plan looks to an operator. */
import type { MadePlan } from "../dispatch/replica-planning.ts";
import type { AdminSources } from "./admin-sources.ts";
import type { GridPlan, PlanSummary } from "./plan-schema.ts";

type Told = Pick<AdminSources, "placement" | "clock">;

export function gridPlan(sources: Told): GridPlan {
  const made = sources.placement();
  if (made === null) return { plan: null };
  const { plan } = made;
  const unloads = plan.orders.filter(({ kind }) => kind === "unload").length;
  return {
    plan: {
      madeAtMs: made.madeAtWallMs,
      ageMs: ageMs(sources, made),
      tookMs: Math.round(made.tookMs),
      version: plan.version,
      nodes: plan.nodes,
      objectiveMicroUsdPerHour: plan.objectiveMicroUsdPerHour,
      boundMicroUsdPerHour: plan.boundMicroUsdPerHour,
      gap: plan.gap,
      loads: plan.orders.length - unloads,
      unloads,
      movedBytes: plan.movedBytes,
      gainLeftMicroUsdPerHour: plan.gainLeftMicroUsdPerHour,
      models: plan.models.map((model) => ({
        ...model,
        replicas: model.replicas.map(({ stages, ...replica }) => ({
          ...replica,
          nodeIds: [...replica.nodeIds],
          ...(stages === undefined ? {} : { stages: [...stages] }),
        })),
        losers: Object.fromEntries(model.losers),
        bestLosers: [...model.bestLosers],
      })),
    },
  };
}

export function planSummary(sources: Told): PlanSummary {
  const made = sources.placement();
  return made === null ? null : { madeAtMs: made.madeAtWallMs, ageMs: ageMs(sources, made), gap: made.plan.gap };
}

function ageMs({ clock }: Told, { madeAtMonoMs }: MadePlan): number {
  return Math.max(0, Math.round(clock.monoMs() - madeAtMonoMs));
}
