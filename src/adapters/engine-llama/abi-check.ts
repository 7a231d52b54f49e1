/**
 * Is this the library whose structs we know? A wrong layout corrupts memory in silence, so that every field with a known
 * default is compared before a struct of ours goes the other way. The golden logits (`golden-logits.ts`) then show that
 * values really arrive.
 */
import type { ContextParams, LlamaApi, ModelParams } from "./llama-ffi.ts";
import { LLAMA_RELEASE } from "./llama-library.ts";

const F16 = 1;
const POOLING_UNSPECIFIED = -1;
const FLASH_ATTENTION_AUTO = -1;

/** What is wrong with the library, or null. */
export function abiMismatch(api: LlamaApi): string | null {
  const release = api.version();
  if (!release.includes(LLAMA_RELEASE)) return `llama.cpp ${LLAMA_RELEASE} is needed, this library says ${release}`;
  return modelParamsMismatch(api.modelDefaults()) ?? contextParamsMismatch(api.contextDefaults());
}

function modelParamsMismatch(params: ModelParams): string | null {
  return firstDifference("llama_model_params", params, {
    n_gpu_layers: -1,
    split_mode: 1,
    load_mode: -1,
    lazy_mode: 1,
    main_gpu: 0,
    tensor_split: null,
    devices: null,
    progress_callback: null,
    vocab_only: false,
    check_tensors: false,
    use_extra_bufts: true,
  });
}

function contextParamsMismatch(params: ContextParams): string | null {
  return firstDifference("llama_context_params", params, {
    n_ctx: 512,
    n_batch: 2048,
    n_ubatch: 512,
    n_seq_max: 1,
    n_outputs_max: 0,
    n_outputs_max_per_seq: 1,
    rope_scaling_type: -1,
    pooling_type: POOLING_UNSPECIFIED,
    flash_attn_type: FLASH_ATTENTION_AUTO,
    yarn_ext_factor: -1,
    cb_eval: null,
    type_k: F16,
    type_v: F16,
    embeddings: false,
    offload_kqv: true,
    swa_full: true,
    kv_unified: false,
  });
}

function firstDifference<T extends object>(name: string, actual: T, expected: Partial<T>): string | null {
  for (const [field, value] of Object.entries(expected)) {
    const found: unknown = Reflect.get(actual, field);
    if (found !== value) return `${name}.${field} defaults to ${String(found)}, not to ${String(value)}`;
  }
  return null;
}
