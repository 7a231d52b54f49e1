/**
 * Is the model what its metadata says, layer by layer? A stage is cut by the names and numbers in the header, so that a header that lies about layers
 * would give stages that compute something else, or end in the middle of the engine's loader on somebody else's node.
 */
import { ARCHITECTURES } from "./architectures.ts";
import type { GgufHeader, GgufTensor } from "./gguf-header.ts";
import { GgufProblem } from "./gguf-refusal.ts";
import { Metadata } from "./metadata.ts";
import { readShape, type Shape } from "./model-shape.ts";
import { type StageRules, stageRulesOf } from "./stage-architectures.ts";
import { checkVocabulary } from "./vocabulary-check.ts";

/** A model that can be cut. */
export interface StagedModel {
  /** Metadata of the first file, tensors of all. */
  readonly header: GgufHeader;
  readonly architecture: string;
  readonly rules: StageRules;
  readonly layerCount: number;
  readonly shape: Shape;
  readonly embedding: GgufTensor;
  /** Null: the embedding is the head too. */
  readonly head: GgufTensor | null;
}

/** Throws the refusal. */
export function checkStages(header: GgufHeader): StagedModel {
  const metadata = new Metadata(header);
  const architecture = metadata.text("general.architecture");
  if (!ARCHITECTURES.has(architecture)) {
    throw new GgufProblem(
      "unknown-architecture",
      `general.architecture is ${JSON.stringify(architecture.slice(0, 80))}`,
    );
  }
  const rules = stageRulesOf(architecture);
  const rows = checkVocabulary(header, metadata);
  const shape = readShape(metadata, architecture);
  const { layerCount } = shape;
  if (layerCount > rules.layersMax) {
    const message = `a ${architecture} of ${layerCount} layers cannot be cut: the engine makes something else of more than ${rules.layersMax}`;
    throw new GgufProblem("stage-refused", message);
  }
  if (rules.countsRefused.includes(layerCount)) {
    const message = `a ${architecture} of ${layerCount} layers cannot be cut: the engine tells small models by that number`;
    throw new GgufProblem("stage-refused", message);
  }
  const refusal = rules.refusal(metadata);
  if (refusal !== null) throw new GgufProblem("stage-refused", `a ${architecture} ${refusal}`);
  refuseExtraLayers(metadata, architecture);
  checkLayers(header, {
    layerCount,
    leadingDense: rules.leadingDense(metadata),
    mayDiffer: mayDiffer(header, architecture),
  });
  checkShapes(header, shape, rules.hasPlainHeads);
  const embedding = header.tensors.find(({ name }) => name === "token_embd.weight");
  if (embedding === undefined) throw new GgufProblem("bad-tensor", "the file has no tensor token_embd.weight");
  const head = header.tensors.find(({ name }) => name === "output.weight") ?? null;
  checkHead(head, { rules, architecture, rows, width: shape.embeddingLength });
  return { header, architecture, rules, layerCount, shape, embedding, head };
}

function refuseExtraLayers(metadata: Metadata, architecture: string): void {
  const extra = metadata.integerOrNull(`${architecture}.nextn_predict_layers`, { least: 0, most: 512 }) ?? 0;
  if (extra > 0) {
    throw new GgufProblem("stage-refused", `${architecture}.nextn_predict_layers is ${extra}: such layers are not cut`);
  }
}

/** Layers tell sizes of their own. */
function mayDiffer(header: GgufHeader, architecture: string): boolean {
  return ["attention.head_count", "attention.head_count_kv", "feed_forward_length", "expert_feed_forward_length"].some(
    (name) => header.entries.get(`${architecture}.${name}`)?.value.type === "array",
  );
}

function checkLayers(
  header: GgufHeader,
  model: { readonly layerCount: number; readonly leadingDense: number; readonly mayDiffer: boolean },
): void {
  const layers = Array.from({ length: model.layerCount }, () => new Map<string, readonly number[]>());
  for (const { name, dimensions } of header.tensors) {
    if (!name.startsWith("blk")) {
      checkEnd(name);
      continue;
    }
    const [, number, rest] = /^blk\.(0|[1-9]\d{0,8})\.(.+)$/s.exec(name) ?? [];
    if (number === undefined || rest === undefined) {
      throw new GgufProblem("bad-tensor", `the tensor ${shown(name)} is of no layer: names are blk.N.NAME`);
    }
    const layer = layers[Number(number)];
    if (layer === undefined) {
      const message = `block_count is ${model.layerCount}, but there is the tensor ${shown(name)}`;
      throw new GgufProblem("bad-tensor", message);
    }
    layer.set(rest, dimensions);
  }
  for (const [number, layer] of layers.entries()) {
    if (layer.size === 0) {
      throw new GgufProblem("bad-tensor", `block_count is ${model.layerCount}, but there is no tensor blk.${number}.*`);
    }
    const like = number < model.leadingDense ? 0 : Math.min(model.leadingDense, number);
    compareLayers({ number, layer, like, other: layers[like] ?? layer, mayDiffer: model.mayDiffer });
  }
}

