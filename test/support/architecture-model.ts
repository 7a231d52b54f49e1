/**
 * A small GGUF of an architecture, with random weights in F32 and the bundled model's vocabulary: what the golden tests of stages run on, after the
 * engine's own quantiser. The same spec and seed give the same bytes. Weights are of a size that makes logits differ by some units, so that a wrong
 * layer shows.
 */
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { byteSourceOf } from "../../src/weights/byte-source.ts";
import { readGgufHeader } from "../../src/weights/gguf-reader.ts";
import { padding, type WrittenEntry, writeGgufHeader } from "../../src/weights/gguf-writer.ts";
import type { ArchitectureSpec } from "./architecture-spec.ts";
import { ARCHITECTURE_SPECS } from "./architecture-specs.ts";
import {
  CONTEXT_TOKENS,
  FORWARD,
  HEAD,
  HEADS,
  KV_HEADS,
  LAYERS,
  type SpecTensor,
  WIDTH,
} from "./architecture-tensors.ts";
import { GgufBytes, type SampleValue, string, uint32 } from "./gguf-bytes.ts";

const TINY = fileURLToPath(new URL("../../models/tiny-q8_0.gguf", import.meta.url));
const ALIGNMENT = 32;
const F32 = 0;
/** Spread of a matrix's values, as a share of 1 / sqrt(columns). */
const SPREAD = 1.5;

const COMMON_METADATA: Readonly<Record<string, SampleValue>> = {
  block_count: uint32(LAYERS),
  context_length: uint32(CONTEXT_TOKENS),
  embedding_length: uint32(WIDTH),
  feed_forward_length: uint32(FORWARD),
  "attention.head_count": uint32(HEADS),
  "attention.head_count_kv": uint32(KV_HEADS),
  "rope.dimension_count": uint32(HEAD),
};

/** By its name, or `name/variant`. */
export function specNamed(name: string): ArchitectureSpec {
  const found = ARCHITECTURE_SPECS.find((spec) => specName(spec) === name);
  if (found === undefined) throw new Error(`no model of ${name} is described`);
  return found;
}

export function specName({ name, variant }: ArchitectureSpec): string {
  return variant === undefined ? name : `${name}/${variant}`;
}

/** Key without the architecture's name, or with a leading `/` a whole key. */
export type Changes = Readonly<Record<string, SampleValue | null>>;

export interface ModelOptions {
  readonly seed?: number;
  readonly changes?: Changes;
  /** Takes away, adds and changes tensors. */
  readonly tensors?: (all: SpecTensor[]) => SpecTensor[];
  /** Weights of zero: made sooner, for tests that read headers alone. */
  readonly isEmpty?: boolean;
}

export async function architectureModel(spec: ArchitectureSpec, options: ModelOptions = {}): Promise<Uint8Array> {
  const vocabulary = await vocabularyOf();
  const change = options.tensors ?? ((all: SpecTensor[]) => all);
  const tensors = change(tensorsOf(spec, vocabulary.size)).map(({ name, dimensions }) => ({
    name,
    dimensions,
    type: F32,
    bytes: 4 * dimensions.reduce((product, dimension) => product * dimension, 1),
  }));
  const header = writeGgufHeader({
    entries: [...metadataOf(spec, options.changes ?? {}), ...vocabulary.entries],
    tensors,
    alignment: ALIGNMENT,
  });
  const total = tensors.reduce((sum, { bytes }) => sum + bytes + padding(bytes, ALIGNMENT), header.length);
  const file = new Uint8Array(total);
  file.set(header);
  if (options.isEmpty === true) return file;
  const draw = normalDraws((options.seed ?? 1) * 7919 + spec.name.length);
  let at = header.length;
  for (const { name, dimensions, bytes } of tensors) {
    fill(new Float32Array(file.buffer, at, bytes / 4), name, dimensions, draw);
    at += bytes + padding(bytes, ALIGNMENT);
  }
  return file;
}

function fill(values: Float32Array, name: string, dimensions: readonly number[], draw: () => number): void {
  const isMatrix = dimensions.length > 1;
  const scale = isMatrix ? SPREAD / Math.sqrt(dimensions[0] ?? 1) : 0.1;
  const centre = !isMatrix && !name.endsWith(".bias") ? 1 : 0;
  for (let index = 0; index < values.length; index++) values[index] = centre + scale * draw();
  if (name.startsWith("rope_f")) for (const [index, value] of values.entries()) values[index] = 1 + Math.abs(value);
}

/** Sum of four even draws, of spread 1. */
function normalDraws(seed: number): () => number {
  let state = (seed * 2_654_435_761) >>> 0 || 1;
  const even = (): number => {
    state ^= (state << 13) >>> 0;
    state ^= state >>> 17;
    state = (state ^ (state << 5)) >>> 0;
    return state / 2 ** 32 - 0.5;
  };
  return () => (even() + even() + even() + even()) * Math.sqrt(3);
}

function tensorsOf(spec: ArchitectureSpec, vocabSize: number): SpecTensor[] {
  const layers = Array.from({ length: LAYERS }, (_, layer) =>
    spec.layer(layer).map(({ name, dimensions }) => ({ name: `blk.${layer}.${name}`, dimensions })),
  );
  // -1 stands for the vocabulary's size.
  const sized = spec.ends.map(({ name, dimensions }) => ({
    name,
    dimensions: dimensions.map((dimension) => (dimension === -1 ? vocabSize : dimension)),
  }));
  return [
    { name: "token_embd.weight", dimensions: [WIDTH, vocabSize] },
    ...layers.flat(),
    ...(spec.hasOutputNorm ? [{ name: "output_norm.weight", dimensions: [WIDTH] }] : []),
    ...(spec.hasHead ? [{ name: "output.weight", dimensions: [WIDTH, vocabSize] }] : []),
    ...sized,
  ];
}

function metadataOf(spec: ArchitectureSpec, changes: Changes): WrittenEntry[] {
  const own = new Map<string, SampleValue | null>([
    ["/general.architecture", string(spec.name)],
    ["/general.name", string("Random")],
    ["/general.file_type", uint32(0)],
    ...Object.entries(COMMON_METADATA),
    ...Object.entries(spec.metadata),
    ...Object.entries(changes),
  ]);
  return [...own].flatMap(([key, value]) =>
    value === null
      ? []
      : [
          {
            key: key.startsWith("/") ? key.slice(1) : `${spec.name}.${key}`,
            bytes: new GgufBytes().u32(value.type).raw(value.bytes).done(),
          },
        ],
  );
}

async function vocabularyOf(): Promise<{ readonly entries: readonly WrittenEntry[]; readonly size: number }> {
  const header = await readGgufHeader(byteSourceOf(readFileSync(TINY)));
  if (!header.ok) throw new Error(header.reason.message);
  const entries = [...header.value.entries.values()].filter(({ key }) => key.startsWith("tokenizer."));
  const embedding = header.value.tensors.find(({ name }) => name === "token_embd.weight");
  return { entries, size: embedding?.dimensions[1] ?? 0 };
}
