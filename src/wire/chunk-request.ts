/**
 * What one node asks another for over a peer link: one chunk of one model's weights. 37 bytes: version, SHA-256 of the weights, index of
 * the chunk as big-endian u32. How long the answer is follows from the manifest, which both ends have.
 */
import { assert } from "../domain/assert.ts";
import { type Sha256Hex, sha256Hex } from "../domain/ids.ts";
import { CHUNKS_MAX, DIGEST_BYTES } from "../domain/weights.ts";

export interface ChunkRequest {
  readonly weightsSha256: Sha256Hex;
  readonly chunk: number;
}

const VERSION = 1;
const INDEX_AT = 1 + DIGEST_BYTES;
export const CHUNK_REQUEST_BYTES = INDEX_AT + 4;

export function encodeChunkRequest({ weightsSha256, chunk }: ChunkRequest): Uint8Array {
  assert(Number.isSafeInteger(chunk) && chunk >= 0 && chunk < CHUNKS_MAX, `${chunk} is the index of a chunk`);
  const bytes = new Uint8Array(CHUNK_REQUEST_BYTES);
  bytes[0] = VERSION;
  for (let at = 0; at < DIGEST_BYTES; at++)
    bytes[1 + at] = Number.parseInt(weightsSha256.slice(at * 2, at * 2 + 2), 16);
  new DataView(bytes.buffer).setUint32(INDEX_AT, chunk);
  return bytes;
}

/** Null when it is no such request. Whether there is such a chunk is for the holder to say. */
export function decodeChunkRequest(bytes: Uint8Array): ChunkRequest | null {
  if (bytes.length !== CHUNK_REQUEST_BYTES || bytes[0] !== VERSION) return null;
  const chunk = new DataView(bytes.buffer, bytes.byteOffset, bytes.length).getUint32(INDEX_AT);
  if (chunk >= CHUNKS_MAX) return null;
  let digest = "";
  for (const byte of bytes.subarray(1, INDEX_AT)) digest += byte.toString(16).padStart(2, "0");
  return { weightsSha256: sha256Hex(digest), chunk };
}
