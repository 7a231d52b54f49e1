/** A layout under construction: two typed arrays that the search copies, changes and throws away. */
import type { LayerInterval, Layout } from "../../domain/cluster.ts";
import type { ClusterTables } from "./cluster-tables.ts";
import type { DenseIntervals } from "./flow.ts";

export interface Draft extends DenseIntervals {
  readonly first: Int32Array;
  readonly end: Int32Array;
}

export function emptyDraft(nodeCount: number): Draft {
  return { first: new Int32Array(nodeCount), end: new Int32Array(nodeCount) };
}

export function copyDraft(draft: DenseIntervals): Draft {
  return { first: draft.first.slice(), end: draft.end.slice() };
}

export function overwrite(target: Draft, source: DenseIntervals): void {
  target.first.set(source.first);
  target.end.set(source.end);
}

export function heldBy(draft: DenseIntervals, node: number): number {
  return (draft.end[node] ?? 0) - (draft.first[node] ?? 0);
}

/** Equal drafts have equal keys. */
export function draftKey(draft: DenseIntervals): string {
  let key = "";
  for (let node = 0; node < draft.first.length; node++) {
    key += heldBy(draft, node) > 0 ? `${draft.first[node]}-${draft.end[node]},` : ",";
  }
  return key;
}

export function layoutOf(tables: ClusterTables, draft: DenseIntervals): Layout {
  const layout = new Map<string, LayerInterval>();
  for (const [node, { id }] of tables.nodes.entries()) {
    if (heldBy(draft, node) > 0) layout.set(id, { first: draft.first[node] ?? 0, end: draft.end[node] ?? 0 });
  }
  return layout;
}

/** Every node holds no more than it may and nothing outside the model. */
export function isWithinLimits(tables: ClusterTables, draft: DenseIntervals): boolean {
  for (let node = 0; node < tables.nodeCount; node++) {
    const held = heldBy(draft, node);
    if (held === 0) continue;
    if (held < 0 || held > (tables.layersMax[node] ?? 0)) return false;
    if ((draft.first[node] ?? 0) < 0 || (draft.end[node] ?? 0) > tables.layerCount) return false;
    // A profile may have a hole: a count of layers at which nothing is known of the machine.
    if ((tables.tokensPerSecond[node * tables.stride + held] ?? 0) <= 0) return false;
  }
  return true;
}
