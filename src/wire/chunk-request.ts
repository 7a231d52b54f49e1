/**
 * What one node asks another for over a peer link: one chunk of one model's weights, or a part of it, so that a fetch that was cut goes on
 * where it was. How long a chunk is follows from the manifest, which both ends have.
 *
 * | bytes | whole chunk (version 1)             | part of a chunk (version 2) |
 * | ----- | ----------------------------------- | --------------------------- |
 * | 1     | version                             | the same                    |
 * | 32    | SHA-256 of the weights              | the same                    |
 * | 4     | index of the chunk, big-endian      | the same                    |
 * | 4, 4  | –                                   | offset and length of the part |
 */
import { assert } from "../domain/assert.ts";
import { type Sha256Hex, sha256Hex } from "../domain/ids.ts";
import { CHUNK_BYTES_MAX, CHUNKS_MAX, DIGEST_BYTES } from "../domain/weights.ts";

export interface ChunkRequest {
  readonly weightsSha256: Sha256Hex;
  readonly chunk: number;
  /** Null: the whole chunk. */
  readonly part: ChunkPart | null;
}

export interface ChunkPart {
  readonly offset: number;
  /** At least 1. */
  readonly length: number;
}

const WHOLE_VERSION = 1;
const PART_VERSION = 2;
const INDEX_AT = 1 + DIGEST_BYTES;
const OFFSET_AT = INDEX_AT + 4;
const LENGTH_AT = OFFSET_AT + 4;
export const CHUNK_REQUEST_BYTES = OFFSET_AT;
export const PART_REQUEST_BYTES = LENGTH_AT + 4;

export function encodeChunkRequest({ weightsSha256, chunk, part }: ChunkRequest): Uint8Array {
  assert(Number.isSafeInteger(chunk) && chunk >= 0 && chunk < CHUNKS_MAX, `${chunk} is the index of a chunk`);
  const bytes = new Uint8Array(part === null ? CHUNK_REQUEST_BYTES : PART_REQUEST_BYTES);
  const view = new DataView(bytes.buffer);
  bytes[0] = part === null ? WHOLE_VERSION : PART_VERSION;
  for (let at = 0; at < DIGEST_BYTES; at++)
    bytes[1 + at] = Number.parseInt(weightsSha256.slice(at * 2, at * 2 + 2), 16);
  view.setUint32(INDEX_AT, chunk);
  if (part === null) return bytes;
  assert(isPart(part), `${part.length} bytes from ${part.offset} lie in a chunk`);
  view.setUint32(OFFSET_AT, part.offset);
  view.setUint32(LENGTH_AT, part.length);
  return bytes;
}

/** Null when it is no such request. Whether there is such a chunk, and such a part of it, is for the holder to say. */
export function decodeChunkRequest(bytes: Uint8Array): ChunkRequest | null {
  const isWhole = bytes.length === CHUNK_REQUEST_BYTES && bytes[0] === WHOLE_VERSION;
  if (!isWhole && (bytes.length !== PART_REQUEST_BYTES || bytes[0] !== PART_VERSION)) return null;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const chunk = view.getUint32(INDEX_AT);
  if (chunk >= CHUNKS_MAX) return null;
  const part = isWhole ? null : { offset: view.getUint32(OFFSET_AT), length: view.getUint32(LENGTH_AT) };
  if (part !== null && !isPart(part)) return null;
  let digest = "";
  for (const byte of bytes.subarray(1, INDEX_AT)) digest += byte.toString(16).padStart(2, "0");
  return { weightsSha256: sha256Hex(digest), chunk, part };
}

function isPart({ offset, length }: ChunkPart): boolean {
  return offset >= 0 && length >= 1 && offset + length <= CHUNK_BYTES_MAX;
}
