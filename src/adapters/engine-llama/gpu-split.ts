/** A node's own split of a model over its GPUs, as the fields of `llama_model_params`. */
import type { GpuSplit, GpuSplitMode } from "../../ports/engine.ts";
import type { LlamaApi, ModelParams } from "./llama-ffi.ts";
import { allocateNative } from "./native-memory.ts";

/** `llama_split_mode`. */
const SPLIT_MODE: Readonly<Record<GpuSplitMode, number>> = { none: 0, layer: 1, row: 2 };
/** `ggml_backend_dev_type` of what a model can be split over. */
const GPU = 1;
const GPU_INTEGRATED = 2;

/** Sets the fields, or answers why the split cannot be made on this machine. The library reads the parts while the model loads. */
export function applySplit(api: LlamaApi, params: ModelParams, split: GpuSplit): string | null {
  const gpuCount = api.deviceNames().filter(({ type }) => type === GPU || type === GPU_INTEGRATED).length;
  const refusal = splitRefusal(split, { gpuCount, devicesMax: Number(api.devicesMax()) });
  if (refusal !== null) return refusal;
  params.split_mode = SPLIT_MODE[split.mode];
  params.main_gpu = split.mainGpu;
  if (split.tensorSplit.length > 0) params.tensor_split = tensorSplitOf(split, Number(api.devicesMax()));
  return null;
}

/** Why a split fits no engine with so many GPUs, or null. */
export function splitRefusal(
  split: GpuSplit,
  { gpuCount, devicesMax }: { readonly gpuCount: number; readonly devicesMax: number },
): string | null {
  const { tensorSplit, mainGpu } = split;
  const seen = `${gpuCount} ${gpuCount === 1 ? "GPU" : "GPUs"}`;
  if (!Number.isInteger(mainGpu) || mainGpu < 0 || mainGpu >= Math.max(1, gpuCount)) {
    return `main GPU ${mainGpu} is not one of the ${seen} that the engine sees (counted from 0)`;
  }
  if (tensorSplit.length > Math.min(gpuCount, devicesMax)) {
    return `a split into ${tensorSplit.join(",")} names ${tensorSplit.length} GPUs, the engine sees ${seen}`;
  }
  const bad = tensorSplit.find((part) => !Number.isFinite(part) || part < 0);
  if (bad !== undefined) return `a GPU's part is ${bad}: parts are numbers that are not negative`;
  if (tensorSplit.length > 0 && tensorSplit.every((part) => part === 0)) return "a split gives no GPU any part";
  return null;
}

/** The library reads as many floats as it knows devices, whatever the machine has. */
function tensorSplitOf(split: GpuSplit, devicesMax: number): bigint {
  const parts = allocateNative(devicesMax * Float32Array.BYTES_PER_ELEMENT);
  const floats = new Float32Array(parts.buffer);
  floats.fill(0);
  floats.set(split.tensorSplit);
  return parts.address;
}
