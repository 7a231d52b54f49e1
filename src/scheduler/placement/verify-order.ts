/**
 * Whether an order of a plan still stands. A plan is made from a snapshot, in another thread, while the grid goes on; before an order
 * is sent, the laws are checked once more against what is so now: the node takes work, has the room, has no replica of the model,
 * and nobody uses what is to go.
 */
import { usableBytes } from "../../domain/hardware.ts";
import type { NodeId } from "../../domain/ids.ts";
import { type ChainOrder, type LoadOrder, pairKey, type ReplicaOrder, type UnloadOrder } from "./plan-question.ts";
import { type LoserReason, type NodeFact, nodeObstacle, type ReplicaFact } from "./snapshot.ts";

export interface GridNow {
  node(nodeId: NodeId): NodeFact | undefined;
  /** All that hold memory there. */
  replicasOn(nodeId: NodeId): readonly ReplicaFact[];
  readonly notBeforeMs: ReadonlyMap<string, number>;
  readonly nowMs: number;
}

export type OrderObstacle = LoserReason | "replica-in-use" | "replica-unknown";

/** Null when it stands. Of a chain: when all its stages do. */
export function orderObstacle(order: ReplicaOrder, now: GridNow): OrderObstacle | null {
  switch (order.kind) {
    case "load":
      return loadObstacle({ ...order, memoryBytes: order.size.memoryBytes }, now);
    case "load-chain":
      return chainObstacle(order, now);
    case "unload":
      return unloadObstacle(order, now);
  }
}

function chainObstacle(order: ChainOrder, now: GridNow): OrderObstacle | null {
  for (const stage of order.stages) {
    const isOnlyOne = order.stages.filter(({ nodeId }) => nodeId === stage.nodeId).length === 1;
    if (!isOnlyOne) return "replica-here-already";
    if (now.node(stage.nodeId)?.hasStageServing === false) return "serves-no-stages";
    const obstacle = loadObstacle({ ...stage, modelId: order.modelId }, now);
    if (obstacle !== null) return obstacle;
  }
  return null;
}

function loadObstacle(
  load: Pick<LoadOrder, "nodeId" | "deviceId" | "modelId"> & { readonly memoryBytes: number },
  now: GridNow,
): OrderObstacle | null {
  const node = now.node(load.nodeId);
  if (node === undefined) return "no-node";
  const obstacle = nodeObstacle(node);
  if (obstacle !== null) return obstacle;
  const held = now.replicasOn(load.nodeId).filter(({ state }) => state !== "failed" && state !== "gone");
  if (held.some(({ modelId }) => modelId === load.modelId)) return "replica-here-already";
  if ((now.notBeforeMs.get(pairKey(load.nodeId, load.modelId)) ?? 0) > now.nowMs) return "load-failed-recently";
  const device = node.devices.find(({ deviceId }) => deviceId === load.deviceId);
  if (device === undefined) return "memory-too-small";
  const taken = held
    .filter(({ deviceId }) => deviceId === load.deviceId)
    .reduce((sum, { memoryBytes }) => sum + memoryBytes, 0);
  return taken + load.memoryBytes > usableBytes(device) ? "memory-too-small" : null;
}

function unloadObstacle(order: UnloadOrder, now: GridNow): OrderObstacle | null {
  const replica = now.replicasOn(order.nodeId).find(({ replicaId }) => replicaId === order.replicaId);
  if (replica === undefined) return "replica-unknown";
  return replica.slotsLeased > 0 ? "replica-in-use" : null;
}
