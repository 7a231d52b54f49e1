/** A model in memory with its decoding context: what the step loop works on. Lives in the engine's own process. */
import { readFileSync } from "node:fs";
import { PREFILL_TOKENS_MAX } from "../../inference/batch-policy.ts";
import type { GpuSplit } from "../../ports/engine.ts";
import type { LoadFailure } from "./child-protocol.ts";
import { applySplit } from "./gpu-split.ts";
import type { ContextParams, LlamaApi, Pointer } from "./llama-ffi.ts";
import { FloatRows } from "./native-memory.ts";
import { Vocabulary } from "./vocabulary.ts";

/** The library rounds each sequence's cells up to this. */
const CONTEXT_STEP_TOKENS = 256;
/** Tokens of all sequences together. The library counts them in 32 bits, and sets up each one before it asks for the rest. */
const CELLS_MAX = 33_554_432;
const FLASH_ATTENTION_OFF = 0;

export interface ModelRequest {
  readonly weightsPath: string;
  readonly contextTokens: number;
  readonly sequencesMax: number;
  readonly threads: number;
  readonly gpuLayers: number;
  /** How it lies on several GPUs; null for the library's own way. */
  readonly split?: GpuSplit | null;
  /** Of a stage, asked once the model is loaded; absent for a whole model. */
  readonly stage?: (found: { readonly model: Pointer; readonly vocabSize: number }) => StageContext;
  readonly onProgress: (fraction: number) => void;
}

/** What a stage's context needs beyond a whole model's. */
export interface StageContext {
  /** Positions that one decode may take, of all sequences. */
  readonly positionsMax: number;
  /** Rows that one decode may give, of all sequences. */
  readonly outputsMax: number;
  /** Sees tensors as they are computed; null where nothing is captured. */
  readonly evalCallback: Pointer | null;
}

export interface LoadedModel {
  readonly api: LlamaApi;
  readonly model: Pointer;
  readonly context: Pointer;
  readonly memory: Pointer;
  readonly vocabulary: Vocabulary;
  readonly logitRows: FloatRows;
  readonly contextTokens: number;
  readonly sequencesMax: number;
  readonly threads: number;
  /** Tokens that one `llama_decode` may take. */
  readonly batchTokens: number;
}

export type LoadResult =
  | { readonly ok: true; readonly value: LoadedModel }
  | { readonly ok: false; readonly code: LoadFailure; readonly message: string };

export function loadModel(api: LlamaApi, request: ModelRequest): LoadResult {
  const cells = cellsPerSequence(request) * request.sequencesMax;
  if (cells > CELLS_MAX) {
    const wanted = `${request.sequencesMax} sequences of ${request.contextTokens} tokens`;
    return { ok: false, code: "engine-out-of-memory", message: `${wanted} are more than ${CELLS_MAX} tokens in all` };
  }
  const modelParams = api.modelDefaults();
  modelParams.n_gpu_layers = request.gpuLayers;
  const splitRefusal = request.split == null ? null : applySplit(api, modelParams, request.split);
  if (splitRefusal !== null) return { ok: false, code: "engine-load-failed", message: splitRefusal };
  const model = api.loadModel(request.weightsPath, modelParams);
  if (model === null) {
    return { ok: false, code: "engine-load-failed", message: `libllama cannot load ${request.weightsPath}` };
  }
  request.onProgress(0.9);
  const vocabulary = new Vocabulary(api, model);
  const stage = request.stage?.({ model, vocabSize: vocabulary.size }) ?? null;
  const batchTokens = stage?.positionsMax ?? request.sequencesMax + PREFILL_TOKENS_MAX;
  const outputsMax = stage?.outputsMax ?? request.sequencesMax;
  const context = api.newContext(model, contextParams(api, request, { batchTokens, outputsMax, stage }));
  if (context === null) {
    const message = `no context of ${request.sequencesMax} sequences with ${request.contextTokens} tokens could be made`;
    return { ok: false, code: "engine-load-failed", message };
  }
  const value: LoadedModel = {
    api,
    model,
    context,
    memory: api.memory(context),
    vocabulary,
    logitRows: new FloatRows({ rowFloats: vocabulary.size, rowsMax: outputsMax }),
    contextTokens: request.contextTokens,
    sequencesMax: request.sequencesMax,
    threads: request.threads,
    batchTokens,
  };
  return { ok: true, value };
}

export function freeModel(loaded: LoadedModel): void {
  loaded.api.freeContext(loaded.context);
  loaded.api.freeModel(loaded.model);
}

function contextParams(
  api: LlamaApi,
  request: ModelRequest,
  size: { readonly batchTokens: number; readonly outputsMax: number; readonly stage: StageContext | null },
): ContextParams {
  const { batchTokens, outputsMax, stage } = size;
  const params = api.contextDefaults();
  params.n_ctx = cellsPerSequence(request) * request.sequencesMax;
  params.n_batch = batchTokens;
  params.n_ubatch = Math.min(batchTokens, PREFILL_TOKENS_MAX);
  params.n_seq_max = request.sequencesMax;
  params.n_outputs_max = outputsMax;
  if (stage !== null) {
    params.n_outputs_max_per_seq = outputsMax;
    params.cb_eval = stage.evalCallback;
  }
  params.n_threads = request.threads;
  params.n_threads_batch = request.threads;
  // Off for equal logits whatever else shares the batch; memory per sequence because a shared one is four times slower.
  params.flash_attn_type = FLASH_ATTENTION_OFF;
  params.kv_unified = false;
  return params;
}

function cellsPerSequence(request: ModelRequest): number {
  return Math.ceil(request.contextTokens / CONTEXT_STEP_TOKENS) * CONTEXT_STEP_TOKENS;
}

/** A metadata value of the model as text, or null. */
export function metadataText(api: LlamaApi, model: Pointer, key: string): string | null {
  const buffer = new Uint8Array(256);
  const length = api.metadata(model, key, buffer, buffer.length);
  return length < 0 ? null : new TextDecoder().decode(buffer.subarray(0, Math.min(length, buffer.length - 1)));
}

/** `cpu-haswell`, by the library of kernels that was chosen for this processor. */
export function cpuClass(): string {
  const found = /libggml-cpu-([a-z0-9_]+)\.so/.exec(loadedLibraries());
  return found?.[1] === undefined ? `cpu-${process.arch}` : `cpu-${found[1]}`;
}

function loadedLibraries(): string {
  try {
    return readFileSync("/proc/self/maps", "utf8");
  } catch {
    // Only Linux has this file, and only its packages carry more than one CPU backend.
    return "";
  }
}
