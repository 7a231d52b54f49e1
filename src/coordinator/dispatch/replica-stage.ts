/** A replica that is a stage: which layers it runs, and where it sits in a chain. */
import type { WireFormat } from "../../domain/chain.ts";
import type { ModelId, NodeId, ReplicaId, Sha256Hex } from "../../domain/ids.ts";
import type { ModelSize } from "../../scheduler/placement/slots.ts";
import type { ReplicaFact } from "../../scheduler/placement/snapshot.ts";
import type { ReplicaReport } from "../../wire/agent-link.ts";
import type { StageOrder } from "../../wire/chain-link.ts";

/** Which layers of the model it runs. */
export type StageRange = Pick<StageOrder, "first" | "count" | "layerCount"> & {
  /** How hidden states leave it; null when nobody remembers ordering it, and its numeric class tells. */
  readonly wire: WireFormat | null;
};

/** A stage's place in a chain. */
export interface StageSeat {
  readonly chainId: string;
  readonly isLast: boolean;
  readonly isServing: boolean;
  /** Of the whole chain: what its smallest stage has. */
  readonly slots: number;
  readonly contextTokens: number;
  /** Of the last stage: one token's way through the chain, as the first stage measures it. */
  readonly loopMs: number | null;
}

/** What chains look at in one of their stages. */
export interface StageNow {
  readonly replicaId: ReplicaId;
  readonly nodeId: NodeId;
  readonly deviceId: string;
  readonly modelId: ModelId;
  readonly weightsSha256: Sha256Hex;
  readonly memoryBytes: number;
  readonly first: number;
  readonly count: number;
  /** Null: not known before it is ready. */
  readonly wire: WireFormat | null;
  /** Of a chain, or of none: a spare. */
  readonly chainId: string | null;
  /** On its node, whatever the chain does. */
  readonly isReady: boolean;
  readonly isUnloading: boolean;
  readonly orderedAtMs: number;
  readonly report: ReplicaReport | null;
}

/** A stage to be loaded. */
export interface StageLoad {
  readonly nodeId: NodeId;
  readonly deviceId: string;
  readonly modelId: ModelId;
  readonly weightsSha256: Sha256Hex;
  readonly stage: StageOrder;
  readonly memoryBytes: number;
  readonly sequencesMax: number;
  readonly contextTokens: number;
  readonly why: string;
}

/** Null: the whole model. */
export function stageOf({ stage }: ReplicaReport, layerCount: number): StageRange | null | "impossible" {
  if (stage === undefined) return null;
  const isWhole = stage.count >= layerCount;
  return isWhole || stage.first + stage.count > layerCount ? "impossible" : { ...stage, layerCount, wire: null };
}

/** Hidden states that are rounded on their way are part of a stage's numeric class (ports/stage-engine.ts). */
export function wireOf(stage: StageRange, report: ReplicaReport | null): WireFormat | null {
  const numericClass = report?.numericClass ?? null;
  if (stage.wire !== null || numericClass === null) return stage.wire;
  return numericClass.endsWith("/f16-wire") ? "f16" : "f32";
}

/** Of a stage that nobody remembers ordering: its part of the layers, as far as that tells. */
export function shareOf(model: ModelSize, { count, layerCount }: StageRange): ModelSize {
  const share = count / layerCount;
  const { fileBytes, kvBytesPerToken, contextTokensMax } = model;
  return { fileBytes: fileBytes * share, kvBytesPerToken: kvBytesPerToken * share, contextTokensMax };
}

export function stageFact({ first, count }: StageRange, seat: StageSeat | null): NonNullable<ReplicaFact["stage"]> {
  const place = { chainId: seat?.chainId ?? null, first, count, isLast: seat?.isLast ?? false };
  return seat?.isLast === true ? { ...place, loopMs: seat.loopMs } : place;
}

export function isSameSeat(a: StageSeat | null, b: StageSeat | null): boolean {
  if (a === null || b === null) return a === b;
  const isSamePlace = a.chainId === b.chainId && a.isLast === b.isLast && a.isServing === b.isServing;
  return isSamePlace && a.slots === b.slots && a.contextTokens === b.contextTokens && a.loopMs === b.loopMs;
}
