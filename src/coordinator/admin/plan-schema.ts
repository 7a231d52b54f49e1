/** What `GET /admin/v1/plan` answers: the newest placement plan of the live grid, with what it is worth and why nothing else was chosen. */
import { z } from "zod";

const count = z.number().int().min(0);

export const planLoserSchema = z.object({
  nodeId: z.string(),
  /** Name of the constraint, or `not-worth-it` when it was feasible and its gain did not pay. */
  reason: z.string(),
  /** What a replica there would add to the objective; null when no replica can be there. */
  gainMicroUsdPerHour: z.number().nullable(),
});

export const planReplicaSchema = z.object({
  /** In the order of the chain; one for a whole model. */
  nodeIds: z.array(z.string()).min(1),
  /** Of a chain, in order: which layers each node holds. */
  stages: z.array(z.object({ nodeId: z.string(), first: count, count })).optional(),
  deviceId: z.string(),
  kind: z.enum(["whole", "lan-group", "chain"]),
  quantisation: z.string(),
  slots: count,
  contextTokens: count,
  tokPerSecond: z.number(),
  /** Of one sequence that has the device, or the chain, for itself; `attempts` is how many were seen there with this file. */
  speed: z
    .object({
      loneTokPerSecond: z.number(),
      source: z.enum(["observed", "measured", "modelled", "neutral"]),
      attempts: count,
    })
    .nullable(),
  /** It runs or loads already. */
  isHeld: z.boolean(),
});

export const planModelSchema = z.object({
  modelId: z.string(),
  warmReplicas: count,
  demandTokPerSecond: z.number(),
  capacityTokPerSecond: z.number(),
  servedTokPerSecond: z.number(),
  replicaCount: count,
  /** The first of them. */
  replicas: z.array(planReplicaSchema),
  /** How many nodes each constraint kept out. */
  losers: z.record(z.string(), count),
  bestLosers: z.array(planLoserSchema),
});

export const gridPlanSchema = z.object({
  /** Null before the first plan. */
  plan: z
    .object({
      /** Wall clock. */
      madeAtMs: z.number(),
      ageMs: z.number(),
      tookMs: z.number(),
      version: count,
      nodes: count,
      objectiveMicroUsdPerHour: z.number(),
      /** No plan whatever can be worth more. */
      boundMicroUsdPerHour: z.number(),
      /** 0 to 1: the share of the bound that the plan does not reach. */
      gap: z.number(),
      loads: count,
      unloads: count,
      movedBytes: count,
      /** What moving replicas would have gained, below what it would have cost; 0 when moves were made or none was better. */
      gainLeftMicroUsdPerHour: z.number(),
      models: z.array(planModelSchema),
    })
    .nullable(),
});
export type GridPlan = z.infer<typeof gridPlanSchema>;

/** The line of `fallow status`. */
export const planSummarySchema = z.object({ madeAtMs: z.number(), ageMs: z.number(), gap: z.number() }).nullable();
export type PlanSummary = z.infer<typeof planSummarySchema>;
