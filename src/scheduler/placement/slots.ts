/**
 * How large a replica may be on a device: weights + KV cache of all slots + what computing needs must stay within the bytes
 * that are usable and not yet planned. Context comes before slots: a request that does not fit can never run, while a request
 * without a slot only waits. So the context is halved only while fewer than `SLOTS_WANTED` sequences fit beside the weights.
 */
import type { ModelManifest } from "../../domain/model.ts";
import { no, type Outcome, ok } from "../../domain/refusal.ts";

export type ModelSize = Pick<ModelManifest, "fileBytes" | "kvBytesPerToken" | "contextTokensMax">;

export interface ReplicaSize {
  readonly contextTokens: number;
  readonly sequencesMax: number;
  readonly memoryBytes: number;
}

/** More sequences than this gain no throughput on one device (engines reference: the gain flattens at 64). */
export const SLOTS_MAX = 64;
/** Below this, context is traded for slots. */
export const SLOTS_WANTED = 4;
/** Longest context that is planned without being asked for: 64 slots of more would be mostly empty memory. */
export const CONTEXT_TOKENS_PLANNED_MAX = 32_768;
/** A model is not worth loading with less, unless it was trained with less. */
export const CONTEXT_TOKENS_MIN = 2_048;
/** Graph, scratch and logits buffers of llama.cpp at a batch of 512 tokens; grows slowly with the model. */
export const COMPUTE_BYTES = 96 * 1024 * 1024;
/** The engine's process itself and allocation slack, as a share of the weights: 5 %. */
const WEIGHTS_SLACK = 0.05;

/** Bytes that a replica of this shape takes. */
export function replicaBytes(model: ModelSize, shape: { contextTokens: number; sequencesMax: number }): number {
  return baseBytes(model) + model.kvBytesPerToken * shape.contextTokens * shape.sequencesMax;
}

export function sizeReplica(
  model: ModelSize,
  freeBytes: number,
): Outcome<ReplicaSize, { readonly neededBytes: number; readonly freeBytes: number }> {
  const kvRoom = freeBytes - baseBytes(model);
  const slotsAt = (contextTokens: number): number => {
    if (kvRoom < 0) return 0;
    // A model without a KV cache (state-space) takes no memory for a slot.
    return model.kvBytesPerToken === 0 ? SLOTS_MAX : Math.floor(kvRoom / (model.kvBytesPerToken * contextTokens));
  };
  const contextMin = Math.min(CONTEXT_TOKENS_MIN, model.contextTokensMax);
  let contextTokens = Math.min(CONTEXT_TOKENS_PLANNED_MAX, model.contextTokensMax);
  while (contextTokens > contextMin && slotsAt(contextTokens) < SLOTS_WANTED) {
    contextTokens = Math.max(contextMin, Math.floor(contextTokens / 2));
  }
  const sequencesMax = Math.min(SLOTS_MAX, slotsAt(contextTokens));
  if (sequencesMax < 1) {
    return no({ neededBytes: replicaBytes(model, { contextTokens, sequencesMax: 1 }), freeBytes });
  }
  return ok({ contextTokens, sequencesMax, memoryBytes: replicaBytes(model, { contextTokens, sequencesMax }) });
}

function baseBytes(model: ModelSize): number {
  return Math.ceil(model.fileBytes * (1 + WEIGHTS_SLACK)) + COMPUTE_BYTES;
}
