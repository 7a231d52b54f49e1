/**
 * libllama through koffi: the functions that the engine calls, with their C types. Struct layouts hold for llama.cpp 0.5.0
 * only (include/llama.h of that release); `abi-check.ts` compares what the library says with what must be there before
 * anything is trusted to them. Pointers are bigints; null is NULL.
 *
 * Deliberately absent: `llama_log_set` with a callback of ours. ggml logs from its own threads while JavaScript waits
 * inside `llama_decode`, and the process would wait for ever. The log goes to standard error, which the parent reads.
 */
import koffi from "koffi";
import type { LlamaLibraryFiles } from "./llama-library.ts";

export type Pointer = bigint;

/** `llama_model_params`, in the order of the header. */
export interface ModelParams {
  devices: Pointer | null;
  n_gpu_layers: number;
  split_mode: number;
  load_mode: number;
  lazy_mode: number;
  main_gpu: number;
  tensor_split: Pointer | null;
  progress_callback: Pointer | null;
  vocab_only: boolean;
  check_tensors: boolean;
  use_extra_bufts: boolean;
}

/** `llama_context_params`, in the order of the header. */
export interface ContextParams {
  n_ctx: number;
  n_batch: number;
  n_ubatch: number;
  n_seq_max: number;
  n_outputs_max: number;
  n_outputs_max_per_seq: number;
  n_threads: number;
  n_threads_batch: number;
  rope_scaling_type: number;
  pooling_type: number;
  flash_attn_type: number;
  yarn_ext_factor: number;
  cb_eval: Pointer | null;
  type_k: number;
  type_v: number;
  embeddings: boolean;
  offload_kqv: boolean;
  swa_full: boolean;
  kv_unified: boolean;
}

/** `llama_batch`: pointers to arrays of `n_tokens`. */
export interface Batch {
  n_tokens: number;
  readonly token: Pointer | null;
  readonly embd: Pointer | null;
  readonly pos: Pointer;
  readonly n_seq_id: Pointer;
  readonly seq_id: Pointer;
  readonly logits: Pointer;
}

export interface LlamaApi {
  readonly modelDefaults: () => ModelParams;
  readonly contextDefaults: () => ContextParams;
  readonly version: () => string;
  readonly maxSequences: () => number | bigint;
  readonly loadModel: (path: string, params: ModelParams) => Pointer | null;
  readonly freeModel: (model: Pointer) => void;
  readonly newContext: (model: Pointer, params: ContextParams) => Pointer | null;
  readonly freeContext: (context: Pointer) => void;
  readonly contextTokensPerSequence: (context: Pointer) => number;
  readonly embeddingLength: (model: Pointer) => number;
  /** Of what goes in; the other one is of what comes out. */
  readonly inputLength: (model: Pointer) => number;
  readonly layerCount: (model: Pointer) => number;
  readonly modelBytes: (model: Pointer) => number | bigint;
  readonly metadata: (model: Pointer, key: string, buffer: Uint8Array, bytes: number) => number;
  readonly vocab: (model: Pointer) => Pointer;
  readonly vocabSize: (vocab: Pointer) => number;
  readonly vocabType: (vocab: Pointer) => number;
  readonly isEndOfGeneration: (vocab: Pointer, token: number) => boolean;
  readonly isControl: (vocab: Pointer, token: number) => boolean;
  readonly tokenAttributes: (vocab: Pointer, token: number) => number;
  readonly bos: (vocab: Pointer) => number;
  readonly eos: (vocab: Pointer) => number;
  readonly addsBos: (vocab: Pointer) => boolean;
  readonly tokenize: (
    vocab: Pointer,
    text: Uint8Array,
    bytes: number,
    out: Int32Array,
    outMax: number,
    addSpecial: boolean,
    parseSpecial: boolean,
  ) => number;
  readonly piece: (
    vocab: Pointer,
    token: number,
    out: Uint8Array,
    bytes: number,
    strip: number,
    special: boolean,
  ) => number;
  readonly decode: (context: Pointer, batch: Batch) => number;
  readonly logits: (context: Pointer) => Pointer | null;
  readonly embeddings: (context: Pointer) => Pointer | null;
  readonly memory: (context: Pointer) => Pointer;
  readonly clearMemory: (memory: Pointer, data: boolean) => void;
  readonly removeFrom: (memory: Pointer, sequence: number, from: number, to: number) => boolean;
  readonly copySequence: (memory: Pointer, from: number, to: number, start: number, end: number) => void;
  readonly lastPosition: (memory: Pointer, sequence: number) => number;
  readonly firstPosition: (memory: Pointer, sequence: number) => number;
  readonly stateBytes: (context: Pointer, sequence: number) => number | bigint;
  readonly getState: (context: Pointer, out: Uint8Array, bytes: number, sequence: number) => number | bigint;
  readonly setState: (context: Pointer, data: Uint8Array, bytes: number, sequence: number) => number | bigint;
  readonly newGrammar: (vocab: Pointer, grammar: string, root: string) => Pointer | null;
  readonly applySampler: (sampler: Pointer, candidates: Pointer) => void;
  readonly acceptToken: (sampler: Pointer, token: number) => void;
  readonly freeSampler: (sampler: Pointer) => void;
  readonly devicesMax: () => number | bigint;
  readonly tensorName: (tensor: Pointer) => string;
  readonly tensorBytes: (tensor: Pointer) => number | bigint;
  readonly readTensor: (tensor: Pointer, out: Pointer, offset: number, bytes: number) => void;
  readonly writeTensor: (tensor: Pointer, data: Pointer, offset: number, bytes: number) => void;
  /** `ggml_backend_sched_eval_callback`, called by `llama_decode` itself. Lives as long as the process. */
  readonly evalCallback: (callback: EvalCallback) => Pointer;
  readonly deviceNames: () => readonly DeviceName[];
  readonly sizes: { readonly modelParams: number; readonly contextParams: number; readonly batch: number };
}

