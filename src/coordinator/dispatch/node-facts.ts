/** What plans know of a node, from what the registry, the forecast and the replica book say of it. */
import type { NodeId, Sha256Hex } from "../../domain/ids.ts";
import type { ObservedSpeed } from "../../scheduler/placement/observed-speed.ts";
import type { LinkFact, NodeFact } from "../../scheduler/placement/snapshot.ts";
import type { NodeView } from "../roster.ts";
import { offersOf } from "./attached-servers.ts";

export interface NodeKnowledge {
  /** Digests of the weights on its disk; undefined or null when nobody knows. */
  cachedWeights(nodeId: NodeId): ReadonlySet<Sha256Hex> | null | undefined;
  /** Chance that the node stays for the planner's horizon; null when nobody knows. */
  stayChance(nodeId: NodeId): number | null;
  /** Ways to other nodes, measured or estimated. */
  links?(nodeId: NodeId): readonly LinkFact[];
  /** What it did with files that it ran. */
  observedSpeeds?(nodeId: NodeId): readonly ObservedSpeed[];
}

/** What is known of a node beside its view changes slowly: chances by the hour, disks by the load. */
const FACT_MS = 2_000;

/** Facts of nodes, made again only when the node's view changed or after a while: a thousand of them take a millisecond or two. */
export class NodeFacts {
  readonly #knowledge: NodeKnowledge;
  readonly #made = new WeakMap<NodeView, { readonly fact: NodeFact; readonly atMs: number }>();

  constructor(knowledge: NodeKnowledge) {
    this.#knowledge = knowledge;
  }

  of(view: NodeView, nowMs: number): NodeFact {
    const made = this.#made.get(view);
    if (made !== undefined && nowMs - made.atMs < FACT_MS) return made.fact;
    const fact = nodeFact(view, this.#knowledge);
    this.#made.set(view, { fact, atMs: nowMs });
    return fact;
  }
}

function nodeFact(view: NodeView, knowledge: NodeKnowledge): NodeFact {
  const { nodeId, state, isYielding, capabilities } = view;
  const observedSpeeds = knowledge.observedSpeeds?.(nodeId) ?? [];
  const cachedWeights = knowledge.cachedWeights(nodeId);
  const links = knowledge.links?.(nodeId) ?? [];
  const attached = offersOf(view);
  return {
    nodeId,
    state,
    isYielding,
    devices: capabilities.devices,
    decodeTokPerSecond: capabilities.referenceSpeed?.decodeTokPerSecond ?? null,
    region: view.region ?? null,
    owner: view.owner ?? null,
    network: view.network ?? null,
    rttMs: view.rttMs,
    hasStageServing: capabilities.servesStages === true,
    ...(view.priceMicroUsdPerHour === undefined || view.priceMicroUsdPerHour === null
      ? {}
      : { priceMicroUsdPerHour: view.priceMicroUsdPerHour }),
    ...(links.length === 0 ? {} : { links }),
    ...(attached.length === 0 ? {} : { attached }),
    ...(observedSpeeds.length === 0 ? {} : { observedSpeeds }),
    stayChance: knowledge.stayChance(nodeId) ?? 1,
    ...(cachedWeights === undefined || cachedWeights === null ? {} : { cachedWeights }),
  };
}
