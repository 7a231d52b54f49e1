/**
 * The chance that every layer keeps a holder: the product over stages of (1 - the product over its replicas of (1 - p)) when
 * stages line up, and exact also when intervals overlap, where that product would count a node once for every piece of its
 * interval. Nodes are taken to leave independently.
 *
 * Walk the layers from first to last and carry the joint distribution of which of the present holders stay; a layer without one
 * ends the story.
 */
import type { ClusterTables } from "./cluster-tables.ts";
import { heldBy } from "./draft.ts";
import type { DenseIntervals } from "./flow.ts";

/** Holders of one layer that are told apart; more of them than this are all lost with a chance that no score shows. */
const HOLDERS_MAX = 8;

export function hasChurn(tables: ClusterTables): boolean {
  return tables.nodes.some(({ survivalPerHour }) => survivalPerHour < 1);
}

/** 0 to 1; 1 for a cluster that never loses a node, 0 for a layout that leaves a layer out. */
export function coverageSurvival(tables: ClusterTables, draft: DenseIntervals, horizonHours: number): number {
  const byFirst = holdersByFirst(tables, draft);
  let present: number[] = [];
  // chances[mask]: bit b says whether present[b] stays.
  let chances = [1];
  let next = 0;
  for (let layer = 0; layer < tables.layerCount; layer++) {
    for (let bit = present.length - 1; bit >= 0; bit--) {
      if ((draft.end[present[bit] ?? 0] ?? 0) > layer) continue;
      chances = withoutBit(chances, bit);
      present = present.filter((_, at) => at !== bit);
    }
    for (; next < byFirst.length && (draft.first[byFirst[next] ?? 0] ?? 0) === layer; next++) {
      const node = byFirst[next] ?? 0;
      if (present.length >= HOLDERS_MAX) continue;
      const stays = (tables.nodes[node]?.survivalPerHour ?? 1) ** horizonHours;
      chances = [...chances.map((chance) => chance * (1 - stays)), ...chances.map((chance) => chance * stays)];
      present.push(node);
    }
    if (present.length === 0) return 0;
    chances[0] = 0;
  }
  return chances.reduce((sum, chance) => sum + chance, 0);
}

function holdersByFirst(tables: ClusterTables, draft: DenseIntervals): number[] {
  const holders: number[] = [];
  for (let node = 0; node < tables.nodeCount; node++) if (heldBy(draft, node) > 0) holders.push(node);
  return holders.sort((a, b) => (draft.first[a] ?? 0) - (draft.first[b] ?? 0) || a - b);
}

/** The distribution when it no longer matters whether that holder stays. */
function withoutBit(chances: readonly number[], bit: number): number[] {
  const size = chances.length / 2;
  const low = (1 << bit) - 1;
  return Array.from({ length: size }, (_, mask) => {
    const spread = ((mask & ~low) << 1) | (mask & low);
    return (chances[spread] ?? 0) + (chances[spread | (1 << bit)] ?? 0);
  });
}
