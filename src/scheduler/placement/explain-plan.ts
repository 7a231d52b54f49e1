/** Why a plan is as it is: for each model where it is, how many nodes each constraint kept out, and who came nearest to being chosen. */
import type { NodeId } from "../../domain/ids.ts";
import { isLan } from "./chain-speed.ts";
import { UNKNOWN } from "./grid-columns.ts";
import type { HeldChain, ModelState, PlacementState, ReplicaState } from "./placement-state.ts";
import type { ModelPlan, PlacedReplica, PlanLoser } from "./plan-question.ts";
import { countLoser, type LoserReason } from "./snapshot.ts";
import { tokenTime } from "./speed-model.ts";
import { isBetter, type Spot, spotOn, type Want } from "./spots.ts";

/** As many as a person reads. */
const BEST_LOSERS = 5;
/** Replicas of one model that are told one by one: what a plan says has to come back from another thread. */
export const REPLICAS_TOLD_MAX = 16;
const WOULD_BE: Want = { isForced: false, isForAnybody: false, contextTokensNeeded: 0, isThrifty: false };

export function explainModel(
  grid: PlacementState,
  state: ModelState,
  chainLosers: ReadonlyMap<LoserReason, number>,
): ModelPlan {
  const { nodes } = grid.question.grid;
  const losers = new Map<LoserReason, number>(chainLosers);
  const feasible: Spot[] = [];
  const barred: PlanLoser[] = [];
  for (let node = 0; node < nodes.ids.length; node++) {
    const spot = spotOn(grid, state, { node, want: WOULD_BE });
    const nodeId = nodes.ids[node];
    if (typeof spot !== "string") feasible.push(spot);
    else if (nodeId !== undefined && spot !== "replica-here-already") {
      countLoser(losers, spot);
      if (barred.length < BEST_LOSERS) barred.push({ nodeId, reason: spot, gainMicroUsdPerHour: null });
    }
  }
  if (nodes.ids.length === 0) countLoser(losers, "no-node");
  feasible.sort((a, b) => (isBetter(grid, a, b) ? -1 : 1));
  const best = feasible.slice(0, BEST_LOSERS).flatMap((spot): PlanLoser[] => {
    const nodeId = nodes.ids[spot.node];
    const reason = spot.gain > 0 && spot.sharedDomains > 0 ? "shares-failure-domain" : "not-worth-it";
    return nodeId === undefined ? [] : [{ nodeId, reason, gainMicroUsdPerHour: spot.gain }];
  });
  if (feasible.length > 0) losers.set("not-worth-it", feasible.length);
  const { demandTokPerSecond, capacityTokPerSecond, servedTokPerSecond } = totals(state);
  return {
    modelId: state.model.modelId,
    warmReplicas: state.model.warmReplicas,
    demandTokPerSecond,
    capacityTokPerSecond,
    servedTokPerSecond,
    replicaCount: state.replicas.length,
    replicas: placedReplicas(grid, state),
    losers: [...losers].sort(([a], [b]) => (a < b ? -1 : 1)),
    bestLosers: [...best, ...barred].slice(0, BEST_LOSERS),
  };
}

function totals({ classes, replicas }: ModelState) {
  return {
    demandTokPerSecond: classes.reduce((sum, { demand }) => sum + demand.tokPerSecond, 0),
    capacityTokPerSecond: replicas.reduce((sum, { tokPerSecond }) => sum + tokPerSecond, 0),
    servedTokPerSecond: replicas.reduce((sum, { served }) => sum + served, 0),
  };
}

function placedReplicas(grid: PlacementState, { replicas }: ModelState): readonly PlacedReplica[] {
  const { nodes, devices, names } = grid.question.grid;
  return replicas.slice(0, REPLICAS_TOLD_MAX).flatMap((replica): PlacedReplica[] => {
    const nodeId: NodeId | undefined = nodes.ids[replica.node];
    if (nodeId === undefined) return [];
    if (replica.chain !== undefined) return [placedChain(grid, replica, replica.chain)];
    const speed = grid.speedOn(replica);
    const { seconds, source } = tokenTime(speed);
    return [
      {
        nodeIds: [nodeId],
        deviceId: names[devices.name[replica.device] ?? UNKNOWN] ?? "",
        kind: "whole",
        quantisation: replica.variant.quantisation,
        slots: replica.size.sequencesMax,
        contextTokens: replica.size.contextTokens,
        tokPerSecond: replica.tokPerSecond,
        speed: { loneTokPerSecond: 1 / seconds, source, attempts: speed.observed?.count ?? 0 },
        isHeld: replica.row !== UNKNOWN,
      },
    ];
  });
}

function placedChain(grid: PlacementState, replica: ReplicaState, { stages, ...speed }: HeldChain): PlacedReplica {
  const { nodes, devices, names } = grid.question.grid;
  const places = stages.flatMap(({ node, first, count }) => {
    const nodeId = nodes.ids[node];
    return nodeId === undefined ? [] : [{ nodeId, first, count }];
  });
  return {
    nodeIds: places.map(({ nodeId }) => nodeId),
    stages: places,
    deviceId: names[devices.name[replica.device] ?? UNKNOWN] ?? "",
    kind: isLan(grid, stages) ? "lan-group" : "chain",
    quantisation: replica.variant.quantisation,
    slots: replica.size.sequencesMax,
    contextTokens: replica.size.contextTokens,
    tokPerSecond: replica.tokPerSecond,
    speed: {
      loneTokPerSecond: 1 / speed.loopSeconds,
      source: speed.isMeasured ? "observed" : "modelled",
      attempts: 0,
    },
    isHeld: replica.row !== UNKNOWN,
  };
}
