/**
 * How much memory a stage takes: the weights of its layers, the embedding if it is the first and the output head if it is the last, its layers' share of
 * the KV cache of all slots, and what computing needs; the same figures as for a whole replica (placement/slots.ts).
 *
 * A chain is as large as its smallest stage: the context and the slots are what every stage has room for.
 */
import type { ModelManifest } from "../../domain/model.ts";
import type { EndBytes, ModelVariant } from "../placement/plan-question.ts";
import { COMPUTE_BYTES, CONTEXT_TOKENS_MIN, CONTEXT_TOKENS_PLANNED_MAX, SLOTS_MAX } from "../placement/slots.ts";

/** The engine's process and allocation slack, as for a whole replica. */
const WEIGHTS_SLACK = 0.05;
/** Embeddings and heads are mostly kept finer than the layers (Q6_K beside Q4_K: 6.6 bits to 4.9). */
const END_FINER = 1.35;

export interface StageSizes {
  readonly layerCount: number;
  readonly contextTokensMax: number;
  /** Of one layer's weights. */
  readonly layerBytes: number;
  /** Of one layer's keys and values, for one token. */
  readonly kvLayerBytesPerToken: number;
  readonly embeddingBytes: number;
  readonly outputBytes: number;
}

export interface LayerRange {
  readonly first: number;
  readonly count: number;
}

export interface ChainShape {
  readonly contextTokens: number;
  readonly sequencesMax: number;
}

/** A stage's layers, and the memory that it may take on its node. */
export type RoomyStage = LayerRange & { readonly freeBytes: number };

/**
 * What the ends hold, when only the manifest is known: as many bytes for each element as the file has on the mean, and somewhat finer. Too much rather
 * than too little, since a head of its own and a tied one look alike here.
 */
export function estimatedEnds(
  manifest: Pick<ModelManifest, "fileBytes" | "parameterCount" | "vocabSize" | "embeddingLength">,
): EndBytes {
  const { fileBytes, parameterCount, vocabSize, embeddingLength } = manifest;
  const elements = Math.min(vocabSize * embeddingLength, parameterCount);
  const bytes = parameterCount > 0 ? Math.ceil((elements * fileBytes * END_FINER) / parameterCount) : 0;
  const most = Math.min(bytes, elements * 4, fileBytes);
  return { embeddingBytes: most, outputBytes: most };
}

export function stageSizes(
  model: { readonly layerCount: number; readonly contextTokensMax: number },
  { fileBytes, kvBytesPerToken, ends }: Pick<ModelVariant, "fileBytes" | "kvBytesPerToken" | "ends">,
): StageSizes {
  const { layerCount, contextTokensMax } = model;
  const { embeddingBytes, outputBytes, layersBytes }: EndBytes = ends ?? { embeddingBytes: 0, outputBytes: 0 };
  // Of a tied model the file has the embedding once: what is left for the layers is never told too small.
  const inLayers = layersBytes ?? Math.max(0, fileBytes - Math.min(embeddingBytes, outputBytes) / END_FINER);
  return {
    layerCount,
    contextTokensMax,
    layerBytes: inLayers / layerCount,
    kvLayerBytesPerToken: kvBytesPerToken / layerCount,
    embeddingBytes,
    outputBytes,
  };
}

/** Weights of a stage, as they are fetched and lie on a disk. */
export function stageWeightsBytes(sizes: StageSizes, { first, count }: LayerRange): number {
  const ends = (first === 0 ? sizes.embeddingBytes : 0) + (first + count === sizes.layerCount ? sizes.outputBytes : 0);
  return Math.ceil(count * sizes.layerBytes + ends);
}

/** Bytes that a stage of this shape takes. */
export function stageBytes(sizes: StageSizes, range: LayerRange, shape: ChainShape): number {
  return baseBytes(sizes, range) + Math.ceil(slotBytes(sizes, range, shape.contextTokens) * shape.sequencesMax);
}

/** Whether the stage has room for this shape. */
export function holds(sizes: StageSizes, stage: RoomyStage, shape: ChainShape): boolean {
  return stageBytes(sizes, stage, shape) <= stage.freeBytes;
}

/**
 * The largest shape that every stage has room for: context before slots, but no more context than leaves as many slots as `least` wants. Null when some
 * stage has no room for `least`.
 */
export function chainShape(sizes: StageSizes, stages: readonly RoomyStage[], least: ChainShape): ChainShape | null {
  const slotsAt = (contextTokens: number) => {
    let most = SLOTS_MAX;
    for (const stage of stages) {
      const room = stage.freeBytes - baseBytes(sizes, stage);
      if (room < 0) return 0;
      const bytes = slotBytes(sizes, stage, contextTokens);
      // `stageBytes` rounds up.
      if (bytes > 0) most = Math.min(most, Math.max(0, Math.floor((room - 1) / bytes)));
    }
    return most;
  };
  if (slotsAt(least.contextTokens) < least.sequencesMax) return null;
  let contextTokens = Math.max(least.contextTokens, Math.min(CONTEXT_TOKENS_PLANNED_MAX, sizes.contextTokensMax));
  while (contextTokens > least.contextTokens && slotsAt(contextTokens) < least.sequencesMax) {
    contextTokens = Math.max(least.contextTokens, Math.floor(contextTokens / 2));
  }
  return { contextTokens, sequencesMax: slotsAt(contextTokens) };
}

/**
 * Shapes worth having, best first; a chain that fits one is looked for before the next. Stages work at the same time only with several sequences for each
 * of them, so a chain wants more slots than one device does.
 */
export function wantedShapes(contextTokensMax: number, contextTokensNeeded: number): readonly ChainShape[] {
  const shapes: ChainShape[] = [];
  for (const [context, sequencesMax] of SHAPES) {
    const contextTokens = Math.min(contextTokensMax, Math.max(context, contextTokensNeeded));
    const isKnown = shapes.some((one) => one.contextTokens === contextTokens && one.sequencesMax === sequencesMax);
    if (!isKnown && contextTokens >= contextTokensNeeded) shapes.push({ contextTokens, sequencesMax });
  }
  return shapes;
}

const SHAPES = [
  [2 * CONTEXT_TOKENS_MIN, 16],
  [2 * CONTEXT_TOKENS_MIN, 8],
  [CONTEXT_TOKENS_MIN, 8],
  [CONTEXT_TOKENS_MIN, 4],
  [CONTEXT_TOKENS_MIN, 2],
  [CONTEXT_TOKENS_MIN, 1],
] as const;

function baseBytes(sizes: StageSizes, range: LayerRange): number {
  return Math.ceil(stageWeightsBytes(sizes, range) * (1 + WEIGHTS_SLACK)) + COMPUTE_BYTES;
}

function slotBytes({ kvLayerBytesPerToken }: StageSizes, { count }: LayerRange, contextTokens: number): number {
  return count * kvLayerBytesPerToken * contextTokens;
}
