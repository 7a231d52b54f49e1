/** Cuts a GGUF into a split set as llama.cpp's gguf-split does: the first file has all metadata, each tells its number, tensors stay in order. */
import { byteSourceOf } from "../../src/weights/byte-source.ts";
import type { GgufHeader, GgufTensor } from "../../src/weights/gguf-header.ts";
import { readGgufHeader } from "../../src/weights/gguf-reader.ts";
import { GgufBytes } from "./gguf-bytes.ts";

const ALIGNMENT = 32;
const UINT16 = 2;
const INT32 = 5;

/** The files' bytes in order, about alike in tensors. */
export async function splitModel(whole: Uint8Array, count: number): Promise<readonly Uint8Array[]> {
  const header = await readGgufHeader(byteSourceOf(whole));
  if (!header.ok) throw new Error(header.reason.message);
  const { tensors } = header.value;
  const share = Math.ceil(tensors.length / count);
  return Array.from({ length: count }, (_, number) =>
    fileOf(whole, header.value, { number, count, tensors: tensors.slice(number * share, (number + 1) * share) }),
  );
}

function fileOf(
  whole: Uint8Array,
  header: GgufHeader,
  part: { number: number; count: number; tensors: readonly GgufTensor[] },
): Uint8Array {
  const { number, count, tensors } = part;
  const metadata = number === 0 ? [...header.entries.values()] : [];
  const out = new GgufBytes()
    .magic(3)
    .u64(BigInt(tensors.length))
    .u64(BigInt(metadata.length + 3));
  for (const { key, bytes } of metadata) out.text(key).raw(bytes);
  out.text("split.no").u32(UINT16).raw(uint16(number));
  out.text("split.count").u32(UINT16).raw(uint16(count));
  out.text("split.tensors.count").u32(INT32).u32(header.tensors.length);
  let offset = 0;
  for (const { name, dimensions, type, sizeBytes } of tensors) {
    out.text(name).u32(dimensions.length);
    for (const dimension of dimensions) out.u64(BigInt(dimension));
    out.u32(type).u64(BigInt(offset));
    offset += sizeBytes + padding(sizeBytes);
  }
  out.raw(new Uint8Array(padding(out.done().length)));
  for (const tensor of tensors) {
    out.raw(whole.subarray(tensor.offset, tensor.offset + tensor.sizeBytes));
    out.raw(new Uint8Array(padding(tensor.sizeBytes)));
  }
  return out.done();
}

function uint16(value: number): Uint8Array {
  const bytes = Buffer.alloc(2);
  bytes.writeUInt16LE(value);
  return bytes;
}

function padding(bytes: number): number {
  return (ALIGNMENT - (bytes % ALIGNMENT)) % ALIGNMENT;
}
