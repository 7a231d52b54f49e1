/**
 * Which running stream gives its slot to a request that finds none. Background work gives way to everybody, at once and as often as it must: it
 * runs only where nobody else would. For a priority request then flex before default, and never priority, whatever anybody pays. Within a tier the one that loses least: what it must do again plus what must be carried to where it goes on.
 *
 * | part of the cost | of a stream of tokens                              | of a task                                    |
 * | ---------------- | -------------------------------------------------- | -------------------------------------------- |
 * | lost work        | the history that is decoded again: `lostWorkMs`     | what was done since its newest checkpoint     |
 * | reload           | nothing: prompt and tokens are in the coordinator   | the checkpoint's bytes over the link          |
 *
 * So among tasks the newest checkpoint goes first. A stream keeps all its tokens; nobody pays for what is decoded again.
 *
 * | never taken                                         | because                                                     |
 * | --------------------------------------------------- | ----------------------------------------------------------- |
 * | preempted `PREEMPTIONS_MAX` times before            | everybody gets on in the end                                |
 * | no progress since it was placed                     | two priority requests would throw it about for nothing      |
 * | over sooner than its history is decoded again       | waiting for it is cheaper                                   |
 */
import type { LeaseId } from "../../domain/ids.ts";
import type { ServiceTier } from "../../domain/tier.ts";

/** How often one request is moved for others. */
export const PREEMPTIONS_MAX = 2;
/** Taken when nothing is known of the link: 100 Mbit/s. */
const RELOAD_BYTES_PER_MS = 12_500;

export interface PreemptionCandidate {
  readonly leaseId: LeaseId;
  readonly tier: ServiceTier;
  /** It is nobody's turn: taken first, whatever it loses. */
  readonly isBackground?: boolean;
  readonly preemptions: number;
  readonly hasProgress: boolean;
  /** Time that it takes to come back to where it is. */
  readonly lostWorkMs: number;
  readonly reloadBytes: number;
  /** What it still needs, if left alone. */
  readonly restMs: number;
}

export interface Preemption {
  readonly leaseId: LeaseId;
  readonly costMs: number;
}

/** Null when nobody may be taken. Ties fall to the smaller lease id. */
export function choosePreemption(candidates: readonly PreemptionCandidate[]): Preemption | null {
  let best: (Preemption & { readonly rank: number }) | null = null;
  for (const candidate of candidates) {
    const rank = candidate.isBackground === true ? BACKGROUND_RANK : PREEMPTION_RANK[candidate.tier];
    const costMs = preemptionCostMs(candidate);
    if (rank === null || !isTakeable(candidate, costMs)) continue;
    const one = { leaseId: candidate.leaseId, costMs, rank };
    if (best === null || isBefore(one, best)) best = one;
  }
  return best === null ? null : { leaseId: best.leaseId, costMs: best.costMs };
}

export function preemptionCostMs(candidate: { lostWorkMs: number; reloadBytes: number }): number {
  return candidate.lostWorkMs + candidate.reloadBytes / RELOAD_BYTES_PER_MS;
}

const BACKGROUND_RANK = -1;
/** Null: never. */
const PREEMPTION_RANK: Readonly<Record<ServiceTier, number | null>> = { flex: 0, default: 1, priority: null };

function isTakeable(candidate: PreemptionCandidate, costMs: number): boolean {
  if (candidate.isBackground === true) return true;
  return candidate.preemptions < PREEMPTIONS_MAX && candidate.hasProgress && candidate.restMs > costMs;
}

type Ranked = Preemption & { readonly rank: number };

function isBefore(a: Ranked, b: Ranked): boolean {
  if (a.rank !== b.rank) return a.rank < b.rank;
  return a.costMs === b.costMs ? a.leaseId < b.leaseId : a.costMs < b.costMs;
}
