/**
 * The cheap rule, for the turn in which something was lost or somebody begins to wait: what has to be there and is not is ordered at
 * once, where the planner would order it as well, and nothing else is touched. It never unloads, moves or adds for demand, and
 * places a few replicas in one call, so that it stays within some milliseconds at 1,000 nodes.
 */
import type { ModelId, NodeId } from "../../domain/ids.ts";
import { loadOrders, type Missing, missingNow, placeForced } from "./place-replicas.ts";
import { PlacementState } from "./placement-state.ts";
import type { Demand, LoadOrder, PlanQuestion } from "./plan-question.ts";
import { isReplicaFact, type NodeFact, nodeObstacle, type ReplicaFact } from "./snapshot.ts";

/** Replicas placed in one call on a small grid. */
export const REPAIRS_MAX = 16;
/** Looks at nodes in one call: each replica that is placed takes one at every node, and a thousand take a millisecond or less. */
const LOOKS_MAX = 1_600;

export interface Repair {
  readonly orders: readonly LoadOrder[];
  /** Models that want a replica which no node can take. */
  readonly short: readonly ModelId[];
  /** More models miss something than one call looks at. */
  readonly isPartial: boolean;
}

export interface Held {
  readonly nodes: ReadonlyMap<NodeId, NodeFact>;
  readonly replicas: readonly ReplicaFact[];
  readonly models: readonly { readonly modelId: ModelId; readonly warmReplicas: number }[];
  readonly waiting: ReadonlyMap<ModelId, Demand>;
  readonly wanted: ReadonlyMap<ModelId, number>;
}

/** Replicas of each model that serve, or will when they are loaded; a chain is one. */
export function servingCounts({ nodes, replicas }: Pick<Held, "nodes" | "replicas">): Map<ModelId, number> {
  const serving = new Map<ModelId, number>();
  for (const replica of replicas) {
    const { modelId, nodeId, state } = replica;
    if (!isReplicaFact(replica)) continue;
    const node = nodes.get(nodeId);
    const isHeld = state === "planned" || state === "loading" || state === "ready";
    if (!isHeld || node === undefined || nodeObstacle(node) !== null) continue;
    serving.set(modelId, (serving.get(modelId) ?? 0) + 1);
  }
  return serving;
}

/** Whether `repairPlacement` could have anything to do: mostly not, and then nothing needs to be packed for it. */
export function mayMiss(held: Held): boolean {
  return missingKey(held) !== "";
}

/**
 * Which models may miss a replica, and how large a one: equal for as long as the same do. Empty when `repairPlacement` could have nothing
 * to do. The same rule as its own, without a snapshot.
 */
export function missingKey({ nodes, replicas, models, waiting, wanted }: Held): string {
  const serving = servingCounts({ nodes, replicas });
  const helped = waiting.size === 0 ? waiting : modelsWithHelp({ nodes, replicas, waiting });
  const missing: string[] = [];
  for (const { modelId, warmReplicas } of models) {
    const count = serving.get(modelId) ?? 0;
    const least = Math.max(warmReplicas, wanted.get(modelId) ?? 0);
    const asked = helped.has(modelId) ? undefined : waiting.get(modelId);
    const due = Math.max(least, asked === undefined ? 0 : count + 1) - count;
    if (due > 0) missing.push(`${modelId} ${due} ${asked?.tokensNeeded ?? 0}`);
  }
  return missing.join();
}

/** Of those that are waited for, the models with a large enough replica that has a free slot or is about to serve. */
function modelsWithHelp({ nodes, replicas, waiting }: Pick<Held, "nodes" | "replicas" | "waiting">): Set<ModelId> {
  const helped = new Set<ModelId>();
  for (const replica of replicas) {
    if (!isReplicaFact(replica)) continue;
    const { modelId, nodeId, state, contextTokens, slots, slotsLeased } = replica;
    const asked = waiting.get(modelId);
    const node = nodes.get(nodeId);
    if (asked === undefined || node === undefined || nodeObstacle(node) !== null) continue;
    const takesMore = state === "planned" || state === "loading" || (state === "ready" && slotsLeased < slots);
    if (takesMore && contextTokens >= asked.tokensNeeded) helped.add(modelId);
  }
  return helped;
}

/** `wanted`: replicas of each model in the newest plan; fewer than that means that some were lost. */
export function repairPlacement(question: PlanQuestion, wanted: ReadonlyMap<ModelId, number>): Repair {
  const grid = new PlacementState(question, new Set());
  const missing = missingWith(grid, wanted);
  let room = Math.max(1, Math.min(REPAIRS_MAX, Math.floor(LOOKS_MAX / Math.max(1, question.grid.nodes.ids.length))));
  const due = missing.map((one): Missing => {
    const count = Math.min(one.count, room);
    room -= count;
    return { ...one, count };
  });
  const now = due.filter(({ count }) => count > 0);
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
