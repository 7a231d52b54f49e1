/** Why a request went where it went, as the operator's API tells it: the shape, and the record put into it. */
import { z } from "zod";
import { SCORE_PARTS } from "../../scheduler/matching/score.ts";
import type { ExplainedChoice, ExplainedDecision, ExplainedRequest } from "../dispatch/explain-ring.ts";

const count = z.number().int().min(0);

const candidateSchema = z.object({
  replicaId: z.string(),
  nodeId: z.string(),
  /** The sum of `parts`. */
  scoreMs: z.number(),
  parts: z.record(z.enum(SCORE_PARTS), z.number()),
  slotsLeased: count,
  slots: count,
});

const decisionSchema = z.object({
  kind: z.enum(["leased", "hedged", "waits", "plan-outdated"]),
  afterMs: z.number(),
  untilMs: z.number(),
  times: count,
  leaseId: z.string().nullable(),
  nodeId: z.string().nullable(),
  replicaId: z.string().nullable(),
  because: z.string().nullable(),
  /** Highest score first, at most five. */
  candidates: z.array(candidateSchema),
  scored: count,
  replicas: count,
  turnedAway: z.array(z.object({ rule: z.string(), replicas: count })),
  isComplete: z.boolean(),
});

export const explainedSchema = z.object({
  requestId: z.string(),
  modelId: z.string(),
  tier: z.string(),
  askedAtMs: z.number(),
  constraints: z
    .object({
      regions: z.array(z.string()).nullable(),
      trustMin: z.number().nullable(),
      priceMicroUsdPerHourMax: z.number().nullable(),
      excludedRegions: z.array(z.string()),
    })
    .nullable(),
  choices: z.array(
    z.object({
      choice: count,
      tokensNeeded: count,
      waitedMs: z.number().nullable(),
      state: z.string(),
      attempts: z.array(z.string()),
      decisions: z.array(decisionSchema),
      decisionsLeftOut: count,
    }),
  ),
});
export type ExplainedRow = z.infer<typeof explainedSchema>;
export const explainAnswerSchema = z.object({ request: explainedSchema });

export function explainedRow(request: ExplainedRequest): ExplainedRow {
  const { requestId, modelId, tier, askedAtMs, constraints } = request;
  return {
    requestId,
    modelId,
    tier,
    askedAtMs,
    constraints:
      constraints === null
        ? null
        : {
            ...constraints,
            regions: constraints.regions === null ? null : [...constraints.regions],
            excludedRegions: [...(constraints.excludedRegions ?? [])],
          },
    choices: request.choices.map(choiceRow),
  };
}

function choiceRow(choice: ExplainedChoice): ExplainedRow["choices"][number] {
  const { tokensNeeded, waitedMs, state, decisionsLeftOut } = choice;
  return {
    choice: choice.choice,
    tokensNeeded,
    waitedMs,
    state,
    attempts: [...choice.attempts],
    decisions: choice.decisions.map(decisionRow),
    decisionsLeftOut,
  };
}

function decisionRow(decision: ExplainedDecision): ExplainedRow["choices"][number]["decisions"][number] {
  const { match, ...rest } = decision;
  const { candidates, turnedAway, scored, replicas, isComplete } = match;
  return {
    ...rest,
    candidates: candidates.map((candidate) => ({ ...candidate })),
    scored,
    replicas,
    turnedAway: [...turnedAway].map(([rule, turned]) => ({ rule, replicas: turned })),
    isComplete,
  };
}
