/** What the scheduler is asked when a place of a chain is empty, or its stage has to move. */

import { shareOfStage } from "../../domain/chain.ts";
import { usableBytes } from "../../domain/hardware.ts";
import type { ModelId, NodeId, ReplicaId, Sha256Hex } from "../../domain/ids.ts";
import type { LayerShare } from "../../domain/weights.ts";
import type { ChainRepairQuestion, SpareStage, StageCandidate } from "../../scheduler/chains/chain-repair.ts";
import { pairKey } from "../../scheduler/placement/plan-question.ts";
import { type LoserReason, type NodeFact, nodeObstacle, type ReplicaFact } from "../../scheduler/placement/snapshot.ts";
import type { StageNow } from "../dispatch/replica-stage.ts";
import type { Chain, Place } from "./chain.ts";
import type { Standing } from "./chain-blame.ts";

export interface StageGrid {
  /** In the order of node ids. */
  nodes(): ReadonlyMap<NodeId, NodeFact>;
  replicasOn(nodeId: NodeId): readonly ReplicaFact[];
  stage(replicaId: ReplicaId): StageNow | null;
  notBeforeMs(): ReadonlyMap<string, number>;
  /** Bytes of a share of the weights, and how many of them lie on the node; null while nobody knows. */
  shareOn(
    nodeId: NodeId,
    weightsSha256: Sha256Hex,
    share: LayerShare,
  ): { readonly bytes: number; readonly storedBytes: number } | null;
  /** What neighbours' words have made of it. */
  standing(nodeId: NodeId): Standing;
  readonly nowMs: number;
}

/** A device with what is left on it. */
export interface Room {
  readonly deviceId: string;
  readonly freeBytes: number;
}

export function repairQuestion(
  chain: Chain,
  place: Place,
  by: { readonly grid: StageGrid; readonly spares: readonly SpareStage[]; readonly fileBytes: number },
): ChainRepairQuestion {
  const { grid } = by;
  const at = chain.places.indexOf(place);
  const previous = nodeAt(chain, at - 1, grid);
  const next = nodeAt(chain, at + 1, grid);
  const { first, count, memoryBytes } = place;
  // Who has it may keep it: only other nodes are asked.
  const members = new Set(chain.places.map((_, index) => nodeAt(chain, index, grid)));
  const share = shareOfStage(place, chain.layerCount);
  const others = [...grid.nodes().values()].filter(({ nodeId }) => !members.has(nodeId));
  const known = others.map((node) => grid.shareOn(node.nodeId, chain.weightsSha256, share));
  const weightsBytes = known.find((one) => one !== null)?.bytes ?? (by.fileBytes * count) / chain.layerCount;
  const notBeforeMs = grid.notBeforeMs();
  const candidates = others.map((node, index): StageCandidate => {
    const links = new Map(node.links?.map((link) => [link.to, link]));
    const near = [previous, next].flatMap((other) => (other === null ? [] : (links.get(other) ?? [])));
    // A spare of other layers makes room: a chain that lacks a stage needs no spare of another one.
    const kept = grid.replicasOn(node.nodeId).filter((replica) => !isSpareOf(replica, chain.modelId));
    return {
      nodeId: node.nodeId,
      obstacle: stageObstacle(node, { grid, kept, modelId: chain.modelId, notBeforeMs }),
      ...doubtOf(grid.standing(node.nodeId)),
      ...roomiest(node, kept),
      storedBytes:
        known[index]?.storedBytes ?? (node.cachedWeights?.has(chain.weightsSha256) === true ? weightsBytes : 0),
      stayChance: node.stayChance ?? 1,
      previousRttMs: previous === null ? null : (links.get(previous)?.rttMs ?? null),
      nextRttMs: next === null ? null : (links.get(next)?.rttMs ?? null),
      bytesPerSecond: near.length === 0 ? null : Math.min(...near.map(({ bytesPerSecond }) => bytesPerSecond)),
    };
  });
  const lost = { first, count, memoryBytes, weightsBytes, previous, next };
  return { lost, spares: by.spares.filter(({ nodeId }) => !members.has(nodeId)), candidates };
}

function doubtOf(standing: Standing): Pick<StageCandidate, "doubt"> {
  return standing === "trusted" || standing === "barred" ? {} : { doubt: standing };
}

/** The same, were this the only other node. */
export function onlyOn(question: ChainRepairQuestion, nodeId: NodeId): ChainRepairQuestion {
  const isThere = (one: { readonly nodeId: NodeId }) => one.nodeId === nodeId;
  return { ...question, spares: question.spares.filter(isThere), candidates: question.candidates.filter(isThere) };
}

function nodeAt({ places }: Chain, at: number, grid: StageGrid): NodeId | null {
  const holder = places[at]?.holder ?? null;
  return holder === null ? null : (grid.stage(holder)?.nodeId ?? null);
}

/** A stage of the model that is in no chain. */
export function isSpareOf({ modelId, stage }: Pick<ReplicaFact, "modelId" | "stage">, of: ModelId): boolean {
  return modelId === of && stage !== undefined && stage.chainId === null;
}

/** Why the node takes no stage of the model beside what it keeps; null when it does. */
function stageObstacle(
  node: NodeFact,
  by: {
    readonly grid: StageGrid;
    readonly kept: readonly ReplicaFact[];
    readonly modelId: ModelId;
    readonly notBeforeMs: ReadonlyMap<string, number>;
  },
): LoserReason | null {
  const { grid, kept, modelId, notBeforeMs } = by;
  const obstacle = nodeObstacle(node);
  if (obstacle !== null) return obstacle;
  if (node.hasStageServing !== true) return "serves-no-stages";
  if (grid.standing(node.nodeId) === "barred") return "node-failed-before";
  if (kept.some((replica) => replica.modelId === modelId)) return "replica-here-already";
  return (notBeforeMs.get(pairKey(node.nodeId, modelId)) ?? 0) > grid.nowMs ? "load-failed-recently" : null;
}

/** The device with the most left once all that is planned has its own. */
export function roomiest(node: NodeFact, replicas: readonly ReplicaFact[]): Room {
  let best: Room = { deviceId: node.devices[0]?.deviceId ?? "", freeBytes: Number.NEGATIVE_INFINITY };
  for (const device of node.devices) {
    const held = replicas.filter(({ deviceId, state }) => {
      return deviceId === device.deviceId && state !== "failed" && state !== "gone";
    });
    const freeBytes = usableBytes(device) - held.reduce((sum, { memoryBytes }) => sum + memoryBytes, 0);
    if (freeBytes > best.freeBytes) best = { deviceId: device.deviceId, freeBytes };
  }
  return { ...best, freeBytes: Math.max(best.freeBytes, Number.MIN_SAFE_INTEGER) };
}
