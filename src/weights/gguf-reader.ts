/**
 * Reads the header of a GGUF file that nobody vouches for. Native parsers abort the process on some of what can stand in
 * such a file; here everything is refused with the field, the value and what would be right, within stated bounds of
 * memory. Tensor data is not read: that every tensor lies inside the file, apart from the others, is.
 */
import { no, type Outcome, ok } from "../domain/refusal.ts";
import type { ByteSource } from "./byte-source.ts";
import { GgufCursor } from "./gguf-cursor.ts";
import type { GgufEntry, GgufHeader, GgufTensor } from "./gguf-header.ts";
import { GgufProblem, type GgufRefusal } from "./gguf-refusal.ts";
import { placeTensors, readTensorInfo } from "./gguf-tensors.ts";
import { readString, readValue } from "./gguf-values.ts";

/** "GGUF", little-endian. */
const MAGIC = 0x46554747;
const VERSIONS = [2, 3];
/** Real files have below 100 keys. */
const ENTRIES_MAX = 65_536;
/** The largest mixtures of experts have some thousands. */
const TENSORS_MAX = 131_072;
const KEY_BYTES_MAX = 65_535;
const ALIGNMENT_DEFAULT = 32;
const ALIGNMENT_MAX = 65_536;
/** The least that an entry (key length, type, value) and a tensor can take: a count beyond file size over this is a lie. */
const ENTRY_BYTES_MIN = 13;
const TENSOR_BYTES_MIN = 32;

/** Rejects only when the source's `read` does. */
export async function readGgufHeader(source: ByteSource): Promise<Outcome<GgufHeader, GgufRefusal>> {
  try {
    return ok(await parseHeader(source));
  } catch (problem) {
    if (problem instanceof GgufProblem) return no(problem.refusal);
    throw problem;
  }
}

async function parseHeader(source: ByteSource): Promise<GgufHeader> {
  const cursor = new GgufCursor(source);
  await cursor.need(4, "the magic number");
  const magic = cursor.u32();
  if (magic !== MAGIC)
    throw new GgufProblem("not-gguf", `the file begins with 0x${magic.toString(16)}, not with "GGUF"`);
  await cursor.need(20, "the header");
  const version = cursor.u32();
  if (version !== 0 && (version & 0xffff) === 0) throw new GgufProblem("unsupported-version", "the file is big-endian");
  if (!VERSIONS.includes(version)) {
    throw new GgufProblem("unsupported-version", `GGUF version ${version} is not one of ${VERSIONS.join(", ")}`);
  }
  const limits = { fileBytes: source.sizeBytes };
  const tensorCount = boundedCount(cursor.u64(), {
    ...limits,
    what: "tensors",
    most: TENSORS_MAX,
    leastBytes: TENSOR_BYTES_MIN,
  });
  const entryCount = boundedCount(cursor.u64(), {
    ...limits,
    what: "metadata entries",
    most: ENTRIES_MAX,
    leastBytes: ENTRY_BYTES_MIN,
  });
  const entries = await readEntries(cursor, entryCount);
  const alignment = alignmentOf(entries);
  const infos = [];
  for (let index = 0; index < tensorCount; index++) infos.push(await readTensorInfo(cursor, index));
  const dataOffset = Math.ceil(cursor.position / alignment) * alignment;
  const tensors: readonly GgufTensor[] = placeTensors(infos, { alignment, dataOffset, fileBytes: source.sizeBytes });
  return { version, alignment, entries, tensors, dataOffset, fileBytes: source.sizeBytes };
}

async function readEntries(cursor: GgufCursor, count: number): Promise<ReadonlyMap<string, GgufEntry>> {
  const entries = new Map<string, GgufEntry>();
  for (let index = 0; index < count; index++) {
    const key = await readString(cursor, { what: `the key of entry ${index}`, bytesMax: KEY_BYTES_MAX });
    if (key === "") throw new GgufProblem("malformed", `entry ${index} has an empty key`);
    if (entries.has(key)) throw new GgufProblem("duplicate", `the key ${JSON.stringify(key)} stands twice`);
    const start = cursor.position;
    const value = await readValue(cursor, key);
    entries.set(key, { key, value, bytes: cursor.copy(start, cursor.position) });
  }
  return entries;
}

function boundedCount(
  count: bigint,
  limit: { readonly what: string; readonly most: number; readonly fileBytes: number; readonly leastBytes: number },
): number {
  const fits = Math.min(limit.most, Math.floor(limit.fileBytes / limit.leastBytes));
  if (count > BigInt(fits)) {
    throw new GgufProblem("too-large", `${count} ${limit.what} are declared; a file of this size has at most ${fits}`);
  }
  return Number(count);
}

function alignmentOf(entries: ReadonlyMap<string, GgufEntry>): number {
  const value = entries.get("general.alignment")?.value;
  if (value === undefined) return ALIGNMENT_DEFAULT;
  const alignment = value.type === "uint32" ? Number(value.value) : Number.NaN;
  const isPowerOfTwo = alignment > 0 && (alignment & (alignment - 1)) === 0;
  if (!isPowerOfTwo || alignment > ALIGNMENT_MAX) {
    const shown = value.type === "array" ? "an array" : String(value.value);
    throw new GgufProblem(
      "bad-metadata",
      `general.alignment is ${shown}: it is a uint32 power of two up to ${ALIGNMENT_MAX}`,
    );
  }
  return alignment;
}
