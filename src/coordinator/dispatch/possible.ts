/**
 * Whether a request can ever run on this grid: refused at once when it cannot, with the count of nodes for each reason.
 *
 * The answer is that of a walk over all nodes (`impossibility`), which no request may cost on a large grid. So of each question the node that
 * said yes last is asked first, and a no is kept for as long as the grid is the same. Only a question that is new, or
 * whose node can no more, walks, and no further than to the first node that can.
 */
import type { EngineAbility } from "../../domain/attached-engine.ts";
import type { RequestConstraints, RequestTerms } from "../../domain/generation.ts";
import type { ModelId, NodeId } from "../../domain/ids.ts";
import type { ModelManifest } from "../../domain/model.ts";
import type { Refusal } from "../../domain/refusal.ts";
import { helpForNodes } from "../../scheduler/admission/refusal-help.ts";
import { estimatedEnds } from "../../scheduler/chains/stage-bytes.ts";
import {
  capableNodes,
  chainShortageBytes,
  isCapable,
  type WantedRoom,
} from "../../scheduler/placement/capable-nodes.ts";
import { TIER_RULES } from "../../scheduler/placement/objective.ts";
import type { ModelSize } from "../../scheduler/placement/slots.ts";
import {
  countLoser,
  describeLosers,
  type LoserReason,
  type NodeFact,
  nodeObstacle,
} from "../../scheduler/placement/snapshot.ts";
import { canSplit } from "./can-split.ts";

/** Nodes come and go by the minute; sooner is seldom worth it. */
const NO_NODE_RETRY_MS = 15_000;
/** Questions that are remembered: models times the rules that tenants set. Of more, the one that was asked first is forgotten. */
const QUESTIONS_MAX = 1_024;

/** What a piece of work asks for. */
export interface Asking {
  readonly modelId: ModelId;
  readonly terms: Pick<RequestTerms, "constraints">;
  /** A chain's stages cannot do it: embeddings. Absent: they can. */
  readonly needsWhole?: boolean;
  /** Beyond plain text; absent: nothing. Servers that nodes attach may lack some of it. */
  needs?(): readonly EngineAbility[];
  tokensNeeded(): number;
}

/** Of the catalogue: how large a model is; without what its layers are like it is never run in stages. */
export interface SizedModels {
  get(modelId: ModelId): { readonly manifest: ModelSize & Partial<LayeredModel> } | null;
}

type LayeredModel = Pick<
  ModelManifest,
  "architecture" | "layerCount" | "parameterCount" | "vocabSize" | "embeddingLength"
>;

export interface PossiblePorts {
  readonly models: SizedModels;
  readonly pool: {
    /** The same map for as long as nothing has changed. */
    nodes(): ReadonlyMap<NodeId, NodeFact>;
    node(nodeId: NodeId): NodeFact | null;
    /** Nodes on which no replica of the model can do all this; absent: all can. */
    lacking?(modelId: ModelId, needs: readonly EngineAbility[]): ReadonlySet<NodeId>;
  };
}

export class Possible {
  readonly #ports: PossiblePorts;
  /** By question: a node that could run it. */
  readonly #witnesses = new Map<string, NodeId>();
  /** By question and context: refused on this very grid. */
  readonly #refused = new Map<string, Refusal>();
  /** By question and context: several nodes of this very grid could run it together. */
  readonly #chained = new Set<string>();
  #refusedOn: ReadonlyMap<NodeId, NodeFact> | null = null;

  constructor(ports: PossiblePorts) {
    this.#ports = ports;
  }

