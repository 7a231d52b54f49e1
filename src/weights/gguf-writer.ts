/**
 * A GGUF without tensors that holds a model's vocabulary: what the coordinator tokenises with. It is built from checked
 * metadata, so that no byte of a stranger's tensors, and no key that a tokeniser does not read, reaches native code there.
 * The same model always gives the same bytes: their digest names the tokeniser.
 */
import type { GgufEntry, GgufHeader } from "./gguf-header.ts";

const MAGIC = 0x46554747;
const VERSION = 3;

/** The keys kept, in sorted order: the architecture and everything of the tokeniser except chat templates. */
export function tokenizerOnlyGguf(header: GgufHeader): Uint8Array {
  const kept = [...header.entries.values()].filter(({ key }) => isTokenizerKey(key));
  kept.sort((a, b) => (a.key < b.key ? -1 : 1));
  return writeGguf(kept);
}

function isTokenizerKey(key: string): boolean {
  if (key === "general.architecture") return true;
  return key.startsWith("tokenizer.") && !key.startsWith("tokenizer.chat_template");
}

/** Version 3, no tensors, the entries as they are. */
export function writeGguf(entries: readonly WrittenEntry[]): Uint8Array {
  return writeGgufHeader({ entries, tensors: [], alignment: 1 });
}

/** Key, and type and value as they stand in the file. */
export type WrittenEntry = Pick<GgufEntry, "key" | "bytes">;

export interface WrittenTensor {
  readonly name: string;
  readonly dimensions: readonly number[];
  readonly type: number;
  readonly bytes: number;
}

/**
 * All that stands before the tensors' data, up to the first one's first byte. Tensors lie in this order, each at the next multiple of the
 * alignment (`padding`), which the entries have to tell when it is not 32.
 */
export function writeGgufHeader(file: {
  readonly entries: readonly WrittenEntry[];
  readonly tensors: readonly WrittenTensor[];
  readonly alignment: number;
}): Uint8Array {
  const encoder = new TextEncoder();
  const entries = file.entries.map(({ key, bytes }) => ({ key: encoder.encode(key), bytes }));
  const tensors = file.tensors.map((tensor) => ({ ...tensor, name: encoder.encode(tensor.name) }));
  const entriesEnd = entries.reduce((sum, { key, bytes }) => sum + 8 + key.length + bytes.length, 24);
  const end = tensors.reduce((sum, { name, dimensions }) => sum + 24 + name.length + 8 * dimensions.length, entriesEnd);
  const out = new Uint8Array(end + padding(end, file.alignment));
  const view = new DataView(out.buffer);
  view.setUint32(0, MAGIC, true);
  view.setUint32(4, VERSION, true);
  view.setBigUint64(8, BigInt(tensors.length), true);
  view.setBigUint64(16, BigInt(entries.length), true);
  let at = 24;
  for (const { key, bytes } of entries) {
    view.setBigUint64(at, BigInt(key.length), true);
    out.set(key, at + 8);
    out.set(bytes, at + 8 + key.length);
    at += 8 + key.length + bytes.length;
  }
  let offset = 0;
  for (const tensor of tensors) {
    at = putTensor(view, at, { ...tensor, offset });
    offset += tensor.bytes + padding(tensor.bytes, file.alignment);
  }
  return out;
}

/** Answers where the next one begins. */
function putTensor(
  view: DataView,
  start: number,
  tensor: { name: Uint8Array; dimensions: readonly number[]; type: number; offset: number },
): number {
  let at = start;
  view.setBigUint64(at, BigInt(tensor.name.length), true);
  new Uint8Array(view.buffer).set(tensor.name, at + 8);
  at += 8 + tensor.name.length;
  view.setUint32(at, tensor.dimensions.length, true);
  at += 4;
  for (const dimension of tensor.dimensions) {
    view.setBigUint64(at, BigInt(dimension), true);
    at += 8;
  }
  view.setUint32(at, tensor.type, true);
  view.setBigUint64(at + 4, BigInt(tensor.offset), true);
  return at + 12;
}

/** Bytes to the next multiple of the alignment. */
export function padding(bytes: number, alignment: number): number {
  return (alignment - (bytes % alignment)) % alignment;
}
