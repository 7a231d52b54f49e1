/**
 * Weakest window: nodes join one after the other, each taking the run of layers of its own length that is served worst so far (the
 * lowest rate of any layer first, the lowest sum of rates second). How Petals' servers choose their blocks, used here as a start
 * for the search, for repair, and (baselines/petals.ts) as the baseline itself.
 */
import type { ClusterTables } from "./cluster-tables.ts";
import { type Draft, emptyDraft, heldBy } from "./draft.ts";

export interface WindowJoin {
  readonly node: number;
  /** Layers that it takes. */
  readonly held: number;
}

export function weakestWindowDraft(tables: ClusterTables, joins: readonly WindowJoin[]): Draft {
  const draft = emptyDraft(tables.nodeCount);
  const rates = new Float64Array(tables.layerCount);
  for (const join of joins) joinWeakest(tables, draft, { ...join, rates });
  return draft;
}

/** Gives the node its window and adds its rate to the layers in it. */
export function joinWeakest(
  tables: ClusterTables,
  draft: Draft,
  join: WindowJoin & { readonly rates: Float64Array },
): void {
  const first = weakestWindow(join.rates, join.held);
  draft.first[join.node] = first;
  draft.end[join.node] = first + join.held;
  const rate = tables.tokensPerSecond[join.node * tables.stride + join.held] ?? 0;
  for (let layer = first; layer < first + join.held; layer++) join.rates[layer] = (join.rates[layer] ?? 0) + rate;
}

/** Rate by layer of what the draft holds. */
export function layerRates(tables: ClusterTables, draft: Draft): Float64Array {
  const rates = new Float64Array(tables.layerCount);
  for (let node = 0; node < tables.nodeCount; node++) {
    const held = heldBy(draft, node);
    if (held <= 0) continue;
    const rate = tables.tokensPerSecond[node * tables.stride + held] ?? 0;
    for (let layer = draft.first[node] ?? 0; layer < (draft.end[node] ?? 0); layer++) {
      rates[layer] = (rates[layer] ?? 0) + rate;
    }
  }
  return rates;
}

function weakestWindow(rates: Float64Array, held: number): number {
  let best = { first: 0, least: Number.POSITIVE_INFINITY, sum: Number.POSITIVE_INFINITY };
  for (let first = 0; first + held <= rates.length; first++) {
    let least = Number.POSITIVE_INFINITY;
    let sum = 0;
    for (let layer = first; layer < first + held; layer++) {
      least = Math.min(least, rates[layer] ?? 0);
      sum += rates[layer] ?? 0;
    }
    if (least < best.least || (least === best.least && sum < best.sum)) best = { first, least, sum };
  }
  return best.first;
}
