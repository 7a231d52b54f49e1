/**
 * The planner: which replicas should exist. It answers with orders and knows nothing of links; whoever carries them out
 * adds the planned replicas to the next snapshot, so that planning twice changes nothing.
 *
 * For each model, sorted by id: wanted = warm replicas, and one more than there are when somebody waits and every replica that
 * is large enough for him is full; never more than one for each node. A replica counts while it is planned, loading or
 * ready on a node that takes work, so a lost, suspect, yielding or draining node's replica is replaced at once. A replica that
 * nobody needed for `idleUnloadMs` and that is above the warm number is unloaded.
 *
 * Where: a node without this model, whose device has room for it (`slots.ts`); first a GPU, then the node with the fewest
 * replicas, then the most free memory, then the smaller id. A pair of node and model whose load failed waits out its
 * back-off.
 * Not handled: owners (the roster does not know them), cached weights, moving a replica to make room.
 */
import { usableBytes } from "../../domain/hardware.ts";
import type { ModelId, NodeId, ReplicaId } from "../../domain/ids.ts";
import type { ModelManifest } from "../../domain/model.ts";
import { type ReplicaSize, sizeReplica } from "./slots.ts";
import {
  countLoser,
  type LoserCounts,
  type LoserReason,
  type NodeFact,
  nodeObstacle,
  type ReplicaFact,
  type Snapshot,
} from "./snapshot.ts";

export type PlannedModel = Pick<
  ModelManifest,
  "modelId" | "fileBytes" | "kvBytesPerToken" | "contextTokensMax" | "warmReplicas"
>;

export interface Demand {
  /** Requests without a replica that could take them now, at least 1. */
  readonly waiting: number;
  /** Context that the largest of them needs. */
  readonly tokensNeeded: number;
}

export interface PlanQuestion {
  readonly snapshot: Snapshot;
  readonly models: readonly PlannedModel[];
  readonly demand: ReadonlyMap<ModelId, Demand>;
  /** Key of `pairKey`: until when this model is not loaded on this node again. */
  readonly notBeforeMs: ReadonlyMap<string, number>;
  readonly nowMs: number;
  readonly idleUnloadMs: number;
}

export type ReplicaOrder =
  | {
      readonly kind: "load";
      readonly nodeId: NodeId;
      readonly modelId: ModelId;
      readonly deviceId: string;
      readonly size: ReplicaSize;
    }
  | {
      readonly kind: "unload";
      readonly nodeId: NodeId;
      readonly replicaId: ReplicaId;
      readonly why: "idle" | "model-removed";
    };

export interface ReplicaPlan {
  readonly orders: readonly ReplicaOrder[];
  /** Models that want a replica more than any node can take, and why no node could. */
  readonly shortages: ReadonlyMap<ModelId, LoserCounts>;
}

export function pairKey(nodeId: NodeId, modelId: ModelId): string {
  return `${nodeId} ${modelId}`;
}

export function planReplicas(question: PlanQuestion): ReplicaPlan {
  const { snapshot } = question;
  const orders: ReplicaOrder[] = unloadOrders(question);
  const leaving = new Set(orders.flatMap((order) => (order.kind === "unload" ? [order.replicaId] : [])));
  const replicas = snapshot.replicas.filter((replica) => isHeld(replica) && !leaving.has(replica.replicaId));
  const room = new DeviceRoom(snapshot.nodes, replicas);
  const shortages = new Map<ModelId, LoserCounts>();
  const models = [...question.models].sort((a, b) => (a.modelId < b.modelId ? -1 : 1));
  for (const model of models) {
    const own = replicas.filter((replica) => replica.modelId === model.modelId);
    const serving = own.filter((replica) => isServing(replica, snapshot));
    const missing = wantedReplicas(model, serving, question) - serving.length;
    const taken = new Set(own.map((replica) => replica.nodeId));
    for (let count = 0; count < missing; count++) {
      const found = room.place(model, { taken, question });
      if (found.order === null) {
        shortages.set(model.modelId, found.losers);
        break;
      }
      orders.push(found.order);
      taken.add(found.order.nodeId);
    }
  }
  return { orders, shortages };
}

function wantedReplicas(model: PlannedModel, serving: readonly ReplicaFact[], question: PlanQuestion): number {
  const demand = question.demand.get(model.modelId);
  if (demand === undefined) return model.warmReplicas;
  const fitting = serving.filter((replica) => replica.contextTokens >= demand.tokensNeeded);
  const isLoading = fitting.some((replica) => replica.state !== "ready");
  const isFull = fitting.every((replica) => replica.slotsLeased >= replica.slots);
  const forDemand = isFull && !isLoading ? serving.length + 1 : serving.length;
  return Math.max(model.warmReplicas, forDemand);
}

