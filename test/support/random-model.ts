/**
 * A real GGUF of the llama architecture with random weights, of about the size and with the layers that a test wants: the vocabulary is that
 * of the bundled model, every block has a small scale, so that an engine can run it, and no two MiB are alike. The same seed gives the same
 * file; 200 MB take about a second.
 */
import { open } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { assert } from "../../src/domain/assert.ts";
import type { GgufEntry } from "../../src/weights/gguf-header.ts";
import { readGgufHeader } from "../../src/weights/gguf-reader.ts";
import { float32, GgufBytes, string, uint32 } from "./gguf-bytes.ts";

export interface RandomModelOptions {
  /** About so many. */
  readonly fileBytes: number;
  readonly layerCount: number;
  readonly seed?: number;
  /** Longest context, 2,048 without. */
  readonly contextTokens?: number;
  /** Of 64 values each: hidden states have all of them one after the other. 8 without. */
  readonly heads?: number;
  /** Heads of keys and values, at most as many: how much memory a sequence takes. */
  readonly headsKv?: number;
}

const TINY = fileURLToPath(new URL("../../models/tiny-q8_0.gguf", import.meta.url));
const HEADS = 8;
const HEADS_KV = 4;
const CONTEXT_TOKENS = 2_048;
const HEAD_VALUES = 64;
const BLOCK_VALUES = 32;
const BLOCK_BYTES = 34;
const ALIGNMENT = 32;
const F32 = 0;
const Q8_0 = 8;
const FILE_TYPE_Q8_0 = 7;
/** Of Q8_0 blocks; stamped and written again and again. */
const PATTERN_BYTES = BLOCK_BYTES * 16_384;
/** Far less than a chunk, so that each chunk has stamps of its own. */
const STAMP_EVERY_BYTES = BLOCK_BYTES * 512;
/** 0.0009765625 as f16. */
const SCALE_F16 = 0x1400;

interface Tensor {
  readonly name: string;
  readonly dimensions: readonly number[];
  readonly type: number;
  readonly bytes: number;
}

export async function writeRandomModel(path: string, options: RandomModelOptions): Promise<void> {
  const { layerCount, fileBytes, seed = 1, contextTokens = CONTEXT_TOKENS } = options;
  const { heads = HEADS, headsKv = HEADS_KV } = options;
  const vocabulary = await vocabularyOf(TINY);
  const tensors = tensorsOf({ layerCount, fileBytes, heads, headsKv, vocabSize: vocabulary.size });
  const forwardValues = forwardOf(tensors);
  const header = headerOf(vocabulary.entries, tensors, { layerCount, forwardValues, contextTokens, heads, headsKv });
  const pattern = patternOf(seed);
  const file = await open(path, "w");
  try {
    await file.write(header);
    let stamp = seed * 1_000_003;
    for (const { type, bytes } of tensors) {
      if (type === F32) {
        await file.write(Buffer.from(Float32Array.from({ length: bytes / 4 }, () => 1).buffer));
        await file.write(Buffer.alloc(padding(bytes)));
        continue;
      }
      for (let left = bytes; left > 0; left -= PATTERN_BYTES) {
        for (let at = 2; at < PATTERN_BYTES; at += STAMP_EVERY_BYTES) pattern.writeUInt32LE(++stamp >>> 0, at);
        await file.write(pattern, 0, Math.min(left, PATTERN_BYTES));
      }
      await file.write(Buffer.alloc(padding(bytes)));
    }
  } finally {
    await file.close();
  }
}

async function vocabularyOf(path: string): Promise<{ readonly entries: readonly GgufEntry[]; readonly size: number }> {
  const file = await open(path, "r");
  try {
    const { size } = await file.stat();
    const read = async (offset: number, length: number) => {
      const bytes = new Uint8Array(Math.max(0, Math.min(length, size - offset)));
      await file.read(bytes, 0, bytes.length, offset);
      return bytes;
    };
    const header = await readGgufHeader({ sizeBytes: size, read });
    assert(header.ok, "the bundled model can be read");
    const entries = [...header.value.entries.values()].filter(({ key }) => key.startsWith("tokenizer."));
    const embedding = header.value.tensors.find(({ name }) => name === "token_embd.weight");
    return { entries, size: Number(embedding?.dimensions[1] ?? 0) };
  } finally {
    await file.close();
  }
}

