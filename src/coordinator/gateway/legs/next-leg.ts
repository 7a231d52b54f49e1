/**
 * Which resource goes on with a choice. Pure. The candidates are in the order of the route; one that failed is not tried again, but for the
 * grid, which heals by itself: after a provider it may have a second try.
 */
import { LEGS_PER_CHOICE_MAX } from "../../../scheduler/tiers/choose-route.ts";
import type { RouteCandidate } from "../../../scheduler/tiers/route-question.ts";

const GRID_TRIES_MAX = 2;

export interface LegHistory {
  /** What ran before, in order; the last one has just ended badly. */
  readonly before: readonly RouteCandidate[];
  /** Whether this one can take the choice as it stands. */
  readonly canTake: (candidate: RouteCandidate) => boolean;
}

export function nextLeg(candidates: readonly RouteCandidate[], history: LegHistory): RouteCandidate | null {
  const last = history.before.at(-1);
  if (history.before.length >= LEGS_PER_CHOICE_MAX) return null;
  const fits = (candidate: RouteCandidate) => {
    if (candidate === last) return false;
    const tries = history.before.filter((one) => one === candidate).length;
    return tries < (candidate.kind === "grid" ? GRID_TRIES_MAX : 1) && history.canTake(candidate);
  };
  const untried = candidates.find((candidate) => !history.before.includes(candidate) && fits(candidate));
  return untried ?? candidates.find(fits) ?? null;
}
