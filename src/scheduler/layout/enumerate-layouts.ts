/** Every layout of a cluster so small that trying them all takes less than searching: then the plan is the best there is. */
import type { ClusterTables } from "./cluster-tables.ts";
import { type Draft, emptyDraft } from "./draft.ts";

/** Layouts of the cluster, those included that leave layers out; Infinity when far too many to count. */
export function layoutCount(tables: ClusterTables): number {
  let count = 1;
  for (const most of tables.layersMax) {
    let choices = 1;
    for (let held = 1; held <= most; held++) choices += tables.layerCount - held + 1;
    count *= choices;
  }
  return count;
}

/** Calls back with every layout that covers all layers, always the same draft: copy what is to be kept. */
export function forEachLayout(tables: ClusterTables, visit: (draft: Draft) => void): void {
  const draft = emptyDraft(tables.nodeCount);
  const holders = new Int32Array(tables.layerCount);
  const place = (node: number): void => {
    if (node === tables.nodeCount) {
      if (holders.every((count) => count > 0)) visit(draft);
      return;
    }
    place(node + 1);
    for (let held = 1; held <= (tables.layersMax[node] ?? 0); held++) {
      for (let first = 0; first + held <= tables.layerCount; first++) {
        draft.first[node] = first;
        draft.end[node] = first + held;
        for (let layer = first; layer < first + held; layer++) holders[layer] = (holders[layer] ?? 0) + 1;
        place(node + 1);
        for (let layer = first; layer < first + held; layer++) holders[layer] = (holders[layer] ?? 0) - 1;
      }
    }
    draft.first[node] = 0;
    draft.end[node] = 0;
  };
  place(0);
}