function tensorsOf(shape: {
  layerCount: number;
  fileBytes: number;
  heads: number;
  headsKv: number;
  vocabSize: number;
}): readonly Tensor[] {
  const { layerCount, fileBytes, vocabSize } = shape;
  const width = shape.heads * HEAD_VALUES;
  const widthKv = shape.headsKv * HEAD_VALUES;
  const ends = [matrix("token_embd.weight", width, vocabSize), vector("output_norm.weight", width)];
  const output = matrix("output.weight", width, vocabSize);
  const attention = (at: string) => [
    vector(`${at}.attn_norm.weight`, width),
    matrix(`${at}.attn_q.weight`, width, width),
    matrix(`${at}.attn_k.weight`, width, widthKv),
    matrix(`${at}.attn_v.weight`, width, widthKv),
    matrix(`${at}.attn_output.weight`, width, width),
    vector(`${at}.ffn_norm.weight`, width),
  ];
  const sum = (tensors: readonly Tensor[]) => tensors.reduce((total, { bytes }) => total + bytes, 0);
  const perLayer = (fileBytes - sum([...ends, output])) / layerCount - sum(attention("blk.0"));
  const rowsBytes = 3 * matrix("one", width, 1).bytes;
  const forward = Math.max(BLOCK_VALUES, Math.floor(perLayer / rowsBytes / BLOCK_VALUES) * BLOCK_VALUES);
  const layers = Array.from({ length: layerCount }, (_, layer) => [
    ...attention(`blk.${layer}`),
    matrix(`blk.${layer}.ffn_gate.weight`, width, forward),
    matrix(`blk.${layer}.ffn_up.weight`, width, forward),
    matrix(`blk.${layer}.ffn_down.weight`, forward, width),
  ]);
  return [...ends, ...layers.flat(), output];
}

function forwardOf(tensors: readonly Tensor[]): number {
  return tensors.find(({ name }) => name === "blk.0.ffn_up.weight")?.dimensions[1] ?? 0;
}

function matrix(name: string, columns: number, rows: number): Tensor {
  return { name, dimensions: [columns, rows], type: Q8_0, bytes: ((columns * rows) / BLOCK_VALUES) * BLOCK_BYTES };
}

function vector(name: string, values: number): Tensor {
  return { name, dimensions: [values], type: F32, bytes: values * 4 };
}

function headerOf(
  vocabulary: readonly GgufEntry[],
  tensors: readonly Tensor[],
  shape: { layerCount: number; forwardValues: number; contextTokens: number; heads: number; headsKv: number },
): Uint8Array {
  const own = {
    "general.architecture": string("llama"),
    "general.name": string("Random"),
    "general.file_type": uint32(FILE_TYPE_Q8_0),
    "llama.block_count": uint32(shape.layerCount),
    "llama.context_length": uint32(shape.contextTokens),
    "llama.embedding_length": uint32(shape.heads * HEAD_VALUES),
    "llama.feed_forward_length": uint32(shape.forwardValues),
    "llama.attention.head_count": uint32(shape.heads),
    "llama.attention.head_count_kv": uint32(shape.headsKv),
    "llama.attention.layer_norm_rms_epsilon": float32(1e-5),
    "llama.rope.dimension_count": uint32(HEAD_VALUES),
  };
  const count = Object.keys(own).length + vocabulary.length;
  const out = new GgufBytes().magic(3).u64(BigInt(tensors.length)).u64(BigInt(count));
  for (const [key, { type, bytes }] of Object.entries(own)) out.text(key).u32(type).raw(bytes);
  for (const { key, bytes } of vocabulary) out.text(key).raw(bytes);
  let offset = 0;
  for (const { name, dimensions, type, bytes } of tensors) {
    out.text(name).u32(dimensions.length);
    for (const dimension of dimensions) out.u64(BigInt(dimension));
    out.u32(type).u64(BigInt(offset));
    offset += bytes + padding(bytes);
  }
  const header = out.done();
  return Buffer.concat([header, Buffer.alloc(padding(header.length))]);
}

function padding(bytes: number): number {
  return (ALIGNMENT - (bytes % ALIGNMENT)) % ALIGNMENT;
}

/** Blocks of one scale and values of a xorshift. */
function patternOf(seed: number): Buffer {
  const pattern = Buffer.alloc(PATTERN_BYTES);
  let state = (seed * 2_654_435_761) >>> 0 || 1;
  for (let at = 0; at < PATTERN_BYTES; at += 2) {
    state ^= (state << 13) >>> 0;
    state ^= state >>> 17;
    state = (state ^ (state << 5)) >>> 0;
    pattern.writeUInt16LE(at % BLOCK_BYTES === 0 ? SCALE_F16 : state & 0xffff, at);
  }
  return pattern;
}
