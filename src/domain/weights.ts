/**
 * A model's weights as content. Files are cut into chunks of one size; a chunk is the unit that is fetched, verified, shared and
 * kept. Chunks are counted through all files in their order: those of file 1 follow those of file 0, and the last chunk of each
 * file may be short. Which bytes a layer needs is told by parts, so that a node fetches the chunks of its layers only.
 */
import { assert } from "./assert.ts";
import { fromHex, toHex } from "./hex.ts";
import { type Sha256Hex, sha256Hex } from "./ids.ts";
import type { Sha256 } from "./merkle-tree.ts";

/** What the grid signs for each model; small, whatever the model's size: the chunks' digests are one blob beside it. */
export interface WeightsManifest {
  readonly version: 1;
  /** One file: its SHA-256. Several: the SHA-256 of their raw SHA-256 digests, concatenated in order. */
  readonly weightsSha256: Sha256Hex;
  /** A power of two, `CHUNK_BYTES_MIN` to `CHUNK_BYTES_MAX`. */
  readonly chunkBytes: number;
  /** In the order in which an engine loads them. */
  readonly files: readonly WeightsFile[];
  readonly layerCount: number;
  /** Which bytes hold what; together they cover every byte that an engine reads, and none twice. */
  readonly parts: readonly WeightsPart[];
  readonly source: WeightsOrigin;
  readonly licence: string | null;
  readonly tokenizerSha256: Sha256Hex;
}

export interface WeightsFile {
  /** Plain file name, no folders. */
  readonly name: string;
  readonly fileBytes: number;
  readonly sha256: Sha256Hex;
  /** Root of the Merkle tree (RFC 6962 hashing) over the SHA-256 digests of its chunks. */
  readonly chunkRoot: Sha256Hex;
}

/**
 * `header` is what every reader needs (magic, metadata, tensor infos), `tokenizer` lies inside it as metadata and is named for those who
 * need no more; `shared` are tensors that every stage needs (rope factors).
 */
export type WeightsPartKind = "header" | "embedding" | "output" | "shared" | "layer";
export interface WeightsPart {
  readonly kind: WeightsPartKind;
  /** Only of `layer`: 0 to layerCount - 1. */
  readonly layer?: number;
  /** Only of `embedding`: the model has no output matrix of its own, its last stage reads this part too. */
  readonly isOutputToo?: true;
  /** Ascending by file and offset. */
  readonly ranges: readonly FileRange[];
}

export interface FileRange {
  /** Index in `files`. */
  readonly file: number;
  readonly offset: number;
  readonly bytes: number;
}

/** Where the bytes came from first. */
export type WeightsOrigin =
  | { readonly kind: "hf"; readonly repo: string; readonly revision: string; readonly isPrivate: boolean }
  | { readonly kind: "https"; readonly url: string }
  | { readonly kind: "local" };

/** A stage's share of a model: layers [first, first + count), and the ends if it is an end. Null stands for the whole model. */
export interface LayerShare {
  readonly first: number;
  readonly count: number;
  readonly hasEmbedding: boolean;
  readonly hasOutput: boolean;
}

export const CHUNK_BYTES_MIN = 64 * 1024;
export const CHUNK_BYTES_MAX = 16 * 1024 * 1024;
/** What is cut when nothing else is said: small enough that a cut costs little, large enough that 400 GB are 100,000 digests. */
export const CHUNK_BYTES_DEFAULT = 1024 * 1024;
export const CHUNK_BYTES_LARGE = 4 * 1024 * 1024;
/** From here on chunks are `CHUNK_BYTES_LARGE`. */
export const LARGE_MODEL_BYTES = 64 * 1024 ** 3;
/** 16 TiB of 16 MiB chunks; also what 32 MiB of digests hold. */
export const CHUNKS_MAX = 1_048_576;
export const WEIGHTS_FILES_MAX = 512;
export const DIGEST_BYTES = 32;

export interface ChunkPlace {
  /** Index in `files`. */
  readonly file: number;
  readonly offset: number;
  readonly bytes: number;
}

export function chunksOfFile(fileBytes: number, chunkBytes: number): number {
  return Math.ceil(fileBytes / chunkBytes);
}

export function chunkCountOf({ files, chunkBytes }: Pick<WeightsManifest, "files" | "chunkBytes">): number {
  return files.reduce((sum, file) => sum + chunksOfFile(file.fileBytes, chunkBytes), 0);
}

export function totalBytesOf({ files }: Pick<WeightsManifest, "files">): number {
  return files.reduce((sum, file) => sum + file.fileBytes, 0);
}

/** A model's digest from those of its files, in order: of one file its own, of several the digest of their raw digests, concatenated. */
export function weightsSha256Of(fileSha256s: readonly Sha256Hex[], sha256: Sha256): Sha256Hex {
  const [first] = fileSha256s;
  assert(first !== undefined, "a model has a file");
  if (fileSha256s.length === 1) return first;
  const joined = new Uint8Array(fileSha256s.length * DIGEST_BYTES);
  for (const [index, hex] of fileSha256s.entries()) joined.set(fromHex(hex) ?? [], index * DIGEST_BYTES);
  return sha256Hex(toHex(sha256(joined)));
}

/** Where a chunk lies. The index is 0 to `chunkCountOf` - 1. */
export function chunkPlace(manifest: Pick<WeightsManifest, "files" | "chunkBytes">, chunk: number): ChunkPlace {
  const { files, chunkBytes } = manifest;
  let first = 0;
  for (const [file, { fileBytes }] of files.entries()) {
    const count = chunksOfFile(fileBytes, chunkBytes);
    if (chunk < first + count) {
      const offset = (chunk - first) * chunkBytes;
      return { file, offset, bytes: Math.min(chunkBytes, fileBytes - offset) };
    }
    first += count;
  }
  assert(false, `chunk ${chunk} is below the model's ${first}`);
}
