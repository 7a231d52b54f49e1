/**
 * How fast a run of layers runs on a machine: MODELLED from memory bandwidth and compute by the roofline, not measured. One decode
 * step reads the weights once and each sequence's keys and values, or computes as long as the multiplications take, whichever is
 * more; a prompt is bound by compute.
 */

import type { SimModel } from "../policies/served-mix.ts";
import type { GpuClass } from "../scenario/gpu-classes.ts";

/** Shares of the makers' rates that inference reaches; of the usual order for llama.cpp and vLLM, not measured by us. */
export const BANDWIDTH_SHARE = 0.6;
export const COMPUTE_SHARE = 0.3;
/** Launches, sampling, the engine's own loop: for each step of a stage. */
export const STEP_OVERHEAD_MS = 1.5;
/** Context that a sequence has on average while it decodes. */
export const CONTEXT_TOKENS_MEAN = 1_300;
/** What an owner leaves for the grid of the device's memory. */
export const USABLE_SHARE = 0.9;
/** Kept free of weights on each stage, so that a few sequences have room for keys and values. */
export const KV_RESERVE_BYTES = 1e9;
/** Sequences that a stage decodes at the same time. */
export const SEQUENCES_MAX = 16;

/** One decode step of `layers` layers for `sequences` sequences. */
export function stepMs(gpu: GpuClass, model: SimModel, stage: { layers: number; sequences: number }): number {
  const { layers, sequences } = stage;
  const kvBytes = sequences * CONTEXT_TOKENS_MEAN * model.kvBytesPerTokenLayer;
  const readMs = (1_000 * layers * (model.layerBytes + kvBytes)) / (gpu.memoryBytesPerSecond * BANDWIDTH_SHARE);
  const computeMs = (1_000 * sequences * layers * model.flopsPerTokenLayer) / (gpu.flops * COMPUTE_SHARE);
  return STEP_OVERHEAD_MS + Math.max(readMs, computeMs);
}

export function prefillMs(gpu: GpuClass, model: SimModel, work: { layers: number; tokens: number }): number {
  const computeMs = (1_000 * work.tokens * work.layers * model.flopsPerTokenLayer) / (gpu.flops * COMPUTE_SHARE);
  // Short prompts read the weights like one step does.
  return Math.max(computeMs, stepMs(gpu, model, { layers: work.layers, sequences: 1 }));
}

export function usableBytesOf(gpu: GpuClass): number {
  return Math.floor(gpu.vramBytes * USABLE_SHARE);
}

export function stageBytes(model: SimModel, range: { first: number; end: number }): number {
  const ends = (range.first === 0 ? 0.5 : 0) + (range.end === model.layerCount ? 0.5 : 0);
  return (range.end - range.first) * model.layerBytes + ends * model.endsBytes;
}

/** Most layers that fit beside `takenBytes`, with the reserve for keys and values; the ends are counted as if they were there. */
export function layersThatFit(gpu: GpuClass, model: SimModel, takenBytes = 0): number {
  const bytes = usableBytesOf(gpu) - takenBytes - KV_RESERVE_BYTES;
  const whole = bytes >= model.layerCount * model.layerBytes + model.endsBytes;
  if (whole) return model.layerCount;
  return Math.max(0, Math.min(model.layerCount - 1, Math.floor((bytes - model.endsBytes / 2) / model.layerBytes)));
}
