/**
 * Makes a chain of stages that are loaded already: a coordinator that restarted finds its stages on the nodes, knows nothing of their chains, and
 * needs nobody to load anything again.
 */
import type { NodeId, ReplicaId } from "../../domain/ids.ts";

export interface LooseStage {
  readonly replicaId: ReplicaId;
  readonly nodeId: NodeId;
  readonly first: number;
  readonly count: number;
}

/** Looks at so many stages: of a grid with more, the first ones will do. */
const STEPS_MAX = 10_000;

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
