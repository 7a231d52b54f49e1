/** How many layers, heads and values a model has by its metadata, each within bounds, and whether its tensors agree on the roughest of it. */
import type { ModelManifest } from "../domain/model.ts";
import type { GgufHeader } from "./gguf-header.ts";
import { GgufProblem } from "./gguf-refusal.ts";
import type { Metadata } from "./metadata.ts";

/** llama.cpp's LLAMA_MAX_LAYERS. */
const LAYERS_MAX = 512;
const WIDTH_MAX = 262_144;
const HEADS_MAX = 4096;
const CONTEXT_TOKENS_MAX = 0x7fffffff;
const F16_BYTES = 2;

export interface Shape
  extends Pick<
    ModelManifest,
    "layerCount" | "embeddingLength" | "headCount" | "headCountKv" | "contextTokensMax" | "kvBytesPerToken"
  > {
  /** Of each layer. */
  readonly heads: readonly number[];
  readonly headsKv: readonly number[];
  readonly keyLength: number;
  readonly valueLength: number;
}

export function readShape(metadata: Metadata, architecture: string): Shape {
  const key = (name: string): string => `${architecture}.${name}`;
  const layerCount = metadata.integer(key("block_count"), { least: 1, most: LAYERS_MAX });
  const embeddingLength = metadata.integer(key("embedding_length"), { least: 1, most: WIDTH_MAX });
  const contextTokensMax = metadata.integer(key("context_length"), { least: 1, most: CONTEXT_TOKENS_MAX });
  const perLayer = { least: 0, most: HEADS_MAX, layers: layerCount };
  const heads = metadata.integerPerLayer(key("attention.head_count"), perLayer);
  if (heads === null) throw new GgufProblem("missing-metadata", `the file has no ${key("attention.head_count")}`);
  const headsKv = metadata.integerPerLayer(key("attention.head_count_kv"), perLayer) ?? heads;
  const headCount = Math.max(...heads);
  const headCountKv = Math.max(...headsKv);
  if (headCount < 1 || headCountKv < 1 || headCountKv > headCount) {
    const message = `${key("attention.head_count")} is ${headCount} and head_count_kv ${headCountKv}: 1 <= kv <= heads`;
    throw new GgufProblem("bad-metadata", message);
  }
  const width = { least: 1, most: WIDTH_MAX };
  const own = Math.floor(embeddingLength / headCount);
  const keyLength = metadata.integerOrNull(key("attention.key_length"), width) ?? own;
  const valueLength = metadata.integerOrNull(key("attention.value_length"), width) ?? own;
  if (keyLength < 1) {
    throw new GgufProblem(
      "bad-metadata",
      `${key("embedding_length")} ${embeddingLength} is less than its ${headCount} heads`,
    );
  }
  for (const name of ["attention.layer_norm_rms_epsilon", "attention.layer_norm_epsilon", "rope.freq_base"]) {
    metadata.positiveFloatOrNull(key(name));
  }
  const kvBytesPerToken = headsKv.reduce((sum, count) => sum + count * (keyLength + valueLength) * F16_BYTES, 0);
  return {
    layerCount,
    embeddingLength,
    headCount,
    headCountKv,
    contextTokensMax,
    kvBytesPerToken,
    heads,
    headsKv,
    keyLength,
    valueLength,
  };
}

export function checkTensors(header: GgufHeader, shape: Pick<Shape, "embeddingLength" | "layerCount">): void {
  const embedding = header.tensors.find((tensor) => tensor.name === "token_embd.weight");
  const width = embedding?.dimensions[0];
  if (width !== shape.embeddingLength) {
    const message = `token_embd.weight has rows of ${width}, embedding_length is ${shape.embeddingLength}`;
    throw new GgufProblem("bad-tensor", message);
  }
  const layers = new Set(header.tensors.map((tensor) => /^blk\.(\d+)\./.exec(tensor.name)?.[1]));
  const beyond = [...layers].find((layer) => layer !== undefined && Number(layer) >= shape.layerCount);
  if (beyond !== undefined) {
    const message = `block_count is ${shape.layerCount}, but there is a tensor blk.${beyond}.*`;
    throw new GgufProblem("bad-tensor", message);
  }
  for (let layer = 0; layer < shape.layerCount; layer++) {
    if (layers.has(String(layer))) continue;
    throw new GgufProblem("bad-tensor", `block_count is ${shape.layerCount}, but there is no tensor blk.${layer}.*`);
  }
}
