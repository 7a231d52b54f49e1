/**
 * What runs a model on a node. The adapter keeps each loaded model in a process of its own, so nothing here throws because of
 * a native crash: the engine `exited` and every running sequence ends with `failed`.
 */
import type { EngineAbility } from "../domain/attached-engine.ts";
import type { EngineVariant } from "../domain/hardware.ts";
import type { ModelId, Sha256Hex } from "../domain/ids.ts";
import type { SampledToken, SamplingOptions, SeedHex, StopReason } from "../domain/sampling.ts";

export interface EngineHost {
  /**
   * Starts an engine and resolves when it has passed its self-test. Rejects with a `FallowError`: `engine-library-missing`,
   * `engine-abi-mismatch`, `engine-self-test-failed`, `engine-load-failed`, `engine-out-of-memory`, `engine-crashed`.
   */
  load(spec: EngineLoadSpec, options: EngineLoadOptions): Promise<Engine>;
}

export interface EngineLoadSpec {
  readonly modelId: ModelId;
  readonly weightsPath: string;
  readonly weightsSha256: Sha256Hex;
  /** Context of one sequence: prompt plus answer. */
  readonly contextTokens: number;
  /** Sequences that run at the same time, 1 to 256. */
  readonly sequencesMax: number;
  readonly threads: number;
  /** Layers on the GPU: a count, or `all`. Ignored by the CPU variant. */
  readonly gpuLayers: number | "all";
  /** How the layers lie on several GPUs of this node; absent: the library's own way, by free memory. */
  readonly split?: GpuSplit;
}

/** A model over several GPUs of one node, as libllama's `split_mode`, `tensor_split` and `main_gpu` take it. */
export interface GpuSplit {
  /** `layer`: each GPU has some whole layers; `row`: each matrix is cut by rows; `none`: all on `mainGpu`. */
  readonly mode: GpuSplitMode;
  /** Each GPU's part of the whole in the library's order, e.g. [3, 1]; empty: by free memory. Not negative, and not all zero. */
  readonly tensorSplit: readonly number[];
  /** Index of a GPU. */
  readonly mainGpu: number;
}

export const GPU_SPLIT_MODES = ["none", "layer", "row"] as const;
export type GpuSplitMode = (typeof GPU_SPLIT_MODES)[number];

export interface EngineLoadOptions {
  readonly signal: AbortSignal;
  /** 0 to 1. */
  readonly onProgress?: (fraction: number) => void;
}

export interface EngineInfo {
  readonly libraryVersion: string;
  readonly variant: EngineVariant;
  /** Same quantisation and backend give the same logits: e.g. `llama-0.5.0/cpu-haswell/Q8_0`. */
  readonly numericClass: string;
  readonly vocabSize: number;
  readonly embeddingLength: number;
  readonly contextTokens: number;
  readonly sequencesMax: number;
  readonly layersOffloaded: number;
  /** GPUs that the engine sees, in its order. */
  readonly gpus?: readonly EngineGpu[];
  readonly processId: number;
  /** What an attached server cannot do; absent: nothing is lacking. A task that needs it fails with `ability-missing`. */
  readonly lacks?: readonly EngineAbility[];
  /** It stops background sequences by itself while others run; absent: it runs all alike. */
  readonly holdsBack?: boolean;
}

export interface EngineGpu {
  readonly name: string;
  readonly memoryBytes: number;
  readonly memoryFreeBytes: number;
}

export interface Engine {
  readonly info: EngineInfo;
  /** Queues a sequence. `onEvent` gets `tokens` any number of times, then exactly one `end` or `failed`. */
  generate(task: GenerateTask, onEvent: (event: GenerateEvent) => void): EngineSequence;
  /** One vector per input, L2-normalised. Rejects with a `FallowError` as `failed` does. */
  embed(inputs: readonly (readonly number[])[], signal: AbortSignal): Promise<readonly Float32Array[]>;
  /** KV state of the finished or running sequence that holds this prefix, for hand-over; null when no slot holds it. */
  exportState(tokenIds: readonly number[]): Promise<KvState | null>;
  /** Puts a state into a free slot, so that the next task with this prefix does not prefill it again. */
  importState(state: KvState): Promise<boolean>;
  stats(): EngineStats;
  /** Ends running sequences with `failed` (`engine-closed`) and the process. May be called twice. */
  close(): Promise<void>;
  /** Resolves once, when the process is gone. */
  readonly exited: Promise<EngineExit>;
}

export interface GenerateTask {
  /** Prompt, followed by what earlier attempts generated. */
  readonly tokenIds: readonly number[];
  /** How many of `tokenIds`, at its end, were generated: they count for penalties, grammar, stop strings and draw positions. */
  readonly generatedCount: number;
  /** Tokens still to generate, at least 1. */
  readonly tokensMax: number;
  readonly sampling: SamplingOptions;
  readonly seed: SeedHex;
  readonly choice: number;
  /** The engine ends a sequence as soon as its text holds one of these; at most 16. */
  readonly stopStrings: readonly string[];
  /** GBNF with the root rule `root`, or null. */
  readonly grammar: string | null;
  /**
   * Sequences share cached prefixes only within one scope. The coordinator gives each tenant its own, so that neither
   * `cachedTokens` nor the time to the first token tells one tenant what another asked.
   */
  readonly cacheScope: string;
  /** Generate past end-of-generation tokens (benchmarks). */
  readonly ignoreStopTokens: boolean;
  /** Null: no logprobs at all; 0 to 20: with so many alternatives. */
  readonly topLogprobs: number | null;
  /** It gets on only while nobody else's sequence needs the engine, and keeps its slot meanwhile; only where `info.holdsBack`. */
  readonly isBackground?: boolean;
}

export interface EngineSequence {
  /** Ends the sequence within 100 ms; `onEvent` is not called any more. May be called twice. */
  abort(): void;
}

export type GenerateEvent =
  | { readonly kind: "tokens"; readonly tokens: readonly SampledToken[] }
  | { readonly kind: "end"; readonly reason: StopReason; readonly usage: EngineUsage }
  | { readonly kind: "failed"; readonly code: EngineFailure; readonly message: string };

export interface EngineUsage {
  readonly promptTokens: number;
  /** Of those, found in the KV cache. */
  readonly cachedTokens: number;
  readonly outputTokens: number;
}

export const ENGINE_FAILURES = [
  "engine-crashed",
  "engine-hung",
  "engine-out-of-memory",
  "engine-closed",
  "engine-overloaded",
  "context-exceeded",
  "grammar-invalid",
  "token-out-of-vocabulary",
  "ability-missing",
] as const;
export type EngineFailure = (typeof ENGINE_FAILURES)[number];

export interface EngineStats {
  readonly sequencesRunning: number;
  readonly sequencesQueued: number;
  readonly tokensGenerated: number;
  readonly promptTokensDecoded: number;
  readonly promptTokensCached: number;
  readonly memoryBytes: number;
}

export interface EngineExit {
  readonly cause: "closed" | "crashed" | "hung" | "out-of-memory";
  readonly detail: string;
}

export interface KvState {
  readonly cacheScope: string;
  readonly tokenIds: readonly number[];
  readonly data: Uint8Array;
  /** SHA-256 of `data`: a state is loaded only from where its digest is vouched for. */
  readonly sha256: Sha256Hex;
}