/** Tensors outside of layers that stages know what to do with. */
function checkEnd(name: string): void {
  if (/^(token_embd|token_embd_norm|position_embd|output|output_norm)\.(weight|bias)$/.test(name)) return;
  if (/^(rope_freqs|rope_factors_long|rope_factors_short)\.weight$/.test(name)) return;
  throw new GgufProblem(
    "stage-refused",
    `the tensor ${shown(name)} stands outside of layers: which stage needs it is not known`,
  );
}

function compareLayers(pair: {
  readonly number: number;
  readonly layer: ReadonlyMap<string, readonly number[]>;
  readonly like: number;
  readonly other: ReadonlyMap<string, readonly number[]>;
  readonly mayDiffer: boolean;
}): void {
  const { number, layer, like, other } = pair;
  for (const name of other.keys()) {
    if (layer.has(name)) continue;
    throw new GgufProblem(
      "bad-tensor",
      `there is a tensor blk.${like}.${shown(name)}, but no blk.${number}.${shown(name)}`,
    );
  }
  for (const [name, dimensions] of layer) {
    const others = other.get(name);
    if (others === undefined) {
      throw new GgufProblem(
        "bad-tensor",
        `there is a tensor blk.${number}.${shown(name)}, but no blk.${like}.${shown(name)}`,
      );
    }
    if (!pair.mayDiffer && dimensions.join() !== others.join()) {
      const message = `blk.${number}.${shown(name)} is ${dimensions.join(" × ")}, blk.${like}'s ${others.join(" × ")}`;
      throw new GgufProblem("bad-tensor", message);
    }
  }
}

/** Shapes that metadata tells; those of other tensors are compared between layers, and by the engine's loader. */
function checkShapes(header: GgufHeader, shape: Shape, hasPlainHeads: boolean): void {
  const { embeddingLength: width, heads, headsKv, keyLength, valueLength } = shape;
  for (const { name, dimensions } of header.tensors) {
    const [, number, rest] = /^blk\.(\d+)\.(.+)$/.exec(name) ?? [];
    const layer = Number(number ?? 0);
    const [own, kv] = [heads[layer] ?? 0, headsKv[layer] ?? 0];
    const heights: Readonly<Record<string, readonly number[]>> = {
      "attn_q.weight": [width, own * keyLength],
      "attn_k.weight": [width, kv * keyLength],
      "attn_v.weight": [width, kv * valueLength],
      "attn_qkv.weight": [width, own * keyLength + kv * (keyLength + valueLength)],
      "attn_output.weight": [own * valueLength, width],
    };
    const norms = { "attn_norm.weight": [width], "output_norm.weight": [width] };
    const expected: Readonly<Record<string, readonly number[]>> = hasPlainHeads ? { ...norms, ...heights } : norms;
    const right = Object.hasOwn(expected, rest ?? name) ? expected[rest ?? name] : undefined;
    if (right === undefined || dimensions.join() === right.join()) continue;
    const message = `${name} is ${dimensions.join(" × ")}; by the metadata it is ${right.join(" × ")}`;
    throw new GgufProblem("bad-tensor", message);
  }
}

function checkHead(
  head: GgufTensor | null,
  model: { readonly rules: StageRules; readonly architecture: string; readonly rows: number; readonly width: number },
): void {
  const { rules, architecture, rows, width } = model;
  if (head === null) {
    if (rules.head !== "own") return;
    throw new GgufProblem("bad-tensor", `the file has no tensor output.weight, which ${architecture} needs`);
  }
  if (rules.head === "tied") {
    throw new GgufProblem("bad-tensor", `the file has a tensor output.weight, which ${architecture} does not know`);
  }
  if (head.dimensions.join() !== [width, rows].join()) {
    const message = `output.weight is ${head.dimensions.join(" × ")}; by the metadata it is ${width} × ${rows}`;
    throw new GgufProblem("bad-tensor", message);
  }
}

function shown(name: string): string {
  return name.slice(0, 80);
}
