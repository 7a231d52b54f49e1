/** The manifest of a model whose files were read and hashed: what the grid then signs (`wire/weights-manifest.ts`). */
import { assert } from "../domain/assert.ts";
import type { Sha256Hex } from "../domain/ids.ts";
import type { Sha256 } from "../domain/merkle-tree.ts";
import {
  CHUNK_BYTES_DEFAULT,
  CHUNK_BYTES_LARGE,
  CHUNK_BYTES_MAX,
  CHUNKS_MAX,
  chunksOfFile,
  DIGEST_BYTES,
  LARGE_MODEL_BYTES,
  type WeightsManifest,
  type WeightsOrigin,
  weightsSha256Of,
} from "../domain/weights.ts";
import { chunkRootOf } from "./chunk-digests.ts";
import type { GgufHeader } from "./gguf-header.ts";
import { weightsParts } from "./weights-parts.ts";

export interface HashedFile {
  readonly name: string;
  readonly sha256: Sha256Hex;
  /** 32 bytes for each chunk of `chunkBytes` (`ChunkDigester`). */
  readonly digests: Uint8Array;
  readonly header: GgufHeader;
}

/** How large chunks are when nothing else is said; null when the files are more than `CHUNKS_MAX` of the largest chunks. */
export function chunkBytesFor(fileBytes: readonly number[]): number | null {
  const total = fileBytes.reduce((sum, bytes) => sum + bytes, 0);
  let chunkBytes = total >= LARGE_MODEL_BYTES ? CHUNK_BYTES_LARGE : CHUNK_BYTES_DEFAULT;
  const countOf = (size: number): number => fileBytes.reduce((sum, bytes) => sum + chunksOfFile(bytes, size), 0);
  while (chunkBytes <= CHUNK_BYTES_MAX && countOf(chunkBytes) > CHUNKS_MAX) chunkBytes *= 2;
  return chunkBytes <= CHUNK_BYTES_MAX ? chunkBytes : null;
}

export function buildManifest(
  model: {
    readonly files: readonly HashedFile[];
    readonly chunkBytes: number;
    readonly layerCount: number;
    readonly source: WeightsOrigin;
    readonly licence: string | null;
    readonly tokenizerSha256: Sha256Hex;
  },
  sha256: Sha256,
): WeightsManifest {
  const { files, chunkBytes, layerCount, source, licence, tokenizerSha256 } = model;
  return {
    version: 1,
    weightsSha256: weightsSha256Of(
      files.map((file) => file.sha256),
      sha256,
    ),
    chunkBytes,
    files: files.map(({ name, sha256: fileSha256, digests, header: { fileBytes } }) => {
      const count = chunksOfFile(fileBytes, chunkBytes);
      assert(digests.length === count * DIGEST_BYTES, `${name} of ${fileBytes} bytes has ${count} digests`);
      return { name, fileBytes, sha256: fileSha256, chunkRoot: chunkRootOf(digests, sha256) };
    }),
    layerCount,
    parts: weightsParts(
      files.map((file) => file.header),
      layerCount,
    ),
    source,
    licence,
    tokenizerSha256,
  };
}
