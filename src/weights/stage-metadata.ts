/** The metadata of a stage file: the model's, with what tells of layers cut to the stage's own, and without what the stage has no use for. */
import type { LayerShare } from "../domain/weights.ts";
import { type GgufArray, type GgufEntry, VALUE_TYPE } from "./gguf-header.ts";
import { GgufProblem } from "./gguf-refusal.ts";
import { elementBytesOf } from "./gguf-values.ts";
import type { WrittenEntry } from "./gguf-writer.ts";
import { Metadata } from "./metadata.ts";
import type { StagedModel } from "./stage-checks.ts";
import { STAGE_FIRST_KEY, STAGE_INPUT_KEY, STAGE_MODEL_LAYERS_KEY, STAGE_OUTPUT_KEY } from "./stage-plan.ts";
import { DUMMY_VOCABULARY } from "./stage-tensors.ts";

/** Arrays of the architecture that have one element for each layer. All others are refused, but those of `OTHER_ARRAYS`. */
const LAYER_ARRAYS = [
  "attention.head_count",
  "attention.head_count_kv",
  "feed_forward_length",
  "expert_feed_forward_length",
  "expert_used_count",
  "attention.sliding_window_pattern",
  "xielu.alpha_n",
  "xielu.alpha_p",
  "xielu.beta",
  "xielu.eps",
];
const OTHER_ARRAYS = ["rope.dimension_sections"];

export function stageEntries(
  model: StagedModel,
  share: LayerShare,
  tensors: { readonly outputTensor: string | null; readonly inputTensor: string | null },
): readonly WrittenEntry[] {
  const { architecture } = model;
  const prefix = `${architecture}.`;
  const entries = new Map<string, Uint8Array>();
  for (const entry of model.header.entries.values()) {
    if (!isKept(entry.key, share)) continue;
    const { value } = entry;
    const isOfModel = entry.key.startsWith(prefix) || entry.key.startsWith("xielu.");
    const bytes = isOfModel && value.type === "array" ? layersOf(entry, value, model, share) : entry.bytes;
    entries.set(entry.key, bytes);
  }
  entries.set(`${prefix}block_count`, uint32(share.count));
  for (const [key, bytes] of headLengths(model)) entries.set(key, bytes);
  for (const [key, value] of model.rules.metadata(new Metadata(model.header), { ...share, of: model.layerCount })) {
    entries.set(`${prefix}${key}`, bytesOf(value));
  }
  if (!share.hasOutput) {
    const size = share.hasEmbedding ? (model.embedding.dimensions[1] ?? 1) : DUMMY_VOCABULARY;
    entries.set("tokenizer.ggml.model", text("no_vocab"));
    entries.set(`${prefix}vocab_size`, uint32(size));
  }
  entries.set(STAGE_FIRST_KEY, uint32(share.first));
  entries.set(STAGE_MODEL_LAYERS_KEY, uint32(model.layerCount));
  const { outputTensor, inputTensor } = tensors;
  if (outputTensor !== null) entries.set(STAGE_OUTPUT_KEY, text(outputTensor));
  if (inputTensor !== null) entries.set(STAGE_INPUT_KEY, text(inputTensor));
  return [...entries].map(([key, bytes]) => ({ key, bytes }));
}

function isKept(key: string, share: LayerShare): boolean {
  if (key.startsWith("split.") || key.startsWith("tokenizer.chat_template")) return false;
  return share.hasOutput || !key.startsWith("tokenizer.");
}

function layersOf(entry: GgufEntry, array: GgufArray, model: StagedModel, share: LayerShare): Uint8Array {
  const prefix = `${model.architecture}.`;
  const name = entry.key.startsWith(prefix) ? entry.key.slice(prefix.length) : entry.key;
  if (OTHER_ARRAYS.includes(name)) return entry.bytes;
  if (!LAYER_ARRAYS.includes(name) || array.elementType === "string") {
    throw new GgufProblem("stage-refused", `${entry.key} is an array; what it tells of which layer is not known here`);
  }
  if (array.count !== model.layerCount) {
    throw new GgufProblem("bad-metadata", `${entry.key} has ${array.count} elements for ${model.layerCount} layers`);
  }
  const size = elementBytesOf(array.elementType);
  const bytes = array.bytes.subarray(share.first * size, (share.first + share.count) * size);
  return arrayOf(VALUE_TYPE[array.elementType], share.count, bytes);
}

/** With heads that differ, the loader takes lengths from those of its first layer unless they are told. */
function headLengths({ header, architecture, shape }: StagedModel): readonly (readonly [string, Uint8Array])[] {
  if (header.entries.get(`${architecture}.attention.head_count`)?.value.type !== "array") return [];
  const own = Math.floor(shape.embeddingLength / (shape.heads[0] ?? 1));
  return ["attention.key_length", "attention.value_length"]
    .map((name) => `${architecture}.${name}`)
    .filter((key) => !header.entries.has(key))
    .map((key) => [key, uint32(own)]);
}

/** What an architecture's rules put in the place of a key. */
export type StageValue =
  | { readonly kind: "uint32"; readonly value: number }
  | { readonly kind: "float32"; readonly value: number }
  | { readonly kind: "bools"; readonly values: readonly boolean[] };

function bytesOf(value: StageValue): Uint8Array {
  switch (value.kind) {
    case "uint32":
      return uint32(value.value);
    case "float32":
      return float32(value.value);
    case "bools":
      return arrayOf(VALUE_TYPE.bool, value.values.length, Uint8Array.from(value.values, Number));
  }
}

function uint32(value: number): Uint8Array {
  const view = new DataView(new ArrayBuffer(8));
  view.setUint32(0, VALUE_TYPE.uint32, true);
  view.setUint32(4, value, true);
  return new Uint8Array(view.buffer);
}

function float32(value: number): Uint8Array {
  const view = new DataView(new ArrayBuffer(8));
  view.setUint32(0, VALUE_TYPE.float32, true);
  view.setFloat32(4, value, true);
  return new Uint8Array(view.buffer);
}

function text(value: string): Uint8Array {
  const encoded = new TextEncoder().encode(value);
  const bytes = new Uint8Array(12 + encoded.length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, VALUE_TYPE.string, true);
  view.setBigUint64(4, BigInt(encoded.length), true);
  bytes.set(encoded, 12);
  return bytes;
}

function arrayOf(elementType: number, count: number, elements: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(16 + elements.length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, VALUE_TYPE.array, true);
  view.setUint32(4, elementType, true);
  view.setBigUint64(8, BigInt(count), true);
  bytes.set(elements, 16);
  return bytes;
}
