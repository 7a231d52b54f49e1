/**
 * Petals' join rule (Borzunov et al., NeurIPS 2023), our own implementation, as a baseline. Servers join one after the other in the
 * order of the cluster file; each holds as many blocks as fit and takes the window whose sorted list of block throughputs is lowest
 * when compared from its least entry on. Then servers look round in turns, and one moves when the swarm's weakest block would gain
 * enough by it. Its intervals overlap: evaluate and serve it with partial intervals allowed.
 *
 * Left out: what the paper measures live (network throughput of each server, failures while rebalancing).
 */
import type { Cluster, Layout } from "../../../domain/cluster.ts";
import { type ClusterTables, clusterTables } from "../cluster-tables.ts";
import { type Draft, emptyDraft, heldBy, layoutOf } from "../draft.ts";

/** A server moves when the weakest block has less than this share of what it would have after the move. */
const BALANCE_QUALITY = 0.75;
/** Rounds in which every server looks round once; the rule settles in two or three. */
const ROUNDS_MAX = 8;

export function petalsLayout(cluster: Cluster): Layout {
  const tables = clusterTables(cluster);
  const draft = emptyDraft(tables.nodeCount);
  const rates = new Float64Array(tables.layerCount);
  for (let node = 0; node < tables.nodeCount; node++) {
    const held = tables.layersMax[node] ?? 0;
    if (held > 0) hold(tables, { draft, rates, node, first: weakestStart(rates, held), held });
  }
  for (let round = 0; round < ROUNDS_MAX; round++) {
    let hasMoved = false;
    for (let node = 0; node < tables.nodeCount; node++)
      hasMoved = lookRound(tables, { draft, rates, node }) || hasMoved;
    if (!hasMoved) break;
  }
  return layoutOf(tables, draft);
}

function lookRound(tables: ClusterTables, at: { draft: Draft; rates: Float64Array; node: number }): boolean {
  const { draft, rates, node } = at;
  const held = heldBy(draft, node);
  if (held === 0) return false;
  const before = draft.first[node] ?? 0;
  const weakestBefore = Math.min(...rates);
  release(tables, { draft, rates, node });
  const first = weakestStart(rates, held);
  hold(tables, { draft, rates, node, first, held });
  if (first !== before && weakestBefore < BALANCE_QUALITY * Math.min(...rates)) return true;
  if (first === before) return false;
  release(tables, { draft, rates, node });
  hold(tables, { draft, rates, node, first: before, held });
  return false;
}

function hold(
  tables: ClusterTables,
  at: { draft: Draft; rates: Float64Array; node: number; first: number; held: number },
): void {
  const { draft, rates, node, first, held } = at;
  draft.first[node] = first;
  draft.end[node] = first + held;
  const rate = tables.tokensPerSecond[node * tables.stride + held] ?? 0;
  for (let layer = first; layer < first + held; layer++) rates[layer] = (rates[layer] ?? 0) + rate;
}

function release(tables: ClusterTables, at: { draft: Draft; rates: Float64Array; node: number }): void {
  const { draft, rates, node } = at;
  const rate = tables.tokensPerSecond[node * tables.stride + heldBy(draft, node)] ?? 0;
  for (let layer = draft.first[node] ?? 0; layer < (draft.end[node] ?? 0); layer++) {
    rates[layer] = Math.max(0, (rates[layer] ?? 0) - rate);
  }
}

function weakestStart(rates: Float64Array, held: number): number {
  let best = 0;
  let bestSorted: Float64Array | null = null;
  for (let first = 0; first + held <= rates.length; first++) {
    const sorted = rates.slice(first, first + held).sort();
    if (bestSorted !== null && !isLower(sorted, bestSorted)) continue;
    best = first;
    bestSorted = sorted;
  }
  return best;
}

function isLower(a: Float64Array, b: Float64Array): boolean {
  for (let at = 0; at < a.length; at++) {
    const [one = 0, other = 0] = [a[at], b[at]];
    if (one !== other) return one < other;
  }
  return false;
}
