/** How chains look to an operator. Pure: views in, rows out. */
import type { NodeId } from "../../domain/ids.ts";
import type { CarrierKind } from "../../domain/peer.ts";
import type { ChainsView, ChainView, StageView } from "../chains/chain-view.ts";
import type { ChainList, ChainRow, ChainStageRow } from "./chain-schema.ts";

export interface ChainNames {
  /** The node's name, or its id when it is known no more. */
  nameOf(nodeId: NodeId): string;
  /** It finishes what it has and gets nothing new: nor does a chain with a stage on it. */
  isDraining(nodeId: NodeId): boolean;
  /** What carries the way from one node to another; null when nobody told. */
  carrier(from: NodeId, to: NodeId): CarrierKind | null;
}

export function chainList(view: ChainsView, names: ChainNames): ChainList {
  return {
    chains: view.chains().map((chain) => chainRow(chain, names)),
    spares: view.spares().map(({ replicaId, nodeId, modelId, first, count, state }) => {
      return { replicaId, nodeId, nodeName: names.nameOf(nodeId), modelId, first, count, state };
    }),
    stats: { ...view.stats() },
  };
}

function chainRow(chain: ChainView, names: ChainNames): ChainRow {
  const { chainId, modelId, weightsSha256, state, epoch, wire, layerCount, contextTokens, sequencesMax } = chain;
  const { loopMs, drafted, accepted, repairs, recoveryMs, trouble, troubleAgoMs = null, stages } = chain;
  return {
    ...{ chainId, modelId, weightsSha256, state, chainEpoch: epoch, wire, layerCount, contextTokens, sequencesMax },
    stages: stages.map((stage, at) => stageRow(stage, stages[(at + 1) % stages.length] ?? null, names)),
    ...{ loopMs, loneTokPerSecond: loopMs !== null && loopMs > 0 ? 1_000 / loopMs : null, drafted, accepted },
    ...{ repairs, recoveryMs, trouble, troubleAgoMs },
    missing: stages.flatMap((stage) => (state === "serving" ? drainingOf(stage, names) : missingOf(stage, names))),
  };
}

function stageRow(stage: StageView, next: StageView | null, names: ChainNames): ChainStageRow {
  const { holder, successor, times } = stage;
  const to = next?.holder ?? null;
  return {
    first: stage.first,
    count: stage.count,
    replicaId: holder?.replicaId ?? null,
    nodeId: holder?.nodeId ?? null,
    nodeName: holder === null ? null : names.nameOf(holder.nodeId),
    deviceId: holder?.deviceId ?? null,
    memoryBytes: holder?.memoryBytes ?? null,
    state: holder?.state ?? null,
    isLinked: holder?.isLinked ?? false,
    successor:
      successor === null
        ? null
        : {
            replicaId: successor.replicaId,
            nodeId: successor.nodeId,
            nodeName: names.nameOf(successor.nodeId),
            state: successor.state,
          },
    singleMs: times?.singleMs ?? null,
    singlesMean: times?.singlesMean ?? null,
    promptMsPerPosition: times?.promptMsPerPosition ?? null,
    nextRttMs: times?.nextRttMs ?? null,
    nextCarrier: holder === null || to === null ? null : names.carrier(holder.nodeId, to.nodeId),
    bytesSent: times?.bytesSent ?? 0,
    positionsSent: times?.positionsSent ?? 0,
  };
}

/** Of a chain that serves. */
function drainingOf(stage: StageView, names: ChainNames): readonly string[] {
  const { holder, successor } = stage;
  if (holder === null || !names.isDraining(holder.nodeId)) return [];
  const then = successor === null ? "no other node takes them over" : `${names.nameOf(successor.nodeId)} takes over`;
  return [`${layersOf(stage)}: ${names.nameOf(holder.nodeId)} is drained, so nothing new comes to the chain; ${then}`];
}

function missingOf(stage: StageView, names: ChainNames): readonly string[] {
  const { holder, successor } = stage;
  const layers = layersOf(stage);
  if (successor !== null) return [`${layers}: ${names.nameOf(successor.nodeId)} loads them (${successor.state})`];
  if (holder === null) return [`${layers}: no node takes them (${stage.lacks ?? "nobody was found yet"})`];
  const name = names.nameOf(holder.nodeId);
  if (holder.state !== "ready") return [`${layers}: not ready on ${name} (${holder.state})`];
  return holder.isLinked ? [] : [`${layers}: ${name} is not linked to its neighbours`];
}

function layersOf({ first, count }: StageView): string {
  return count === 1 ? `layer ${first}` : `layers ${first}-${first + count - 1}`;
}
