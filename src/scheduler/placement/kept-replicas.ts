/**
 * Replicas that nobody used for the idle time, and that are worth keeping all the same: a copy against the loss of the others, or for
 * demand that goes elsewhere at the moment. Without this the plan would unload such a copy and order the same one again on the next node.
 * The latest used is asked first; its weights lie there already, so less has to speak for it than for a new one. Where more memory is
 * taken than the owner lends, nothing idle stays.
 */
import { modelNameOf, UNKNOWN } from "./grid-columns.ts";
import { PlacementState } from "./placement-state.ts";
import type { PlanQuestion } from "./plan-question.ts";
import { addedValue, standingCost } from "./spots.ts";
import type { Leaving } from "./unload-orders.ts";

/** Those of the idle ones that really go. `idle`: the longest unused first. */
export function withoutKept(question: PlanQuestion, idle: readonly Leaving[]): readonly Leaving[] {
  const asked = new Set(question.classes.map(({ modelId }) => modelId));
  if (!idle.some(({ order }) => order.why === "idle" && asked.has(order.modelId))) return idle;
  const grid = new PlacementState(question, new Set(idle.map(({ row }) => row)));
  const kept = new Set<number>();
  for (const { order, row } of [...idle].reverse()) {
    const modelId = modelNameOf(question.grid, row);
    const state = modelId === undefined ? undefined : grid.of(modelId);
    const device = question.grid.replicas.device[row] ?? UNKNOWN;
    if (order.why !== "idle" || state === undefined || !((grid.freeBytes[device] ?? -1) >= 0)) continue;
    const replica = grid.heldReplica(state, row);
    const { node, variant, size, tokPerSecond, worth, chain } = replica;
    const value = addedValue(grid, state, { node, contextTokens: size.contextTokens, tokPerSecond, worth });
    if (value <= standingCost(grid, state, { node, variant, movedBytes: 0, chain })) continue;
    grid.add(state, replica);
    kept.add(row);
  }
  return idle.filter(({ row }) => !kept.has(row));
}
