/** The rules that depend on the layout as a whole; those about single nodes are in eligible-nodes.ts. */
import type { ClusterTables } from "./cluster-tables.ts";
import { heldBy } from "./draft.ts";
import type { DenseIntervals, FlowNetwork } from "./flow.ts";
import type { PlanRules } from "./plan-goals.ts";

/** By how much the layout last solved breaks the rules; 0 when it keeps them all. */
export function brokenRules(network: FlowNetwork, draft: DenseIntervals, rules: PlanRules): number {
  let broken = 0;
  if (rules.isSharedDomainForbidden) broken += sharedDomainPairs(network.tables, draft);
  if (rules.hopsMax !== null || rules.slowHopsMax !== null) {
    const { hops, slowHops } = longestWays(network, draft);
    broken += Math.max(0, hops - (rules.hopsMax ?? hops));
    broken += Math.max(0, slowHops - (rules.slowHopsMax ?? slowHops));
  }
  return broken;
}

/** Most nodes and most wide-area links between nodes on any way that carries flow in the layout last solved. */
export function longestWays(network: FlowNetwork, draft: DenseIntervals): { hops: number; slowHops: number } {
  const { tables } = network;
  const edges: { from: number; to: number; slow: number }[] = [];
  network.forEachFlow((from, to) => {
    if (to === tables.nodeCount) return;
    edges.push({ from, to, slow: from === -1 ? 0 : (tables.linkIsSlow[from * tables.nodeCount + to] ?? 0) });
  });
  // Ways only go to higher layers, so in the order of where a node ends every edge comes after all that lead to it.
  edges.sort((a, b) => (draft.end[a.to] ?? 0) - (draft.end[b.to] ?? 0));
  const hops = new Int32Array(tables.nodeCount);
  const slowHops = new Int32Array(tables.nodeCount);
  for (const { from, to, slow } of edges) {
    hops[to] = Math.max(hops[to] ?? 0, 1 + (from === -1 ? 0 : (hops[from] ?? 0)));
    slowHops[to] = Math.max(slowHops[to] ?? 0, slow + (from === -1 ? 0 : (slowHops[from] ?? 0)));
  }
  return { hops: Math.max(0, ...hops), slowHops: Math.max(0, ...slowHops) };
}

/** Stages of several replicas that would all go when one owner or one network went. */
export function sharedDomainStages(tables: ClusterTables, draft: DenseIntervals): number {
  if (!tables.hasDomains) return 0;
  let shared = 0;
  for (const replicas of stagesOf(tables, draft).values()) {
    if (replicas.length < 2) continue;
    const [one = 0] = replicas;
    const owner = tables.nodes[one]?.owner ?? null;
    const network = tables.nodes[one]?.network ?? null;
    if (owner !== null && replicas.every((node) => tables.nodes[node]?.owner === owner)) shared += 1;
    if (network !== null && replicas.every((node) => tables.nodes[node]?.network === network)) shared += 1;
  }
  return shared;
}

/** Pairs of replicas of a stage that share an owner or a network. */
export function sharedDomainPairs(tables: ClusterTables, draft: DenseIntervals): number {
  let pairs = 0;
  for (const replicas of stagesOf(tables, draft).values()) {
    for (const [at, a] of replicas.entries()) {
      for (const b of replicas.slice(at + 1)) if (sharesDomain(tables, a, b)) pairs += 1;
    }
  }
  return pairs;
}

function sharesDomain(tables: ClusterTables, a: number, b: number): boolean {
  const [one, other] = [tables.nodes[a], tables.nodes[b]];
  if (one === undefined || other === undefined) return false;
  return (one.owner !== null && one.owner === other.owner) || (one.network !== null && one.network === other.network);
}

/** Nodes that hold the same interval, by interval. */
function stagesOf(tables: ClusterTables, draft: DenseIntervals): Map<number, number[]> {
  const stages = new Map<number, number[]>();
  for (let node = 0; node < tables.nodeCount; node++) {
    if (heldBy(draft, node) === 0) continue;
    const key = (draft.first[node] ?? 0) * (tables.layerCount + 1) + (draft.end[node] ?? 0);
    const stage = stages.get(key);
    if (stage === undefined) stages.set(key, [node]);
    else stage.push(node);
  }
  return stages;
}
