/**
 * Makes a chain of stages that are loaded already: a coordinator that restarted finds its stages on the nodes, knows nothing of their chains, and
 * needs nobody to load anything again.
 */
import { CHAIN_STAGES_MAX } from "../../domain/chain.ts";
import type { NodeId, ReplicaId } from "../../domain/ids.ts";

export interface LooseStage {
  readonly replicaId: ReplicaId;
  readonly nodeId: NodeId;
  readonly first: number;
  readonly count: number;
}

/** Looks at so many stages: of a grid with more, the first ones will do. */
const STEPS_MAX = 10_000;

/** A run of layers that somebody has, or nobody. */
export type CoverPart<Stage> = { readonly first: number; readonly count: number; readonly stage: Stage | null };

/**
 * What is there of a chain whose other stages are gone, with the gaps between: of stages that overlap the one with the most layers, each on a node of its own.
 * Null when that is nothing, or all of it.
 */
export function partialCover<Stage extends LooseStage>(
  loose: readonly Stage[],
  layerCount: number,
): readonly CoverPart<Stage>[] | null {
  const sorted = [...loose].sort((a, b) => b.count - a.count || (a.replicaId < b.replicaId ? -1 : 1));
  const chosen: Stage[] = [];
  for (const stage of sorted) {
    const end = stage.first + stage.count;
    const isInWay = (one: Stage) =>
      one.nodeId === stage.nodeId || (one.first < end && stage.first < one.first + one.count);
    if (end <= layerCount && !chosen.some(isInWay)) chosen.push(stage);
  }
  chosen.sort((a, b) => a.first - b.first);
  const parts: CoverPart<Stage>[] = [];
  let next = 0;
  for (const stage of chosen) {
    if (stage.first > next) parts.push({ first: next, count: stage.first - next, stage: null });
    parts.push({ first: stage.first, count: stage.count, stage });
    next = stage.first + stage.count;
  }
  if (next < layerCount) parts.push({ first: next, count: layerCount - next, stage: null });
  const isWorth = chosen.length > 0 && chosen.length < parts.length && parts.length <= CHAIN_STAGES_MAX;
  return isWorth ? parts : null;
}

/** Stages that follow each other from layer 0 to the last, each on a node of its own, as few as possible on the way; null when there are none such. */
export function coverLayers<Stage extends LooseStage>(
  loose: readonly Stage[],
  layerCount: number,
): readonly Stage[] | null {
  const byFirst = Map.groupBy(
    [...loose].sort((a, b) => b.count - a.count || (a.replicaId < b.replicaId ? -1 : 1)),
    ({ first }) => first,
  );
  let steps = 0;
  const extend = (chosen: readonly Stage[], next: number): readonly Stage[] | null => {
    if (next === layerCount) return chosen;
    for (const stage of byFirst.get(next) ?? []) {
      steps += 1;
      if (steps > STEPS_MAX || chosen.some(({ nodeId }) => nodeId === stage.nodeId)) continue;
      const found = extend([...chosen, stage], next + stage.count);
      if (found !== null) return found;
    }
    return null;
  };
  const found = extend([], 0);
  return found === null || found.length < 2 ? null : found;
}
