/** A model of random bytes, cut into chunks, as a store of chunks takes it. */
import { createHash, randomBytes } from "node:crypto";
import { type Sha256Hex, sha256Hex } from "../../src/domain/ids.ts";
import { chunkCountOf, chunkPlace, type WeightsManifest } from "../../src/domain/weights.ts";
import type { StoredContent } from "../../src/ports/chunk-store.ts";

export interface ChunkedModel extends StoredContent {
  readonly weightsSha256: Sha256Hex;
  readonly files: readonly Buffer[];
  readonly chunkCount: number;
  chunk(index: number): Buffer;
}

export const KIB_64 = 64 * 1024;

/** The grid's signature and the roots are the business of those who call a store: it is given what was checked. */
export function chunkedModel(
  fileBytes: readonly number[],
  options: { chunkBytes?: number; from?: readonly Buffer[] } = {},
): ChunkedModel {
  const files = options.from ?? fileBytes.map((bytes) => randomBytes(bytes));
  const digestOf = (bytes: Uint8Array) => sha256Hex(createHash("sha256").update(bytes).digest("hex"));
  const raw = files.map((bytes) => createHash("sha256").update(bytes).digest());
  const [first] = files;
  const weightsSha256 = files.length === 1 && first !== undefined ? digestOf(first) : digestOf(Buffer.concat(raw));
  const manifest: WeightsManifest = {
    version: 1,
    weightsSha256,
    chunkBytes: options.chunkBytes ?? KIB_64,
    files: files.map((bytes, at) => ({
      name: `../part-${at}.gguf`,
      fileBytes: bytes.length,
      sha256: digestOf(bytes),
      chunkRoot: digestOf(Buffer.from(`root ${at}`)),
    })),
    layerCount: 1,
    parts: [],
    source: { kind: "local" },
    licence: null,
    tokenizerSha256: weightsSha256,
  };
  const chunkCount = chunkCountOf(manifest);
  const chunk = (index: number) => {
    const { file, offset, bytes } = chunkPlace(manifest, index);
    return files[file]?.subarray(offset, offset + bytes) ?? Buffer.alloc(0);
  };
  const digests = Buffer.concat(
    Array.from({ length: chunkCount }, (_, at) => createHash("sha256").update(chunk(at)).digest()),
  );
  const signedManifest = Buffer.from(JSON.stringify({ manifest, signature: "of the grid" }));
  return { manifest, digests, signedManifest, weightsSha256, files, chunkCount, chunk };
}