function unloadOrders(question: PlanQuestion): ReplicaOrder[] {
  const { snapshot, models, demand, nowMs, idleUnloadMs } = question;
  const warm = new Map(models.map((model) => [model.modelId, model.warmReplicas]));
  const orders: ReplicaOrder[] = [];
  const ready = snapshot.replicas.filter((replica) => isServing(replica, snapshot) && replica.state === "ready");
  const kept = new Map<ModelId, number>();
  for (const replica of ready) kept.set(replica.modelId, (kept.get(replica.modelId) ?? 0) + 1);
  const longestIdleFirst = [...snapshot.replicas].sort(
    (a, b) => a.lastUsedAtMs - b.lastUsedAtMs || (a.replicaId < b.replicaId ? -1 : 1),
  );
  for (const replica of longestIdleFirst) {
    if (!isHeld(replica) || replica.slotsLeased > 0) continue;
    const { nodeId, replicaId, modelId } = replica;
    const warmWanted = warm.get(modelId);
    if (warmWanted === undefined) {
      orders.push({ kind: "unload", nodeId, replicaId, why: "model-removed" });
      continue;
    }
    const readyCount = kept.get(modelId) ?? 0;
    const isIdle = replica.state === "ready" && nowMs - replica.lastUsedAtMs >= idleUnloadMs;
    const isWaitedFor = demand.has(modelId);
    if (!isIdle || isWaitedFor || !isServing(replica, snapshot) || readyCount <= warmWanted) continue;
    orders.push({ kind: "unload", nodeId, replicaId, why: "idle" });
    kept.set(modelId, readyCount - 1);
  }
  return orders;
}

/** It takes memory on its node. */
function isHeld(replica: ReplicaFact): boolean {
  return replica.state !== "gone" && replica.state !== "failed";
}

/** It takes work, or will when it is loaded. */
function isServing(replica: ReplicaFact, snapshot: Snapshot): boolean {
  if (replica.state === "draining" || !isHeld(replica)) return false;
  const node = snapshot.nodes.get(replica.nodeId);
  return node !== undefined && nodeObstacle(node) === null;
}

/** Bytes still free on each device while orders are collected. */
class DeviceRoom {
  readonly #nodes: ReadonlyMap<NodeId, NodeFact>;
  readonly #plannedBytes = new Map<string, number>();
  readonly #replicasOn = new Map<NodeId, number>();

  constructor(nodes: ReadonlyMap<NodeId, NodeFact>, replicas: readonly ReplicaFact[]) {
    this.#nodes = nodes;
    for (const replica of replicas) this.#take(replica.nodeId, replica.deviceId, replica.memoryBytes);
  }

  place(
    model: PlannedModel,
    limits: { taken: ReadonlySet<NodeId>; question: PlanQuestion },
  ): { readonly order: Extract<ReplicaOrder, { kind: "load" }> | null; readonly losers: LoserCounts } {
    const losers = new Map<LoserReason, number>();
    const tokensNeeded = limits.question.demand.get(model.modelId)?.tokensNeeded ?? 0;
    const spots: { order: Extract<ReplicaOrder, { kind: "load" }>; isGpu: boolean; freeBytes: number }[] = [];
    for (const node of this.#nodes.values()) {
      if (limits.taken.has(node.nodeId)) continue;
      const blockedUntilMs = limits.question.notBeforeMs.get(pairKey(node.nodeId, model.modelId)) ?? 0;
      const obstacle = nodeObstacle(node) ?? (blockedUntilMs > limits.question.nowMs ? "load-failed-recently" : null);
      if (obstacle !== null) {
        countLoser(losers, obstacle);
        continue;
      }
      const before = spots.length;
      for (const device of node.devices) {
        const freeBytes = usableBytes(device) - (this.#plannedBytes.get(`${node.nodeId} ${device.deviceId}`) ?? 0);
        const size = sizeReplica(model, freeBytes);
        if (!size.ok || size.value.contextTokens < tokensNeeded) continue;
        const { nodeId } = node;
        const order = {
          kind: "load",
          nodeId,
          modelId: model.modelId,
          deviceId: device.deviceId,
          size: size.value,
        } as const;
        spots.push({ order, isGpu: device.kind === "gpu", freeBytes });
      }
      if (spots.length === before) countLoser(losers, "memory-too-small");
    }
    spots.sort(
      (a, b) =>
        Number(b.isGpu) - Number(a.isGpu) ||
        this.#countOn(a.order.nodeId) - this.#countOn(b.order.nodeId) ||
        b.freeBytes - a.freeBytes ||
        (a.order.nodeId < b.order.nodeId ? -1 : 1) ||
        (a.order.deviceId < b.order.deviceId ? -1 : 1),
    );
    const order = spots[0]?.order ?? null;
    if (order !== null) this.#take(order.nodeId, order.deviceId, order.size.memoryBytes);
    return { order, losers };
  }

  #countOn(nodeId: NodeId): number {
    return this.#replicasOn.get(nodeId) ?? 0;
  }

  #take(nodeId: NodeId, deviceId: string, bytes: number): void {
    const key = `${nodeId} ${deviceId}`;
    this.#plannedBytes.set(key, (this.#plannedBytes.get(key) ?? 0) + bytes);
    this.#replicasOn.set(nodeId, this.#countOn(nodeId) + 1);
  }
}
