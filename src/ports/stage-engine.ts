/**
 * What runs a stage: some layers of a model over many sequences at once. The adapter keeps each stage in a process of its own. Token ids or hidden
 * states go in, hidden states or sampled tokens come out; what the passes mean and where they come from is `agent/stages`.
 *
 * Passes are carried out in the order of their submission; those that wait together share decodes. Same passes, same bits, whatever else runs
 * beside them (inference/batch-policy.ts says why pieces of a prompt and single tokens are decoded apart).
 */
import type { SequenceId, WireFormat } from "../domain/chain.ts";
import type { EngineVariant } from "../domain/hardware.ts";
import type { ModelId, Sha256Hex } from "../domain/ids.ts";
import type { SampledToken, StopReason } from "../domain/sampling.ts";
import type { LayerShare } from "../domain/weights.ts";
import type { EngineExit, EngineFailure, EngineLoadOptions, GenerateTask, GpuSplit } from "./engine.ts";

export interface StageEngineHost {
  /**
   * Starts a stage and resolves when it has passed its self-test. Rejects as `EngineHost.load` does, and with `stage-refused` when the model's
   * architecture cannot be split.
   */
  loadStage(spec: StageLoadSpec, options: StageLoadOptions): Promise<StageEngine>;
}

export interface StageLoadSpec {
  readonly modelId: ModelId;
  /** A GGUF that holds the share's layers only, renumbered from 0 (weights/stage-slice.ts). */
  readonly stagePath: string;
  /** Of the whole model. */
  readonly weightsSha256: Sha256Hex;
  readonly share: LayerShare;
  readonly contextTokens: number;
  /** Sequences whose keys and values are held at the same time, 1 to 256. */
  readonly sequencesMax: number;
  readonly threads: number;
  readonly gpuLayers: number | "all";
  readonly split?: GpuSplit;
  readonly wire: WireFormat;
}

export interface StageLoadOptions extends EngineLoadOptions {
  /** Events of one report of the engine's process, in the order of the passes. */
  readonly onEvents: (events: readonly StageEvent[]) => void;
}

export interface StageEngineInfo {
  readonly libraryVersion: string;
  readonly variant: EngineVariant;
  /** As of `EngineInfo`, with `/f16-wire` when hidden states are rounded on the wire. */
  readonly numericClass: string;
  /** 0 where the stage has no vocabulary. */
  readonly vocabSize: number;
  /** Elements of a hidden state. */
  readonly embeddingLength: number;
  readonly contextTokens: number;
  readonly sequencesMax: number;
  readonly layersOffloaded: number;
  readonly processId: number;
  readonly share: LayerShare;
  readonly wire: WireFormat;
}

export interface StageEngine {
  readonly info: StageEngineInfo;
  /** Gives a sequence a slot, emptying the slot that was released longest ago when none is free; false when all are in use. */
  open(sequence: SequenceId): boolean;
  /**
   * Last stage only: what the sequence samples by, before its first pass that draws. Replaces what it had: tokens so far are taken into the sampler,
   * the stop rules and the grammar. An answer that is over before its first token ends with an `end` of its own.
   */
  setSampling(sequence: SequenceId, task: GenerateTask): void;
  /** Of an open sequence. */
  submit(pass: StagePass): void;
  /** Positions that it holds once all passes submitted so far are done, kept also after `release`; 0 when unknown. */
  held(sequence: SequenceId): number;
  /** Sequences that hold something, for those who want to go on with them. */
  holdings(): readonly { readonly sequence: SequenceId; readonly held: number }[];
  /** The sequence runs no more; its keys and values stay until its slot is needed. Passes that wait are dropped. */
  release(sequence: SequenceId): void;
  /** Empties its slot. */
  forget(sequence: SequenceId): void;
  /** Keys and values of the first `positions` of a sequence; null when it does not hold so many. */
  exportState(sequence: SequenceId, positions: number): Promise<StageState | null>;
  /** Into a slot of its own; false when none is free, or the state does not fit this stage. */
  importState(state: StageState): Promise<boolean>;
  stats(): StageStats;
  /** Ends the process; passes that wait are dropped. May be called twice. */
  close(): Promise<void>;
  readonly exited: Promise<EngineExit>;
}

/**
 * Some positions of one sequence. Positions beyond `start` that the stage holds are dropped first: that is how rejected drafts go. `start` is never
 * above `held`.
 */
export interface StagePass {
  readonly sequence: SequenceId;
  readonly start: number;
  readonly count: number;
  /** `together`: a piece of a prompt, in one decode; two positions at least, unless the prompt has one. `singly`: one decode for each position. */
  readonly how: "together" | "singly";
  readonly input: StageInput;
  /**
   * Null: nothing is drawn. Else the last stage draws after the last position; with drafts it draws after each position and stops at the first draw
   * that is not the draft which follows. `draftIds` are the ids of the last positions of the pass, so there are fewer of them than positions.
   */
  readonly draw: { readonly draftIds: readonly number[] } | null;
  /** Comes back in what it gives. */
  readonly tag: number;
  /** Tests and audits: the last stage also gives the raw logits of each position drawn after. */
  readonly wantsLogits?: boolean;
}

export type StageInput =
  | { readonly kind: "tokens"; readonly tokenIds: readonly number[] }
  /** count x embeddingLength little-endian elements. */
  | { readonly kind: "hidden"; readonly format: WireFormat; readonly data: Uint8Array };

export type StageEvent =
  | {
      readonly kind: "output";
      readonly sequence: SequenceId;
      readonly tag: number;
      readonly start: number;
      readonly count: number;
      readonly how: StagePass["how"];
      readonly draw: StagePass["draw"];
      /** f32 although f16 was asked where a value does not fit f16. */
      readonly format: WireFormat;
      readonly data: Uint8Array;
    }
  | {
      readonly kind: "tokens";
      readonly sequence: SequenceId;
      readonly tag: number;
      /** One, or more when drafts came true. The first one's position is the pass's first drawn one + 1. */
      readonly tokens: readonly SampledToken[];
      readonly position: number;
      /** The answer is over with the last of them. */
      readonly end: StopReason | null;
      readonly logits?: readonly Float32Array[];
    }
  /** Last stage only: the pass is done, and nothing was drawn after it. */
  | { readonly kind: "done"; readonly sequence: SequenceId; readonly tag: number }
  | { readonly kind: "end"; readonly sequence: SequenceId; readonly reason: StopReason }
  /** The sequence is given up here; its slot is empty. */
  | {
      readonly kind: "failed";
      readonly sequence: SequenceId;
      readonly tag: number;
      readonly code: StageFailure;
      readonly message: string;
    };

export type StageFailure =
  | EngineFailure
  /** What came in holds NaN or infinity: the stage before this one is to blame. */
  | "activations-broken"
  /** What this stage computed holds NaN or infinity. */
  | "output-broken"
  /** Beyond the context, or above what is held. */
  | "position-wrong";

export interface StageState {
  readonly sequence: SequenceId;
  readonly positions: number;
  readonly data: Uint8Array;
  readonly sha256: Sha256Hex;
}

export interface StageStats {
  readonly sequencesOpen: number;
  readonly passesQueued: number;
  readonly positionsDecoded: number;
  /** Smoothed; null before the first. Of a decode of single tokens, and for one position of a prompt. */
  readonly singleMs: number | null;
  /** Sequences in such a decode; absent: not told. */
  readonly singlesMean?: number | null;
  readonly promptMsPerPosition: number | null;
  /** CPU time that the process has used. */
  readonly cpuMs: number;
  readonly memoryBytes: number;
}
