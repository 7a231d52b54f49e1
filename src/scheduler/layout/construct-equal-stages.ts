/**
 * Equal stages: cut the model into s runs of the same length (the first ones a layer longer when it does not divide) and give the
 * nodes, strongest first, to the stage that has least so far. Finds the proven optimum of the small published case at once, and is
 * what Swarm does with one s.
 */
import type { ClusterTables } from "./cluster-tables.ts";
import { type Draft, emptyDraft, heldBy } from "./draft.ts";

/** All sweeps over s between the fewest stages that the largest node allows and one stage per node. */
export function equalStageDrafts(tables: ClusterTables, nodes: readonly number[], countMax: number): Draft[] {
  const most = Math.max(0, ...nodes.map((node) => tables.layersMax[node] ?? 0));
  if (most === 0) return [];
  const fewest = Math.ceil(tables.layerCount / most);
  const drafts: Draft[] = [];
  for (let stages = fewest; stages <= Math.min(tables.layerCount, nodes.length); stages++) {
    if (drafts.length >= countMax) break;
    const draft = equalStages(tables, nodes, stages);
    if (draft !== null) drafts.push(draft);
  }
  return drafts;
}

/** Null when a stage gets no node that can hold it. */
export function equalStages(tables: ClusterTables, nodes: readonly number[], stages: number): Draft | null {
  const draft = emptyDraft(tables.nodeCount);
  const starts = evenStarts(tables.layerCount, stages);
  const carried = new Float64Array(stages);
  const rate = (node: number, held: number): number =>
    held <= (tables.layersMax[node] ?? 0) ? (tables.tokensPerSecond[node * tables.stride + held] ?? 0) : 0;
  const shortest = Math.floor(tables.layerCount / stages);
  const order = [...nodes].sort((a, b) => rate(b, shortest) - rate(a, shortest) || a - b);
  for (const node of order) {
    let least = -1;
    for (let stage = 0; stage < stages; stage++) {
      const held = (starts[stage + 1] ?? 0) - (starts[stage] ?? 0);
      if (rate(node, held) <= 0) continue;
      if (least === -1 || (carried[stage] ?? 0) < (carried[least] ?? 0)) least = stage;
    }
    if (least === -1) continue;
    draft.first[node] = starts[least] ?? 0;
    draft.end[node] = starts[least + 1] ?? 0;
    carried[least] = (carried[least] ?? 0) + rate(node, heldBy(draft, node));
  }
  return carried.every((sum) => sum > 0) ? draft : null;
}

/** Where each stage begins, and the model's end: longer stages first. */
function evenStarts(layerCount: number, stages: number): number[] {
  const short = Math.floor(layerCount / stages);
  const longer = layerCount % stages;
  return Array.from({ length: stages + 1 }, (_, stage) => stage * short + Math.min(stage, longer));
}
