/**
 * Chains that follow the links: from a node that the coordinator reaches, over drawn links to nodes not yet used, each as full as may
 * be, until one that reaches the coordinator has the last layer. The constructions by place and size take links for granted; where
 * many are missing, this one still finds a way. What is left of the nodes then joins as replicas of drawn stages.
 */
import type { ClusterTables } from "./cluster-tables.ts";
import { type Draft, emptyDraft, heldBy } from "./draft.ts";
import type { SearchRandom } from "./search-random.ts";

/** Chains drawn: a dozen for each stage that a chain may have in the clusters that the planner is for. */
const TRIES = 300;
/** Chains kept: the search needs a start, not a census. */
const CHAINS_MAX = 12;

export function linkedChainDrafts(tables: ClusterTables, random: SearchRandom): Draft[] {
  const drafts: Draft[] = [];
  for (let attempt = 0; attempt < TRIES && drafts.length < CHAINS_MAX; attempt++) {
    const draft = drawChain(tables, random);
    if (draft === null) continue;
    drafts.push(draft);
    drafts.push(withReplicas(tables, draft, random));
  }
  return drafts;
}

function drawChain(tables: ClusterTables, random: SearchRandom): Draft | null {
  const draft = emptyDraft(tables.nodeCount);
  let layer = 0;
  let last = -1;
  while (layer < tables.layerCount) {
    const open = tables.nodes.flatMap((_, node) => (mayFollow(tables, draft, { last, node, layer }) ? [node] : []));
    const node = open[random.below(open.length)];
    if (node === undefined) return null;
    draft.first[node] = layer;
    layer = Math.min(tables.layerCount, layer + (tables.layersMax[node] ?? 0));
    draft.end[node] = layer;
    last = node;
  }
  return draft;
}

function mayFollow(tables: ClusterTables, draft: Draft, step: { last: number; node: number; layer: number }): boolean {
  const { last, node, layer } = step;
  const most = tables.layersMax[node] ?? 0;
  if (most === 0 || heldBy(draft, node) > 0) return false;
  const isEnd = layer + most >= tables.layerCount;
  if (isEnd && (tables.sinkTokensPerSecond[node] ?? 0) <= 0) return false;
  if (last === -1) return (tables.sourceTokensPerSecond[node] ?? 0) > 0;
  return (tables.linkTokensPerSecond[last * tables.nodeCount + node] ?? 0) > 0;
}

function withReplicas(tables: ClusterTables, chain: Draft, random: SearchRandom): Draft {
  const draft = { first: chain.first.slice(), end: chain.end.slice() };
  const stages = tables.nodes.flatMap((_, node) => (heldBy(chain, node) > 0 ? [node] : []));
  for (let node = 0; node < tables.nodeCount; node++) {
    const like = stages[random.below(stages.length)] ?? 0;
    if (heldBy(chain, node) > 0 || heldBy(chain, like) > (tables.layersMax[node] ?? 0)) continue;
    draft.first[node] = chain.first[like] ?? 0;
    draft.end[node] = chain.end[like] ?? 0;
  }
  return draft;
}
