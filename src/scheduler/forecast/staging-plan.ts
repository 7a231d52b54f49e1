/**
 * Which weights to bring to which disks ahead of need. A copy on the disk of a node that has to load the model later saves the time of
 * the fetch. So a copy is worth
 *
 *   chance that a load is needed and falls on this copy * chance that the node stays * seconds of the fetch * value of a second
 *
 * and it costs its bytes. It is ordered only when it is worth more than it costs, on a node that stays for three times the fetch with
 * more than 0.8, has room for it and could run the model, and only while nothing that somebody waits for is being fetched.
 *
 * A load is needed when a replica's node leaves while the model is in demand, or when demand outgrows the replicas. The k-th spare
 * copy falls to be used only when k loads are needed: its chance is the k-th power.
 * Not handled: layers of a model that no node can hold (share-plan.ts); the copy's later upkeep on the disk, which eviction ends.
 */
import type { ModelId, NodeId, Sha256Hex } from "../../domain/ids.ts";

export interface StagingModel {
  readonly modelId: ModelId;
  readonly weightsSha256: Sha256Hex;
  readonly fileBytes: number;
  /** Nodes that run it or are loading it, and the chance that all of these stay for the horizon. */
  readonly heldBy: ReadonlySet<NodeId>;
  readonly holdersStayChance: number;
  /** Copies on disks of other nodes. */
  readonly spareCopies: number;
  /** Requests to expect within the horizon. */
  readonly expectedRequests: number;
  /** Chance that demand within the horizon needs one replica more than there are. */
  readonly growthChance: number;
}

export interface StagingNode {
  readonly nodeId: NodeId;
  /** Takes work, and nothing is being fetched to it. */
  readonly isIdle: boolean;
  readonly cached: ReadonlySet<Sha256Hex>;
  readonly diskFreeBytes: number;
  readonly fetchBytesPerSecond: number;
  /** Largest usable memory of a device. */
  readonly memoryBytes: number;
  stayChance(horizonMs: number): number;
}

export interface StagingQuestion {
  /** Sorted by model id. */
  readonly models: readonly StagingModel[];
  /** That may get a copy now; of a large grid another part each time. */
  readonly nodes: readonly StagingNode[];
  readonly horizonMs: number;
  readonly prices: StagingPrices;
  /** Transfers that may begin now; 0 while the uplink has something better to do. */
  readonly transfersFree: number;
}

export interface StagingPrices {
  /** Of one second that a request waits for a cold model. */
  readonly microUsdPerColdSecond: number;
  readonly microUsdPerGigabyte: number;
}

export interface StagingOrder {
  readonly nodeId: NodeId;
  readonly modelId: ModelId;
  /** Worth minus cost, as expected. */
  readonly gainMicroUsd: number;
}

export type StagingObstacle =
  | "node-busy"
  | "cached-already"
  | "disk-full"
  | "memory-too-small"
  | "may-leave"
  | "not-worth-it";

export interface StagingPlan {
  /** Best first. */
  readonly orders: readonly StagingOrder[];
  /** Pairs of node and model that were passed over, by reason. */
  readonly passedOver: ReadonlyMap<StagingObstacle, number>;
}

export const STAY_CHANCE_MIN = 0.8;
export const STAY_FETCHES = 3;
/** Pairs looked at in one plan: 20 models on 100 nodes take two milliseconds. */
export const PAIRS_LOOKED_AT_MAX = 2_000;

export const MODELS_LOOKED_AT_MAX = 200;

export function planStaging(question: StagingQuestion): StagingPlan {
  const passedOver = new Map<StagingObstacle, number>();
  if (question.transfersFree <= 0) return { orders: [], passedOver };
  const models = likeliest(question.models);
  const nodesMax = Math.max(1, Math.floor(PAIRS_LOOKED_AT_MAX / Math.max(1, models.length)));
  const nodes = question.nodes.slice(0, nodesMax);
  const found = models.flatMap((model) => ordersFor(model, nodes, question, passedOver));
  found.sort((a, b) => b.gainMicroUsd - a.gainMicroUsd || compare(a.modelId, b.modelId) || compare(a.nodeId, b.nodeId));
  const orders: StagingOrder[] = [];
  const taken = new Set<NodeId>();
  for (const order of found) {
    if (orders.length >= question.transfersFree) break;
    // One at a time to a node: the second would only slow the first.
    if (taken.has(order.nodeId)) continue;
    taken.add(order.nodeId);
    orders.push(order);
  }
  return { orders, passedOver };
}

/** At most one: what is best for the model after the copies that there are. */
function ordersFor(
  model: StagingModel,
  nodes: readonly StagingNode[],
  question: StagingQuestion,
  passedOver: Map<StagingObstacle, number>,
): readonly StagingOrder[] {
  const chance = needChance(model) ** (model.spareCopies + 1);
  let best: StagingOrder | null = null;
  for (const node of nodes) {
    const seconds = model.fileBytes / node.fetchBytesPerSecond;
    const obstacle = obstacleOf(model, node, seconds);
    const worth = obstacle === null ? chance * node.stayChance(question.horizonMs) * seconds : 0;
    const cost = (model.fileBytes / 1e9) * question.prices.microUsdPerGigabyte;
    const gainMicroUsd = worth * question.prices.microUsdPerColdSecond - cost;
    if (obstacle !== null || gainMicroUsd <= 0) {
      const reason = obstacle ?? "not-worth-it";
      passedOver.set(reason, (passedOver.get(reason) ?? 0) + 1);
    } else if (best === null || gainMicroUsd > best.gainMicroUsd) {
      best = { nodeId: node.nodeId, modelId: model.modelId, gainMicroUsd };
    }
  }
  return best === null ? [] : [best];
}

function obstacleOf(model: StagingModel, node: StagingNode, fetchSeconds: number): StagingObstacle | null {
  if (node.cached.has(model.weightsSha256) || model.heldBy.has(node.nodeId)) return "cached-already";
  if (!node.isIdle) return "node-busy";
  if (node.memoryBytes < model.fileBytes) return "memory-too-small";
  if (node.diskFreeBytes < model.fileBytes) return "disk-full";
  if (node.stayChance(STAY_FETCHES * fetchSeconds * 1_000) <= STAY_CHANCE_MIN) return "may-leave";
  return null;
}

/** That within the horizon the model is asked for and has to be loaded somewhere once more. */
export function needChance({ expectedRequests, heldBy, holdersStayChance, growthChance }: StagingModel): number {
  const askedFor = 1 - Math.exp(-expectedRequests);
  const lossChance = heldBy.size === 0 ? 1 : 1 - holdersStayChance;
  return askedFor * (1 - (1 - lossChance) * (1 - growthChance));
}

/** Models that are asked for at all, those most asked for first. */
function likeliest(models: readonly StagingModel[]): readonly StagingModel[] {
  return models
    .filter(({ expectedRequests }) => expectedRequests > 0)
    .sort((a, b) => b.expectedRequests - a.expectedRequests || compare(a.modelId, b.modelId))
    .slice(0, MODELS_LOOKED_AT_MAX);
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
