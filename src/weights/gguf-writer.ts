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
export function writeGguf(entries: readonly Pick<GgufEntry, "key" | "bytes">[]): Uint8Array {
  const encoder = new TextEncoder();
  const parts = entries.map(({ key, bytes }) => ({ key: encoder.encode(key), bytes }));
  const total = parts.reduce((sum, part) => sum + 8 + part.key.length + part.bytes.length, 24);
  const file = new Uint8Array(total);
  const view = new DataView(file.buffer);
  view.setUint32(0, MAGIC, true);
  view.setUint32(4, VERSION, true);
  view.setBigUint64(8, 0n, true);
  view.setBigUint64(16, BigInt(parts.length), true);
  let at = 24;
  for (const part of parts) {
    view.setBigUint64(at, BigInt(part.key.length), true);
    file.set(part.key, at + 8);
    file.set(part.bytes, at + 8 + part.key.length);
    at += 8 + part.key.length + part.bytes.length;
  }
  return file;
}
