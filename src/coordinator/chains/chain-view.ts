/**
 * Chains as others see them: metrics, the grid API, `fallow status --pipeline` and the planner. Plain data, made anew at each call; times are what the
 * stages told last (`chain.state`), null where nobody measured them yet.
 */
import type { ChainState, WireFormat } from "../../domain/chain.ts";
import type { ModelId, NodeId, ReplicaId, Sha256Hex } from "../../domain/ids.ts";
import type { ReplicaState } from "../../domain/node.ts";
import type { ChainStateReport } from "../../wire/chain-link.ts";

/** What a stage measures of itself: smoothed milliseconds, and counts since it was loaded. */
export type StageTimes = Pick<
  ChainStateReport,
  "nextRttMs" | "singleMs" | "singlesMean" | "promptMsPerPosition" | "bytesSent" | "positionsSent"
>;

export interface StageView {
  readonly first: number;
  readonly count: number;
  /** Who holds the place; null while it is lost. */
  readonly holder: {
    readonly replicaId: ReplicaId;
    readonly nodeId: NodeId;
    readonly deviceId: string;
    readonly memoryBytes: number;
    /** Of the stage on its node. */
    readonly state: ReplicaState;
    /** In the chain's newest epoch. */
    readonly isLinked: boolean;
  } | null;
  /** Who is being loaded to take the place. */
  readonly successor: { readonly replicaId: ReplicaId; readonly nodeId: NodeId; readonly state: ReplicaState } | null;
  /** Why the last look found nobody for it. */
  readonly lacks?: string | null;
  /** Of the holder; null before its first report. */
  readonly times: StageTimes | null;
}

export interface ChainView {
  /** 32 hex. */
  readonly chainId: string;
  readonly modelId: ModelId;
  readonly weightsSha256: Sha256Hex;
  readonly state: ChainState;
  readonly epoch: number;
  readonly wire: WireFormat;
  readonly layerCount: number;
  readonly contextTokens: number;
  readonly sequencesMax: number;
  /** In the order of the layers. */
  readonly stages: readonly StageView[];
  /** From a token's departure at the first stage until the next one is back. */
  readonly loopMs: number | null;
  /** Drafts sent and drafts that came true, since the first stage was loaded. */
  readonly drafted: number;
  readonly accepted: number;
  /** Stages that were replaced, since the chain was ordered. */
  readonly repairs: number;
  /** From the newest break until it served again; null before the first. */
  readonly recoveryMs: number | null;
  /** Why it does not serve, or did not last; null when nothing ever happened to it. */
  readonly trouble: string | null;
  /** Since that began. */
  readonly troubleAgoMs?: number | null;
}

/** A stage that waits to take a lost one's place. */
export interface SpareView {
  readonly replicaId: ReplicaId;
  readonly nodeId: NodeId;
  readonly modelId: ModelId;
  readonly weightsSha256: Sha256Hex;
  readonly first: number;
  readonly count: number;
  readonly state: ReplicaState;
}

/** Counted since the start. */
export interface ChainStats {
  readonly repairs: number;
  /** Of them, those that a loaded spare took. */
  readonly repairsBySpare: number;
  readonly moves: number;
  readonly dissolved: number;
  readonly troubles: number;
  /** Stages that gave what their model does not give. */
  readonly garbage: number;
}

export interface ChainsView {
  /** By model, then by id. */
  chains(): readonly ChainView[];
  /** By replica id. */
  spares(): readonly SpareView[];
  stats(): ChainStats;
}
