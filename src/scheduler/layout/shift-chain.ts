/**
 * A hole that no neighbour and no spare node can close: all nodes of one chain over it shift a little. Dynamic programming over where
 * each node of the chain ends, for the fewest layers to load. Replicas of a chain's node (same interval) go with it.
 */
import type { LayerInterval } from "../../domain/cluster.ts";
import type { ClusterTables } from "./cluster-tables.ts";
import { copyDraft, type Draft, heldBy } from "./draft.ts";

/** Null when no chain leads over the hole or its nodes cannot hold the model. */
export function shiftChain(tables: ClusterTables, draft: Draft, hole: LayerInterval): Draft | null {
  const chain = chainOver(tables, draft, hole);
  if (chain === null) return null;
  const groups = chain.map((node) => sameInterval(tables, draft, node));
  const ends = cheapestEnds(tables, draft, groups);
  if (ends === null) return null;
  const shifted = copyDraft(draft);
  let first = 0;
  for (const [at, group] of groups.entries()) {
    const end = ends[at] ?? first;
    for (const node of group) {
      shifted.first[node] = first;
      shifted.end[node] = end;
    }
    first = end;
  }
  return shifted;
}

/** Nodes from layer 0 to the last, each going on where the one before ends or across the hole; the way with most room to grow. */
function chainOver(tables: ClusterTables, draft: Draft, hole: LayerInterval): number[] | null {
  const room = new Float64Array(tables.layerCount + 1).fill(Number.NEGATIVE_INFINITY);
  const by = new Int32Array(tables.layerCount + 1).fill(-1);
  room[0] = 0;
  if (hole.first === 0) room[hole.end] = 0;
  const holders = tables.nodes.flatMap((_, node) => (heldBy(draft, node) > 0 ? [node] : []));
  holders.sort((a, b) => (draft.first[a] ?? 0) - (draft.first[b] ?? 0) || a - b);
  for (const node of holders) {
    const grown = (room[draft.first[node] ?? 0] ?? 0) + (tables.layersMax[node] ?? 0);
    const end = draft.end[node] ?? 0;
    const reach = end === hole.first ? [end, hole.end] : [end];
    for (const layer of reach) {
      if (grown <= (room[layer] ?? 0)) continue;
      room[layer] = grown;
      by[layer] = node;
    }
  }
  const chain: number[] = [];
  for (let node = by[tables.layerCount] ?? -1; node !== -1; node = by[draft.first[node] ?? 0] ?? -1)
    chain.unshift(node);
  return (room[tables.layerCount] ?? 0) >= tables.layerCount ? chain : null;
}

function sameInterval(tables: ClusterTables, draft: Draft, node: number): number[] {
  return tables.nodes.flatMap((_, other) =>
    draft.first[other] === draft.first[node] && draft.end[other] === draft.end[node] ? [other] : [],
  );
}

/** Where each group ends, so that all together load the fewest layers; null when they cannot reach the end. */
function cheapestEnds(tables: ClusterTables, draft: Draft, groups: readonly (readonly number[])[]): number[] | null {
  const size = tables.layerCount + 1;
  let cost = new Float64Array(size).fill(Number.POSITIVE_INFINITY);
  cost[0] = 0;
  const cameFrom: Int32Array[] = [];
  for (const group of groups) {
    const most = Math.min(...group.map((node) => tables.layersMax[node] ?? 0));
    const [node = 0] = group;
    const next = new Float64Array(size).fill(Number.POSITIVE_INFINITY);
    const from = new Int32Array(size).fill(-1);
    for (let first = 0; first < size; first++) {
      if (cost[first] === Number.POSITIVE_INFINITY) continue;
      for (let end = first + 1; end <= Math.min(size - 1, first + most); end++) {
        const kept = Math.min(end, draft.end[node] ?? 0) - Math.max(first, draft.first[node] ?? 0);
        const sum = (cost[first] ?? 0) + group.length * (end - first - Math.max(0, kept));
        if (sum >= (next[end] ?? 0)) continue;
        next[end] = sum;
        from[end] = first;
      }
    }
    cost = next;
    cameFrom.push(from);
  }
  if (cost[size - 1] === Number.POSITIVE_INFINITY) return null;
  const ends: number[] = [];
  let end = size - 1;
  for (const from of cameFrom.toReversed()) {
    ends.unshift(end);
    end = from[end] ?? 0;
  }
  return ends;
}