/** Asked before a tensor is computed (true: show it), told after; the answer false then stops the computation. */
export type EvalCallback = (tensor: Pointer, isQuestion: boolean) => boolean;

export interface DeviceName {
  readonly name: string;
  /** As the vendor calls it. */
  readonly description: string;
  /** `ggml_backend_dev_type`: 0 CPU, 1 GPU, 2 integrated GPU, 3 accelerator. */
  readonly type: number;
  readonly registry: string;
  readonly memoryBytes: number;
  readonly memoryFreeBytes: number;
}

type KoffiType = ReturnType<typeof koffi.struct>;

/** Loads the libraries, and the compute backends unless only vocabularies are wanted. */
export function bindLlama(files: LlamaLibraryFiles, options = { loadsBackends: true }): LlamaApi {
  const base = koffi.load(files.ggmlBase);
  const ggml = koffi.load(files.ggml);
  const llama = koffi.load(files.llama);
  const model = modelParamsType();
  const context = contextParamsType();
  const batch = batchType();
  if (options.loadsBackends) ggml.func("void ggml_backend_load_all_from_path(const char*)")(files.directory);
  llama.func("void llama_backend_init()")();
  return {
    modelDefaults: llama.func("llama_model_default_params", model, []),
    contextDefaults: llama.func("llama_context_default_params", context, []),
    version: llama.func("const char* llama_version()"),
    maxSequences: llama.func("size_t llama_max_parallel_sequences()"),
    loadModel: llama.func("llama_model_load_from_file", "void*", ["const char*", model]),
    freeModel: llama.func("void llama_model_free(void*)"),
    newContext: llama.func("llama_init_from_model", "void*", ["void*", context]),
    freeContext: llama.func("void llama_free(void*)"),
    contextTokensPerSequence: llama.func("uint32 llama_n_ctx_seq(void*)"),
    embeddingLength: llama.func("int32 llama_model_n_embd_out(void*)"),
    inputLength: llama.func("int32 llama_model_n_embd_inp(void*)"),
    layerCount: llama.func("int32 llama_model_n_layer(void*)"),
    modelBytes: llama.func("uint64 llama_model_size(void*)"),
    metadata: llama.func("int32 llama_model_meta_val_str(void*, const char*, void*, size_t)"),
    decode: llama.func("llama_decode", "int32", ["void*", batch]),
    logits: llama.func("void* llama_get_logits(void*)"),
    embeddings: llama.func("void* llama_get_embeddings(void*)"),
    ...vocabFunctions(llama),
    ...memoryFunctions(llama),
    newGrammar: llama.func("void* llama_sampler_init_grammar(void*, const char*, const char*)"),
    applySampler: llama.func("void llama_sampler_apply(void*, void*)"),
    acceptToken: llama.func("void llama_sampler_accept(void*, int32)"),
    freeSampler: llama.func("void llama_sampler_free(void*)"),
    devicesMax: llama.func("size_t llama_max_devices()"),
    ...tensorFunctions(base),
    deviceNames: () => listDevices(ggml, base),
    sizes: { modelParams: koffi.sizeof(model), contextParams: koffi.sizeof(context), batch: koffi.sizeof(batch) },
  };
}

type Library = ReturnType<typeof koffi.load>;

function vocabFunctions(llama: Library) {
  return {
    vocab: llama.func("void* llama_model_get_vocab(void*)"),
    vocabSize: llama.func("int32 llama_vocab_n_tokens(void*)"),
    vocabType: llama.func("int llama_vocab_type(void*)"),
    isEndOfGeneration: llama.func("bool llama_vocab_is_eog(void*, int32)"),
    isControl: llama.func("bool llama_vocab_is_control(void*, int32)"),
    tokenAttributes: llama.func("int llama_vocab_get_attr(void*, int32)"),
    bos: llama.func("int32 llama_vocab_bos(void*)"),
    eos: llama.func("int32 llama_vocab_eos(void*)"),
    addsBos: llama.func("bool llama_vocab_get_add_bos(void*)"),
    tokenize: llama.func("int32 llama_tokenize(void*, void*, int32, void*, int32, bool, bool)"),
    piece: llama.func("int32 llama_token_to_piece(void*, int32, void*, int32, int32, bool)"),
  };
}

