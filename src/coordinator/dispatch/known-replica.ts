/** One replica in the book: what was ordered of it, and what its node says. */
import type { ModelId, NodeId, ReplicaId, Sha256Hex } from "../../domain/ids.ts";
import type { ReplicaReport } from "../../wire/agent-link.ts";
import { type StageNow, type StageRange, type StageSeat, wireOf } from "./replica-stage.ts";

export interface KnownReplica {
  readonly replicaId: ReplicaId;
  readonly nodeId: NodeId;
  readonly modelId: ModelId;
  readonly weightsSha256: Sha256Hex;
  readonly deviceId: string;
  readonly slots: number;
  readonly contextTokens: number;
  readonly memoryBytes: number;
  readonly orderedAtMs: number;
  readonly stage: StageRange | null;
  seat: StageSeat | null;
  report: ReplicaReport | null;
  isUnloading: boolean;
  lastUsedAtMs: number;
}

export function stageNow(known: KnownReplica): StageNow | null {
  const { stage, seat, report } = known;
  if (stage === null) return null;
  const { replicaId, nodeId, deviceId, modelId, weightsSha256, memoryBytes, isUnloading, orderedAtMs } = known;
  const what = { replicaId, nodeId, deviceId, modelId, weightsSha256, memoryBytes, isUnloading, orderedAtMs, report };
  const { first, count } = stage;
  const wire = wireOf(stage, report);
  return { ...what, first, count, wire, chainId: seat?.chainId ?? null, isReady: report?.state === "ready" };
}

type Ordered = Omit<KnownReplica, "orderedAtMs" | "lastUsedAtMs" | "report" | "isUnloading" | "seat">;

export function ordered(replica: Ordered & { readonly sequencesMax?: number }, nowMs: number): KnownReplica {
  const { replicaId, nodeId, modelId, weightsSha256, deviceId, slots, contextTokens, memoryBytes, stage } = replica;
  const what = { replicaId, nodeId, modelId, weightsSha256, deviceId, slots, contextTokens, memoryBytes, stage };
  return { ...what, orderedAtMs: nowMs, lastUsedAtMs: nowMs, report: null, isUnloading: false, seat: null };
}
