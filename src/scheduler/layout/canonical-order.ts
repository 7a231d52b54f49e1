/**
 * An order of nodes that follows from what they are, not from how they are called or where they stand in a file: nodes of one
 * profile, place and links are interchangeable, and a search that numbers them alike finds the same for every naming.
 */
import { type Cluster, type ClusterNode, SINK, SOURCE } from "../../domain/cluster.ts";

export function inCanonicalOrder(cluster: Cluster): Cluster {
  const links = new Map<string, string[]>();
  for (const { from, to, bytesPerSecond, latencySeconds } of cluster.links) {
    const carries = `${bytesPerSecond}/${latencySeconds}`;
    push(links, from, to === SINK ? `sink ${carries}` : `out ${carries}`);
    push(links, to, from === SOURCE ? `source ${carries}` : `in ${carries}`);
  }
  const keyed = cluster.nodes.map((node, at) => ({ node, at, key: keyOf(node, (links.get(node.id) ?? []).sort()) }));
  keyed.sort((a, b) => (a.key < b.key ? -1 : a.key > b.key ? 1 : a.at - b.at));
  return { ...cluster, nodes: keyed.map(({ node }) => node) };
}

function keyOf(node: ClusterNode, links: readonly string[]): string {
  const { machine } = node;
  return JSON.stringify([
    machine.tokensPerSecondByLayers,
    machine.kvTokenLayersByLayers,
    node.layersMax,
    node.region,
    node.owner,
    node.network,
    node.trust,
    node.priceMicroUsdPerHour,
    node.survivalPerHour,
    node.gramsCo2PerHour,
    links,
  ]);
}

function push(map: Map<string, string[]>, key: string, value: string): void {
  const list = map.get(key);
  if (list === undefined) map.set(key, [value]);
  else list.push(value);
}
