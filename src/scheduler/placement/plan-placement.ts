/**
 * The planner: which replica of which model should exist on which node of the grid. It answers with orders and knows nothing of
 * links; whoever carries them out adds the planned replicas to the next snapshot, so that planning twice changes nothing.
 *
 *   1. what goes: models that were removed, replicas unused for too long above the warm number (unload-orders.ts), unless they are
 *      worth their memory as they are (kept-replicas.ts)
 *   2. what has to be there: warm numbers, requests that wait while every replica is full (place-replicas.ts). When memory is
 *      short, once more with thrifty sizes; what still fits nowhere gets room from idle replicas
 *   3. models that fit no single node: a chain of stages (chains.ts)
 *   4. what pays: more replicas while their gain beats their cost (place-replicas.ts)
 *   5. what would be better elsewhere: moves, with hysteresis (moves.ts)
 *   6. the bound, the gap, and the reasons (plan-bound.ts, explain-plan.ts)
 *
 * Ties go by id everywhere, so the order in which nodes, replicas, models and classes arrive changes nothing.
 */
import type { ModelId } from "../../domain/ids.ts";
import { planChains } from "./chains.ts";
import { explainModel } from "./explain-plan.ts";
import { UNKNOWN } from "./grid-columns.ts";
import { withoutKept } from "./kept-replicas.ts";
import { findMoves } from "./moves.ts";
import {
  type ForcedPlaces,
  LOADS_PER_PLAN_MAX,
  loadOrders,
  missingNow,
  type Placed,
  place,
  placeForced,
  placeForDemand,
} from "./place-replicas.ts";
import { PlacementState } from "./placement-state.ts";
import { placementBound } from "./plan-bound.ts";
import type { PlacementPlan, PlanQuestion } from "./plan-question.ts";
import { movedBytes, standingCost } from "./spots.ts";
import { idleReplicas, roomFor } from "./unload-orders.ts";

export function planPlacement(question: PlanQuestion): PlacementPlan {
  const idle = withoutKept(question, idleReplicas(question));
  const { grid, forced } = forcedPlaces(question, new Set(idle.map(({ row }) => row)));
  const room = forced.short.length === 0 ? [] : roomFor(grid, forced.short);
  const going = [...idle, ...room];
  const chains = planChains(grid, forced.short, new Set(going.map(({ row }) => row)));
  const paying = placeForDemand(grid, LOADS_PER_PLAN_MAX - forced.placed.length);
  const moves = findMoves(grid, LOADS_PER_PLAN_MAX - forced.placed.length - paying.length);
  const bound = placementBound(grid);
  const objective = objectiveOf(grid);
  const models = grid.models.map((state) =>
    explainModel(grid, state, chains.losers.get(state.model.modelId) ?? new Map()),
  );
  const moved = moves.worthIt.flatMap(({ state, spot }): Placed[] =>
    // Something else may have taken the room of a move since it was found.
    (grid.freeBytes[spot.device] ?? 0) >= spot.size.memoryBytes ? [place(grid, state, { spot, why: "move" })] : [],
  );
  const loads = loadOrders(grid, [...forced.placed, ...paying, ...moved]);
  return {
    version: question.grid.version,
    nodes: question.grid.nodes.ids.length,
    orders: [...[...going, ...chains.room].map(({ order }) => order), ...loads, ...chains.orders],
    models,
    objectiveMicroUsdPerHour: objective,
    boundMicroUsdPerHour: bound,
    gap: bound <= 0 ? 0 : Math.min(1, Math.max(0, (bound - objective) / bound)),
    movedBytes: [...loads, ...chains.orders].reduce((sum, { movedBytes }) => sum + movedBytes, 0),
    gainLeftMicroUsdPerHour: moves.gainLeftMicroUsdPerHour,
  };
}

/** How many replicas of each model the plan wants to see: what a loss is measured against until the next plan. */
export function wantedReplicas(plan: PlacementPlan): ReadonlyMap<ModelId, number> {
  return new Map(plan.models.map(({ modelId, replicaCount }) => [modelId, replicaCount]));
}

/** With sizes that take what there is; when some model then fits nowhere for lack of memory, with thrifty ones. */
function forcedPlaces(
  question: PlanQuestion,
  leaving: ReadonlySet<number>,
): { readonly grid: PlacementState; readonly forced: ForcedPlaces } {
  const grid = new PlacementState(question, leaving);
  const forced = placeForced(grid, missingNow(grid), { isThrifty: false });
  if (forced.short.length === 0 || forced.placed.length === 0) return { grid, forced };
  const again = new PlacementState(question, leaving);
  const thrifty = placeForced(again, missingNow(again), { isThrifty: true });
  return thrifty.short.length < forced.short.length ? { grid: again, forced: thrifty } : { grid, forced };
}

function objectiveOf(grid: PlacementState): number {
  const { weights } = grid.question;
  let sum = 0;
  for (const state of grid.models) {
    sum -= weights.lossFactor * state.goneChance * state.demandValue;
    for (const { node, variant, row, servedValue, chain } of state.replicas) {
      const bytes = row === UNKNOWN ? movedBytes(grid, variant, node) : 0;
      sum += servedValue - standingCost(grid, state, { node, variant, movedBytes: bytes, chain });
    }
  }
  return sum;
}
