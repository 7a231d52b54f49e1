/** The engine's own quantiser (`llama_model_quantize`), which no part of Fallow calls: for models that tests and benches make. */
import koffi from "koffi";
import { findLlamaLibrary } from "../../src/adapters/engine-llama/llama-library.ts";

/** `llama_ftype` by its name; the K ones are mixtures of several types. */
export const QUANTISATIONS = {
  F32: 0,
  F16: 1,
  BF16: 32,
  Q4_0: 2,
  Q8_0: 7,
  Q2_K: 10,
  Q4_K_M: 15,
  Q5_K_M: 17,
  Q6_K: 18,
} as const;
export type Quantisation = keyof typeof QUANTISATIONS;
export const QUANTISATION_NAMES: readonly Quantisation[] = [
  "F32",
  "F16",
  "BF16",
  "Q8_0",
  "Q6_K",
  "Q5_K_M",
  "Q4_K_M",
  "Q4_0",
  "Q2_K",
];

interface QuantiseParams {
  nthread: number;
  ftype: number;
}

/** Returns the function; the library is loaded once. Throws when it refuses. Logs to standard error. */
export function openQuantiser(): (from: string, to: string, quantisation: Quantisation) => void {
  const files = findLlamaLibrary({ directory: null, variant: "cpu" });
  const base = koffi.load(files.ggml);
  base.func("void ggml_backend_load_all_from_path(const char*)")(files.directory);
  const llama = koffi.load(files.llama);
  const params = paramsType();
  const defaults: () => QuantiseParams = llama.func("llama_model_quantize_default_params", params, []);
  const run: (from: string, to: string, params: QuantiseParams) => number = llama.func(
    "llama_model_quantize",
    "uint32",
    ["const char*", "const char*", koffi.pointer(params)],
  );
  return (from, to, quantisation) => {
    const code = run(from, to, { ...defaults(), nthread: 1, ftype: QUANTISATIONS[quantisation] });
    if (code !== 0) throw new Error(`llama_model_quantize answered ${code} for ${quantisation}`);
  };
}

/** `llama_model_quantize_params` of llama.cpp 0.5.0, in the order of its header. */
function paramsType() {
  return koffi.struct({
    nthread: "int32",
    ftype: "int32",
    output_tensor_type: "int32",
    token_embedding_type: "int32",
    allow_requantize: "bool",
    quantize_output_tensor: "bool",
    only_copy: "bool",
    pure: "bool",
    keep_split: "bool",
    dry_run: "bool",
    imatrix: "void*",
    kv_overrides: "void*",
    tt_overrides: "void*",
    prune_layers: "void*",
    max_buf_size: "size_t",
  });
}
