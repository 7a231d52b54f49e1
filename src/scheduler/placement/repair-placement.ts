/**
 * The cheap rule, for the turn in which something was lost or somebody begins to wait: what has to be there and is not is ordered at
 * once, where the planner would order it as well, and nothing else is touched. It never unloads, moves or adds for demand, and
 * looks at a few models in one call, so that it stays within a millisecond or two at 1,000 nodes.
 */
import type { ModelId } from "../../domain/ids.ts";
import { loadOrders, type Missing, missingNow, placeForced } from "./place-replicas.ts";
import { PlacementState } from "./placement-state.ts";
import type { LoadOrder, PlanQuestion } from "./plan-question.ts";

/** Each looks at every node once for each replica that it misses. */
export const REPAIRED_MODELS_MAX = 8;
const REPAIRS_MAX = 16;

export interface Repair {
  readonly orders: readonly LoadOrder[];
  /** Models that want a replica which no node can take. */
  readonly short: readonly ModelId[];
  /** More models miss something than one call looks at. */
  readonly isPartial: boolean;
}

/** `wanted`: replicas of each model in the newest plan; fewer than that means that some were lost. */
export function repairPlacement(question: PlanQuestion, wanted: ReadonlyMap<ModelId, number>): Repair {
  const grid = new PlacementState(question, new Set());
  const missing = missingWith(grid, wanted);
  let room = REPAIRS_MAX;
  const now = missing.slice(0, REPAIRED_MODELS_MAX).map((one): Missing => {
    const count = Math.min(one.count, room);
    room -= count;
    return { ...one, count };
  });
  const { placed, short } = placeForced(grid, now, { isThrifty: false });
  const counted = missing.reduce((sum, { count }) => sum + count, 0);
  return {
    orders: loadOrders(grid, placed),
    short: short.map(({ model }) => model.modelId),
    isPartial: now.reduce((sum, { count }) => sum + count, 0) < counted,
  };
}

function missingWith(grid: PlacementState, wanted: ReadonlyMap<ModelId, number>): readonly Missing[] {
  const now = new Map(missingNow(grid).map((one) => [one.state, one]));
  return grid.models.flatMap((state): Missing[] => {
    const urgent = now.get(state);
    const lost = (wanted.get(state.model.modelId) ?? 0) - state.replicas.length;
    if (urgent !== undefined && urgent.count >= lost) return [urgent];
    return lost > 0 ? [{ state, count: lost, why: "lost" }] : [];
  });
}
