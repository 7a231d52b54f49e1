/** Chains as plain data for whoever shows them. */
import type { ReplicaId } from "../../domain/ids.ts";
import type { StageNow } from "../dispatch/replica-stage.ts";
import { type Chain, describePlace, describeTrouble, type Place } from "./chain.ts";
import type { ChainView, SpareView, StageView } from "./chain-view.ts";

export interface StageBook {
  stage(replicaId: ReplicaId): StageNow | null;
}

export function chainView(chain: Chain, book: StageBook, nowMs: number): ChainView {
  const { chainId, modelId, weightsSha256, state, epoch, wire, layerCount, contextTokens, sequencesMax } = chain;
  const head = chain.places[0]?.report ?? null;
  return {
    chainId,
    modelId,
    weightsSha256,
    state,
    epoch,
    wire,
    layerCount,
    contextTokens,
    sequencesMax,
    stages: chain.places.map((place) => stageView(place, book)),
    loopMs: head?.loopMs ?? null,
    drafted: head?.drafted ?? 0,
    accepted: head?.accepted ?? 0,
    repairs: chain.repairs,
    recoveryMs: chain.recoveryMs,
    trouble: describeTrouble(chain),
    troubleAgoMs: chain.trouble === null ? null : Math.max(0, nowMs - chain.trouble.atMs),
  };
}

function stageView({ first, count, holder, successor, isLinked, report, lacks }: Place, book: StageBook): StageView {
  const held = holder === null ? null : book.stage(holder);
  const next = successor === null ? null : book.stage(successor);
  return {
    first,
    count,
    holder:
      held === null ? null : { ...nameOf(held), deviceId: held.deviceId, memoryBytes: held.memoryBytes, isLinked },
    successor: next === null ? null : nameOf(next),
    lacks,
    times: report === null ? null : timesOf(report),
  };
}

function nameOf({ replicaId, nodeId, report }: StageNow): NonNullable<StageView["successor"]> {
  return { replicaId, nodeId, state: report?.state ?? "planned" };
}

function timesOf(report: NonNullable<Place["report"]>): NonNullable<StageView["times"]> {
  const { nextRttMs, singleMs, singlesMean, promptMsPerPosition, bytesSent, positionsSent } = report;
  return { nextRttMs, singleMs, singlesMean, promptMsPerPosition, bytesSent, positionsSent };
}

export function spareView({ replicaId, nodeId, modelId, weightsSha256, first, count, report }: StageNow): SpareView {
  return { replicaId, nodeId, modelId, weightsSha256, first, count, state: report?.state ?? "planned" };
}

/** Of one that does not serve: which stages it lacks, and why. */
export function describeChain(chain: Chain, book: StageBook): string {
  const missing = chain.places.filter(({ holder }) => holder === null || book.stage(holder)?.isReady !== true);
  const places = missing.map((place) => `${describePlace(place)} ${whereIs(place, book)}`).join(", ");
  const what = `the chain of ${chain.places.length} stages is ${chain.state}`;
  const trouble = describeTrouble(chain);
  const why = trouble === null ? "" : ` (${trouble})`;
  return missing.length === 0 ? `${what}${why}` : `${what}: ${places}${why}`;
}

function whereIs({ holder, successor }: Place, book: StageBook): string {
  const next = successor === null ? null : book.stage(successor);
  if (next !== null) return `load on ${next.nodeId}`;
  const held = holder === null ? null : book.stage(holder);
  return held === null ? "have no node" : `are not ready on ${held.nodeId}`;
}
