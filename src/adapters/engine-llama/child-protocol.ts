/**
 * Messages between an engine's host and the process that holds the model, over the IPC channel of `fork` with the
 * structured clone. Both ends are this package at one version, so that the types are the schema. Tokens travel in typed
 * arrays, one message per decode step for all sequences.
 */
import type { EngineVariant } from "../../domain/hardware.ts";
import type { StopReason, TokenLogprob } from "../../domain/sampling.ts";
import type { EngineFailure, EngineGpu, GenerateTask, GpuSplit } from "../../ports/engine.ts";
import type { LlamaLibraryFiles } from "./llama-library.ts";

export interface LoadCommand {
  readonly kind: "load";
  readonly library: LlamaLibraryFiles;
  readonly weightsPath: string;
  readonly contextTokens: number;
  readonly sequencesMax: number;
  readonly queueMax: number;
  readonly threads: number;
  /** -1 for all. */
  readonly gpuLayers: number;
  readonly split: GpuSplit | null;
  /** The shipped tiny model, or null when this library has passed its self-test already. */
  readonly selfTestModelPath: string | null;
}

export interface GenerateCommand extends Omit<GenerateTask, "tokenIds"> {
  readonly kind: "generate";
  readonly key: number;
  readonly tokenIds: Int32Array;
}

export interface EmbedCommand {
  readonly kind: "embed";
  readonly key: number;
  readonly inputs: readonly Int32Array[];
}

export type ChildCommand =
  | LoadCommand
  | GenerateCommand
  | EmbedCommand
  | { readonly kind: "abort"; readonly key: number }
  | { readonly kind: "export"; readonly key: number; readonly tokenIds: Int32Array }
  | { readonly kind: "import"; readonly key: number; readonly state: ExportedState };

export type LoadFailure =
  | "engine-library-missing"
  | "stage-refused"
  | "engine-abi-mismatch"
  | "engine-self-test-failed"
  | "engine-load-failed"
  | "engine-out-of-memory";

export interface ReadyReport {
  readonly kind: "ready";
  readonly libraryVersion: string;
  readonly variant: EngineVariant;
  /** `cpu-haswell`: the kernels for this processor. */
  readonly cpuClass: string;
  /** `general.file_type` of the file, as text, or null. */
  readonly fileType: string | null;
  readonly vocabSize: number;
  readonly embeddingLength: number;
  readonly layerCount: number;
  /** GPUs that the library sees. */
  readonly gpus: readonly EngineGpu[];
  readonly hasPassedSelfTest: boolean;
}

export interface SequenceEnd {
  readonly key: number;
  readonly reason: StopReason;
  readonly promptTokens: number;
  readonly cachedTokens: number;
  readonly outputTokens: number;
}

export interface SequenceFailure {
  readonly key: number;
  readonly code: EngineFailure;
  readonly message: string;
}

export interface StepLogprobs {
  readonly logprob: number;
  readonly top: readonly TokenLogprob[];
}

export interface StepReport {
  readonly kind: "step";
  /** Pairs of sequence key and token id. */
  readonly tokens: Int32Array;
  /** By index of the pair; only for sequences that asked. */
  readonly logprobs: ReadonlyMap<number, StepLogprobs> | null;
  readonly ends: readonly SequenceEnd[];
  readonly failures: readonly SequenceFailure[];
  readonly counters: StepCounters;
}

export interface StepCounters {
  readonly running: number;
  readonly queued: number;
  readonly promptTokensDecoded: number;
  readonly promptTokensCached: number;
}

/** Until the process serves; the same for whole models and stages. */
export type LoadReport =
  | ReadyReport
  | { readonly kind: "load-progress"; readonly fraction: number }
  | { readonly kind: "load-failed"; readonly code: LoadFailure; readonly message: string };

export type ChildReport = LoadReport | ServingReport;

export type ServingReport =
  | StepReport
  | { readonly kind: "embedded"; readonly key: number; readonly vectors: readonly Float32Array[] }
  | { readonly kind: "request-failed"; readonly key: number; readonly code: EngineFailure; readonly message: string }
  | { readonly kind: "exported"; readonly key: number; readonly state: ExportedState | null }
  | { readonly kind: "imported"; readonly key: number; readonly isAccepted: boolean };

export interface ExportedState {
  readonly cacheScope: string;
  readonly tokenIds: Int32Array;
  readonly data: Uint8Array;
}