function memoryFunctions(llama: Library) {
  return {
    memory: llama.func("void* llama_get_memory(void*)"),
    clearMemory: llama.func("void llama_memory_clear(void*, bool)"),
    removeFrom: llama.func("bool llama_memory_seq_rm(void*, int32, int32, int32)"),
    copySequence: llama.func("void llama_memory_seq_cp(void*, int32, int32, int32, int32)"),
    lastPosition: llama.func("int32 llama_memory_seq_pos_max(void*, int32)"),
    firstPosition: llama.func("int32 llama_memory_seq_pos_min(void*, int32)"),
    stateBytes: llama.func("size_t llama_state_seq_get_size(void*, int32)"),
    getState: llama.func("size_t llama_state_seq_get_data(void*, void*, size_t, int32)"),
    setState: llama.func("size_t llama_state_seq_set_data(void*, void*, size_t, int32)"),
  };
}

function tensorFunctions(base: Library) {
  const prototype = koffi.proto("bool", ["void*", "bool", "void*"]);
  return {
    tensorName: base.func("const char* ggml_get_name(void*)"),
    tensorBytes: base.func("size_t ggml_nbytes(void*)"),
    writeTensor: base.func("void ggml_backend_tensor_set(void*, void*, size_t, size_t)"),
    readTensor: base.func("void ggml_backend_tensor_get(void*, void*, size_t, size_t)"),
    evalCallback: (callback: EvalCallback): Pointer => koffi.register(callback, koffi.pointer(prototype)),
  };
}

/** Bound on devices listed: ggml has no more than a few, and a broken driver must not make a loop. */
const DEVICES_MAX = 64;

function listDevices(ggml: Library, base: Library): readonly DeviceName[] {
  const count: () => number | bigint = ggml.func("size_t ggml_backend_dev_count()");
  const get: (index: number) => Pointer = ggml.func("void* ggml_backend_dev_get(size_t)");
  const name: (device: Pointer) => string = base.func("const char* ggml_backend_dev_name(void*)");
  const description: (device: Pointer) => string = base.func("const char* ggml_backend_dev_description(void*)");
  const type: (device: Pointer) => number = base.func("int ggml_backend_dev_type(void*)");
  const registry: (device: Pointer) => Pointer = base.func("void* ggml_backend_dev_backend_reg(void*)");
  const registryName: (registry: Pointer) => string = base.func("const char* ggml_backend_reg_name(void*)");
  const memory: (device: Pointer, free: BigUint64Array, total: BigUint64Array) => void = base.func(
    "void ggml_backend_dev_memory(void*, void*, void*)",
  );
  return Array.from({ length: Math.min(Number(count()), DEVICES_MAX) }, (_, index) => {
    const device = get(index);
    const [free, total] = [new BigUint64Array(1), new BigUint64Array(1)];
    memory(device, free, total);
    return {
      name: name(device),
      description: description(device),
      type: type(device),
      registry: registryName(registry(device)),
      memoryBytes: Number(total[0] ?? 0n),
      memoryFreeBytes: Number(free[0] ?? 0n),
    };
  });
}

function modelParamsType(): KoffiType {
  return koffi.struct({
    devices: "void*",
    tensor_buft_overrides: "void*",
    n_gpu_layers: "int32",
    split_mode: "int32",
    load_mode: "int32",
    lazy_mode: "int32",
    main_gpu: "int32",
    tensor_split: "void*",
    progress_callback: "void*",
    progress_callback_user_data: "void*",
    kv_overrides: "void*",
    vocab_only: "bool",
    check_tensors: "bool",
    use_extra_bufts: "bool",
    no_host: "bool",
    no_alloc: "bool",
    load_mtp: "bool",
  });
}

function contextParamsType(): KoffiType {
  return koffi.struct({
    n_ctx: "uint32",
    n_batch: "uint32",
    n_ubatch: "uint32",
    n_seq_max: "uint32",
    n_rs_seq: "uint32",
    n_outputs_max: "uint32",
    n_outputs_max_per_seq: "uint32",
    n_threads: "int32",
    n_threads_batch: "int32",
    ctx_type: "int32",
    rope_scaling_type: "int32",
    pooling_type: "int32",
    attention_type: "int32",
    flash_attn_type: "int32",
    rope_freq_base: "float",
    rope_freq_scale: "float",
    yarn_ext_factor: "float",
    yarn_attn_factor: "float",
    yarn_beta_fast: "float",
    yarn_beta_slow: "float",
    yarn_orig_ctx: "uint32",
    defrag_thold: "float",
    cb_eval: "void*",
    cb_eval_user_data: "void*",
    type_k: "int32",
    type_v: "int32",
    abort_callback: "void*",
    abort_callback_data: "void*",
    embeddings: "bool",
    offload_kqv: "bool",
    no_perf: "bool",
    op_offload: "bool",
    swa_full: "bool",
    kv_unified: "bool",
    samplers: "void*",
    n_samplers: "size_t",
    ctx_other: "void*",
  });
}

function batchType(): KoffiType {
  return koffi.struct({
    n_tokens: "int32",
    token: "void*",
    embd: "void*",
    pos: "void*",
    n_seq_id: "void*",
    seq_id: "void*",
    logits: "void*",
  });
}
