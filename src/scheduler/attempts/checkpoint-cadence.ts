/**
 * How often a task writes a checkpoint. Writing too often costs the time of writing, too seldom the work done since: with C the
 * cost of one checkpoint and M the mean time to a loss, the best interval is near sqrt(2 C M) (J. W. Young, CACM 17(9), 1974).
 * Where M is small against C, the higher order terms count (J. T. Daly, FGCS 22(3), 2006):
 *
 *   τ = sqrt(2 C M) · (1 + sqrt(C / 2M) / 3 + (C / 2M) / 9) − C   for C < 2M, else M
 *
 * M is the gang's, not a node's: the gang is lost when any of its nodes is.
 */
import { assert } from "../../domain/assert.ts";

/** From this share of M on, C is not small: Young's interval is then more than 5 % off Daly's. */
const DALY_FROM = 0.01;

export function checkpointIntervalMs(task: { checkpointMs: number; meanTimeToLossMs: number }): number {
  const { checkpointMs: cost, meanTimeToLossMs: mean } = task;
  assert(cost > 0 && mean > 0, `a checkpoint takes ${cost} ms and a loss comes after ${mean} ms, both above 0`);
  if (mean === Number.POSITIVE_INFINITY) return Number.POSITIVE_INFINITY;
  const young = Math.sqrt(2 * cost * mean);
  if (cost < DALY_FROM * mean) return young;
  if (cost >= 2 * mean) return mean;
  const ratio = cost / (2 * mean);
  return young * (1 + Math.sqrt(ratio) / 3 + ratio / 9) - cost;
}

/** Share of the time that is lost to checkpoints and to work done again, to first order. */
export function checkpointWaste(task: { checkpointMs: number; meanTimeToLossMs: number; intervalMs: number }): number {
  return task.checkpointMs / task.intervalMs + task.intervalMs / (2 * task.meanTimeToLossMs);
}

/**
 * Of a gang whose nodes each stay the horizon with these probabilities (the survival forecast), taken to be independent and
 * of constant hazard within it. Infinite when all surely stay.
 */
export function gangMeanTimeToLossMs(gang: { staysWithProbability: readonly number[]; horizonMs: number }): number {
  let hazard = 0;
  for (const probability of gang.staysWithProbability) {
    assert(probability >= 0 && probability <= 1, `${probability} is a probability`);
    // A node that surely leaves is taken to leave half way.
    hazard += probability === 0 ? 2 / gang.horizonMs : -Math.log(probability) / gang.horizonMs;
  }
  return hazard === 0 ? Number.POSITIVE_INFINITY : 1 / hazard;
}
