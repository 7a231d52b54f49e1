/** Tensor infos: each is checked by itself when read, and all against the file and each other once the data's start is known. */
import type { GgufCursor } from "./gguf-cursor.ts";
import type { GgufTensor } from "./gguf-header.ts";
import { GgufProblem } from "./gguf-refusal.ts";
import { readString } from "./gguf-values.ts";
import { tensorTypeOf } from "./tensor-types.ts";

/** ggml's GGML_MAX_NAME, less the zero at the end. */
const NAME_BYTES_MAX = 63;
const DIMENSIONS_MAX = 4;

export interface TensorInfo {
  readonly name: string;
  readonly dimensions: readonly number[];
  readonly type: number;
  /** From the start of tensor data. */
  readonly relativeOffset: bigint;
  readonly sizeBytes: number;
}

export async function readTensorInfo(cursor: GgufCursor, index: number): Promise<TensorInfo> {
  const name = await readString(cursor, { what: `the name of tensor ${index}`, bytesMax: NAME_BYTES_MAX });
  await cursor.need(4, `tensor ${name}`);
  const dimensionCount = cursor.u32();
  if (name === "" || dimensionCount < 1 || dimensionCount > DIMENSIONS_MAX) {
    throw new GgufProblem(
      "bad-tensor",
      `tensor ${index} "${name}" has ${dimensionCount} dimensions, not 1 to ${DIMENSIONS_MAX}`,
    );
  }
  await cursor.need(8 * dimensionCount + 12, `tensor ${name}`);
  const dimensions: number[] = [];
  let values = 1;
  for (let at = 0; at < dimensionCount; at++) {
    const dimension = cursor.u64();
    values *= Number(dimension);
    if (dimension < 1n || !Number.isSafeInteger(values)) {
      throw new GgufProblem(
        "bad-tensor",
        `tensor ${name} has dimension ${at} of ${dimension}: it is positive and the product below 2^53`,
      );
    }
    dimensions.push(Number(dimension));
  }
  const type = cursor.u32();
  const relativeOffset = cursor.u64();
  return { name, dimensions, type, relativeOffset, sizeBytes: sizeOf({ name, dimensions, type, values }) };
}

function sizeOf(tensor: { name: string; dimensions: readonly number[]; type: number; values: number }): number {
  const type = tensorTypeOf(tensor.type);
  if (type === null) throw new GgufProblem("bad-tensor", `tensor ${tensor.name} has the unknown type ${tensor.type}`);
  const row = tensor.dimensions[0] ?? 0;
  if (row % type.blockValues !== 0) {
    const message = `tensor ${tensor.name} has rows of ${row} values; ${type.name} needs a multiple of ${type.blockValues}`;
    throw new GgufProblem("bad-tensor", message);
  }
  const bytes = (tensor.values / type.blockValues) * type.blockBytes;
  if (!Number.isSafeInteger(bytes)) throw new GgufProblem("bad-tensor", `tensor ${tensor.name} has ${bytes} bytes`);
  return bytes;
}

/** Gives each tensor its place in the file, in the order of the header. */
export function placeTensors(
  infos: readonly TensorInfo[],
  file: { readonly alignment: number; readonly dataOffset: number; readonly fileBytes: number },
): readonly GgufTensor[] {
  const names = new Set<string>();
  const tensors = infos.map((info) => {
    if (names.has(info.name)) throw new GgufProblem("duplicate", `the tensor ${info.name} stands twice`);
    names.add(info.name);
    if (info.relativeOffset % BigInt(file.alignment) !== 0n) {
      const message = `tensor ${info.name} begins at ${info.relativeOffset}, not at a multiple of ${file.alignment}`;
      throw new GgufProblem("bad-tensor", message);
    }
    const end = BigInt(file.dataOffset) + info.relativeOffset + BigInt(info.sizeBytes);
    if (end > BigInt(file.fileBytes)) {
      throw new GgufProblem("truncated", `tensor ${info.name} ends at byte ${end}, the file has ${file.fileBytes}`);
    }
    const { name, dimensions, type, sizeBytes } = info;
    return { name, dimensions, type, sizeBytes, offset: file.dataOffset + Number(info.relativeOffset) };
  });
  refuseOverlap(tensors);
  return tensors;
}

function refuseOverlap(tensors: readonly GgufTensor[]): void {
  const byOffset = [...tensors].sort((a, b) => a.offset - b.offset || (a.name < b.name ? -1 : 1));
  let previous: GgufTensor | null = null;
  for (const tensor of byOffset) {
    if (previous !== null && tensor.offset < previous.offset + previous.sizeBytes) {
      throw new GgufProblem(
        "bad-tensor",
        `tensors ${previous.name} and ${tensor.name} overlap at byte ${tensor.offset}`,
      );
    }
    previous = tensor;
  }
}
