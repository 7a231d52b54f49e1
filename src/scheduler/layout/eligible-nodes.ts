/** Which nodes may take part at all, and of each that may not which rule kept it out, with what it has and what it would need. */
import type { Cluster, ClusterNode } from "../../domain/cluster.ts";
import type { PlanRules } from "./plan-goals.ts";

export type NodeConstraint = "region" | "trust" | "price" | "vram" | "context" | "links";

export interface NodeRefusal {
  readonly node: string;
  readonly constraint: NodeConstraint;
  /** A sentence with both values. */
  readonly lacks: string;
}

export interface EligibleNodes {
  /** The cluster without the refused nodes and their links. */
  readonly cluster: Cluster;
  readonly refused: readonly NodeRefusal[];
}

export function eligibleNodes(cluster: Cluster, rules: PlanRules): EligibleNodes {
  const linked = new Set(cluster.links.flatMap(({ from, to }) => [from, to]));
  const refused: NodeRefusal[] = [];
  const nodes = cluster.nodes.filter((node) => {
    const found = refusalOf(node, { cluster, rules, linked });
    if (found !== null) refused.push({ node: node.id, ...found });
    return found === null;
  });
  if (refused.length === 0) return { cluster, refused };
  const out = new Set(refused.map(({ node }) => node));
  const links = cluster.links.filter(({ from, to }) => !out.has(from) && !out.has(to));
  return { cluster: { ...cluster, nodes, links }, refused };
}

/** The first rule that the node breaks, in the order in which a person would fix them. */
function refusalOf(
  node: ClusterNode,
  more: { cluster: Cluster; rules: PlanRules; linked: ReadonlySet<string> },
): Omit<NodeRefusal, "node"> | null {
  const { rules } = more;
  const { model } = more.cluster;
  if (rules.regionsAllowed !== null && (node.region === null || !rules.regionsAllowed.includes(node.region))) {
    const has = node.region === null ? "names no region" : `is in ${node.region}`;
    return { constraint: "region", lacks: `${has}; allowed: ${rules.regionsAllowed.join(", ") || "none"}` };
  }
  if (node.trust < rules.trustMin) {
    return { constraint: "trust", lacks: `trust ${node.trust}, at least ${rules.trustMin} needed` };
  }
  const priceMax = rules.priceMicroUsdPerHourMax;
  if (priceMax !== null && node.priceMicroUsdPerHour > priceMax) {
    return {
      constraint: "price",
      lacks: `costs ${node.priceMicroUsdPerHour} micro-USD an hour, at most ${priceMax} allowed`,
    };
  }
  if (Math.min(node.layersMax, node.machine.layersMax) < 1 || node.machine.vramBytes < model.layerBytes) {
    return {
      constraint: "vram",
      lacks: `room for ${Math.min(node.layersMax, node.machine.layersMax)} layers of ${model.layerBytes} bytes in ${node.machine.vramBytes} bytes, at least 1 needed`,
    };
  }
  const contextTokens = contextTokensOf(more.cluster, rules);
  const kv = Math.max(0, ...node.machine.kvTokenLayersByLayers.map((room, held) => (held === 0 ? 0 : room / held)));
  if (kv < contextTokens) {
    return { constraint: "context", lacks: `KV room for ${Math.floor(kv)} tokens, at least ${contextTokens} needed` };
  }
  if (!more.linked.has(node.id)) return { constraint: "links", lacks: "has no link at all" };
  return null;
}

/** Tokens of one request that every node of a plan must have KV room for. */
export function contextTokensOf(cluster: Cluster, rules: PlanRules): number {
  return rules.contextTokensMin ?? cluster.model.promptTokensMean + cluster.model.outputTokensMean;
}