  /** As `impossibility` over all nodes of this moment. */
  impossibility(asking: Asking): Refusal | null {
    const { models, pool } = this.#ports;
    const model = models.get(asking.modelId)?.manifest;
    if (model === undefined) return impossibility(asking, { models, nodes: NOBODY });
    const question = questionOf(asking);
    const needs = asking.needs?.() ?? [];
    const lacking =
      needs.length === 0 ? new Set<NodeId>() : (pool.lacking?.(asking.modelId, needs) ?? new Set<NodeId>());
    const want = { model, modelId: asking.modelId, tokensNeeded: asking.tokensNeeded(), lacking };
    const { constraints } = asking.terms;
    const witness = this.#witnesses.get(question);
    const fact = witness === undefined ? null : pool.node(witness);
    if (fact !== null && couldRun(fact, want, constraints)) return null;
    const nodes = pool.nodes();
    if (this.#refusedOn !== nodes) {
      this.#refused.clear();
      this.#chained.clear();
    }
    this.#refusedOn = nodes;
    const exactly = `${want.tokensNeeded} ${question}`;
    const refused = this.#refused.get(exactly);
    if (refused !== undefined) return refused;
    if (this.#chained.has(exactly)) return null;
    for (const [nodeId, node] of nodes) {
      if (!couldRun(node, want, constraints)) continue;
      remember(this.#witnesses, question, nodeId);
      return null;
    }
    const refusal = impossibility(asking, { models, nodes, lacking });
    if (refusal !== null) remember(this.#refused, exactly, refusal);
    else if (this.#chained.size < QUESTIONS_MAX) this.#chained.add(exactly);
    return refusal;
  }
}

const NOBODY: ReadonlyMap<NodeId, NodeFact> = new Map();

/** Null when some node could run it, or several in stages what stages can do, now or after loading the model or when they are heard again; else why none can. */
export function impossibility(
  asking: Asking,
  grid: {
    readonly models: SizedModels;
    readonly nodes: ReadonlyMap<NodeId, NodeFact>;
    /** Nodes whose servers lack what is asked for. */
    readonly lacking?: ReadonlySet<NodeId>;
  },
): Refusal | null {
  const model = grid.models.get(asking.modelId);
  if (model === null) {
    const message = `the model ${asking.modelId} is not registered on this grid`;
    return { code: "model-not-found", message, param: "model", retryAfterMs: null };
  }
  const { constraints } = asking.terms;
  const losers = new Map<LoserReason, number>();
  const nodes = constraints === undefined ? grid.nodes : allowedNodes(grid.nodes, constraints, losers);
  const tokensNeeded = asking.tokensNeeded();
  const { modelId } = asking;
  const { lacking = new Set<NodeId>() } = grid;
  for (const node of nodes.values()) if (isOnServer(node, { modelId, tokensNeeded, lacking })) return null;
  const found = capableNodes({ nodes, model: model.manifest, tokensNeeded });
  if (found.capable + found.mayReturn > 0) return null;
  const chain = chainObstacle(model.manifest, { nodes: nodes.values(), tokensNeeded });
  if (chain === null) return asking.needsWhole === true ? chainedOnly(asking.modelId) : null;
  for (const [reason, count] of found.losers) {
    if (reason !== "no-node" || losers.size === 0) losers.set(reason, (losers.get(reason) ?? 0) + count);
  }
  const message = `no node of the grid can run ${asking.modelId} with ${tokensNeeded} tokens of context (${describeLosers(losers)}), ${chain}. What helps: ${helpForNodes(losers)}`;
  return { code: "no-capable-node", message, param: null, retryAfterMs: NO_NODE_RETRY_MS };
}

/** Nobody has to wait for that: it is so for as long as no node is larger. */
function chainedOnly(modelId: ModelId): Refusal {
  const message = `embeddings need a node that holds the whole model, and ${modelId} runs in stages over several nodes here: it generates text only`;
  return { code: "invalid-request", message, param: "model", retryAfterMs: null };
}

/** Why no chain of nodes can run it, in words; null when one can. */
function chainObstacle(
  manifest: ModelSize & Partial<LayeredModel>,
  by: { readonly nodes: Iterable<NodeFact>; readonly tokensNeeded: number },
): string | null {
  const { architecture, layerCount, parameterCount, vocabSize, embeddingLength } = manifest;
  if (architecture === undefined || layerCount === undefined) return "and its layers are not known";
  if (!canSplit({ architecture, layerCount }))
    return `and a ${architecture} of ${layerCount} layers cannot be split over nodes`;
  const ends =
    parameterCount === undefined || vocabSize === undefined || embeddingLength === undefined
      ? { embeddingBytes: 0, outputBytes: 0 }
      : estimatedEnds({ fileBytes: manifest.fileBytes, parameterCount, vocabSize, embeddingLength });
  const { stagesMax } = TIER_RULES.default;
  const missingBytes = chainShortageBytes({ model: { ...manifest, layerCount, ends }, ...by, stagesMax });
  if (missingBytes === 0) return null;
  const missing = Number.isFinite(missingBytes) ? `: ${gigabytes(missingBytes)} of memory are missing` : "";
  return `nor can the nodes that serve stages together${missing}`;
}

/** For people: `0.3 GB`, `12 GB`. */
function gigabytes(bytes: number): string {
  const billions = bytes / 1e9;
  return `${billions < 10 ? Math.max(0.1, Math.ceil(billions * 10) / 10) : Math.ceil(billions)} GB`;
}

function questionOf(asking: Asking): string {
  const { modelId, needsWhole, terms } = asking;
  const { constraints } = terms;
  const beyond = asking.needs?.().join(" ") ?? "";
  const what = `${needsWhole === true ? "whole " : ""}${beyond === "" ? "" : `${beyond} `}${modelId}`;
  if (constraints === undefined) return what;
  const { regions, trustMin, priceMicroUsdPerHourMax, excludedRegions } = constraints;
  return JSON.stringify([what, regions, trustMin, priceMicroUsdPerHourMax, excludedRegions]);
}

function couldRun(node: NodeFact, want: WantedRoom & OnServer, constraints: RequestConstraints | undefined): boolean {
  const isAllowed = constraints === undefined || ruleObstacle(node, constraints) === null;
  return isAllowed && (isCapable(node, want) || isOnServer(node, want));
}

interface OnServer {
  readonly modelId: ModelId;
  readonly tokensNeeded: number;
  readonly lacking: ReadonlySet<NodeId>;
}

/** A server of the node's owner holds it, and nobody knows that it lacks what is needed. */
function isOnServer(node: NodeFact, { modelId, tokensNeeded, lacking }: OnServer): boolean {
  if (node.attached === undefined || lacking.has(node.nodeId)) return false;
  const obstacle = nodeObstacle(node);
  const isThere = obstacle === null || obstacle === "node-suspect";
  return isThere && node.attached.some((offer) => offer.modelId === modelId && offer.contextTokens >= tokensNeeded);
}

function remember<Value>(known: Map<string, Value>, key: string, value: Value): void {
  if (known.size >= QUESTIONS_MAX) {
    const [oldest] = known.keys();
    if (oldest !== undefined) known.delete(oldest);
  }
  known.set(key, value);
}

function allowedNodes(
  nodes: ReadonlyMap<NodeId, NodeFact>,
  constraints: RequestConstraints,
  losers: Map<LoserReason, number>,
): ReadonlyMap<NodeId, NodeFact> {
  const allowed = new Map<NodeId, NodeFact>();
  for (const [nodeId, node] of nodes) {
    const obstacle = ruleObstacle(node, constraints);
    if (obstacle === null) allowed.set(nodeId, node);
    else countLoser(losers, obstacle);
  }
  return allowed;
}

/** The matcher's rules (scheduler/matching), for a node that holds no replica yet. */
export function ruleObstacle(node: NodeFact, rules: RequestConstraints): LoserReason | null {
  const { regions, trustMin, priceMicroUsdPerHourMax, excludedRegions = [] } = rules;
  const region = node.region ?? null;
  if (excludedRegions.length > 0 && (region === null || excludedRegions.includes(region))) return "region-not-allowed";
  if (regions !== null && !regions.includes(node.region ?? "")) return "region-not-allowed";
  if (trustMin !== null && (node.trust ?? 1) < trustMin) return "trust-too-low";
  const priceMax = priceMicroUsdPerHourMax ?? Number.POSITIVE_INFINITY;
  return (node.priceMicroUsdPerHour ?? 0) > priceMax ? "price-too-high" : null;
}
