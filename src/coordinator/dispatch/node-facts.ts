/** What plans know of a node, from what the registry, the forecast and the replica book say of it. */
import type { NodeId, Sha256Hex } from "../../domain/ids.ts";
import type { NodeFact } from "../../scheduler/placement/snapshot.ts";
import type { NodeView } from "../roster.ts";

export interface NodeKnowledge {
  /** Digests of the weights on its disk; undefined or null when nobody knows. */
  cachedWeights(nodeId: NodeId): ReadonlySet<Sha256Hex> | null | undefined;
  /** Chance that the node stays for the planner's horizon; null when nobody knows. */
  stayChance(nodeId: NodeId): number | null;
}

export function nodeFact(view: NodeView, knowledge: NodeKnowledge): NodeFact {
  const { nodeId, state, isYielding, capabilities } = view;
  const cachedWeights = knowledge.cachedWeights(nodeId);
  return {
    nodeId,
    state,
    isYielding,
    devices: capabilities.devices,
    decodeTokPerSecond: capabilities.referenceSpeed?.decodeTokPerSecond ?? null,
    region: view.region ?? null,
    owner: view.owner ?? null,
    network: view.network ?? null,
    stayChance: knowledge.stayChance(nodeId) ?? 1,
    ...(cachedWeights === undefined || cachedWeights === null ? {} : { cachedWeights }),
  };
}
