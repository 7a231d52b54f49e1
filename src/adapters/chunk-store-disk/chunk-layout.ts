/**
 * Where the chunks of a model lie in the store's folder. File names are made from the model's digest, never from what the manifest says, so
 * that no name can lead out of the folder; several files are named as llama.cpp names the parts of a split model, because the engine
 * opens the first and finds the others by their names.
 */
import { assert } from "../../domain/assert.ts";
import { ID_PATTERNS, type Sha256Hex } from "../../domain/ids.ts";
import {
  CHUNK_BYTES_MAX,
  CHUNK_BYTES_MIN,
  CHUNKS_MAX,
  type ChunkPlace,
  chunksOfFile,
  WEIGHTS_FILES_MAX,
  type WeightsManifest,
} from "../../domain/weights.ts";

/** What the store has to know of a model; it is kept at the head of the journal. */
export interface LayoutSizes {
  readonly chunkBytes: number;
  /** In order. */
  readonly fileBytes: readonly number[];
}

const PLAIN_NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/;

export class ChunkLayout implements LayoutSizes {
  readonly chunkBytes: number;
  readonly fileBytes: readonly number[];
  readonly fileNames: readonly string[];
  readonly chunkCount: number;
  readonly totalBytes: number;
  /** First chunk of each file. */
  readonly #firsts: readonly number[];

  constructor(weightsSha256: Sha256Hex, { chunkBytes, fileBytes }: LayoutSizes) {
    assert(areSizesValid({ chunkBytes, fileBytes }), "the manifest's sizes were checked where it came in");
    this.chunkBytes = chunkBytes;
    this.fileBytes = fileBytes;
    this.fileNames = fileNamesOf(weightsSha256, fileBytes.length);
    const firsts: number[] = [];
    let chunks = 0;
    for (const bytes of fileBytes) {
      firsts.push(chunks);
      chunks += chunksOfFile(bytes, chunkBytes);
    }
    this.#firsts = firsts;
    this.chunkCount = chunks;
    this.totalBytes = totalOf({ fileBytes });
  }

  place(chunk: number): ChunkPlace {
    assert(
      Number.isInteger(chunk) && chunk >= 0 && chunk < this.chunkCount,
      `chunk ${chunk} is one of ${this.chunkCount}`,
    );
    let low = 0;
    let high = this.#firsts.length - 1;
    while (low < high) {
      const middle = Math.ceil((low + high) / 2);
      if ((this.#firsts[middle] ?? 0) <= chunk) low = middle;
      else high = middle - 1;
    }
    const offset = (chunk - (this.#firsts[low] ?? 0)) * this.chunkBytes;
    return { file: low, offset, bytes: Math.min(this.chunkBytes, (this.fileBytes[low] ?? 0) - offset) };
  }

  /** First chunk of a file, and how many it has. */
  chunksOf(file: number): { readonly first: number; readonly count: number } {
    return { first: this.#firsts[file] ?? 0, count: chunksOfFile(this.fileBytes[file] ?? 0, this.chunkBytes) };
  }

  nameOf(file: number): string {
    const name = this.fileNames[file];
    assert(name !== undefined, `file ${file} is one of ${this.fileNames.length}`);
    return name;
  }
}

export function layoutOf({ weightsSha256, chunkBytes, files }: WeightsManifest): ChunkLayout {
  return new ChunkLayout(weightsSha256, { chunkBytes, fileBytes: files.map(({ fileBytes }) => fileBytes) });
}

export function totalOf({ fileBytes }: Pick<LayoutSizes, "fileBytes">): number {
  return fileBytes.reduce((sum, bytes) => sum + bytes, 0);
}

export function chunkCountOfSizes({ chunkBytes, fileBytes }: LayoutSizes): number {
  return fileBytes.reduce((sum, bytes) => sum + chunksOfFile(bytes, chunkBytes), 0);
}

/** Within the domain's bounds; a journal's head may say anything. */
export function areSizesValid({ chunkBytes, fileBytes }: LayoutSizes): boolean {
  return (
    Number.isInteger(Math.log2(chunkBytes)) &&
    chunkBytes >= CHUNK_BYTES_MIN &&
    chunkBytes <= CHUNK_BYTES_MAX &&
    fileBytes.length >= 1 &&
    fileBytes.length <= WEIGHTS_FILES_MAX &&
    fileBytes.every((bytes) => Number.isSafeInteger(bytes) && bytes > 0) &&
    chunkCountOfSizes({ chunkBytes, fileBytes }) <= CHUNKS_MAX
  );
}

function fileNamesOf(weightsSha256: Sha256Hex, count: number): readonly string[] {
  assert(ID_PATTERNS.sha256.test(weightsSha256), "a model is named by its digest");
  const digits = (value: number) => String(value).padStart(5, "0");
  const names = Array.from({ length: count }, (_, at) =>
    count === 1 ? `${weightsSha256}.gguf` : `${weightsSha256}-${digits(at + 1)}-of-${digits(count)}.gguf`,
  );
  for (const name of names) assert(PLAIN_NAME.test(name), `${name} is a plain file name`);
  return names;
}
