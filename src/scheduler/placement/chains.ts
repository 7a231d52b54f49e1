/**
 * Models that no single node can hold. A group of nodes in one LAN comes before a chain across networks, and both only over nodes
 * that serve stages; nodes that do not are counted by that name, and nothing is ordered that cannot run.
 */
import type { ModelId } from "../../domain/ids.ts";
import { OBSTACLES } from "./grid-columns.ts";
import type { ModelState, PlacementState } from "./placement-state.ts";
import type { PlacedReplica } from "./plan-question.ts";
import { sizeReplica } from "./slots.ts";
import { countLoser, type LoserReason } from "./snapshot.ts";

export interface Chains {
  readonly replicas: readonly PlacedReplica[];
  readonly losers: ReadonlyMap<LoserReason, number>;
}

export function planChains(grid: PlacementState, short: readonly ModelState[]): ReadonlyMap<ModelId, Chains> {
  const tooLarge = short.filter((state) => !fitsSomewhere(grid, state));
  return new Map(tooLarge.map((state) => [state.model.modelId, { replicas: [], losers: stageLosers(grid) }]));
}

/** On some node that is there, were nothing else on it. */
function fitsSomewhere(grid: PlacementState, { model }: ModelState): boolean {
  const { nodes, devices } = grid.question.grid;
  const { variants, contextTokensMax } = model;
  const largest = nodes.ids.reduce((most, _, node) => {
    if (nodes.obstacle[node] !== 0) return most;
    const own = devices.usableBytes.subarray(nodes.deviceFrom[node] ?? 0, nodes.deviceFrom[node + 1] ?? 0);
    return own.reduce((bytes, usable) => Math.max(bytes, usable), most);
  }, 0);
  return variants.some((variant) => sizeReplica({ ...variant, contextTokensMax }, largest).ok);
}

function stageLosers(grid: PlacementState): ReadonlyMap<LoserReason, number> {
  const { nodes } = grid.question.grid;
  const losers = new Map<LoserReason, number>();
  nodes.ids.forEach((_, node) => {
    const isUp = (OBSTACLES[nodes.obstacle[node] ?? 0] ?? null) === null;
    if (isUp && nodes.hasStageServing[node] === 0) countLoser(losers, "serves-no-stages");
  });
  return losers;
}
