import type { ModelId, Sha256Hex } from "../domain/ids.ts";

/**
 * Model files on the coordinator's machine: those that an operator names, and the ones kept in the home, by the digest of their
 * weights. Kept weights are one file or a split set, with the signed manifest and the chunks' digests beside them once these were made.
 */
export interface ModelFiles {
  /** Opens a file by its path. Rejects with a `FallowError`: `model-file-unreadable` (path, and why). */
  open(path: string): Promise<ModelFile>;
  /**
   * Makes the files part of the home under the digest (cloned where the file system allows it, else copied; complete or absent,
   * never half; later changes of the operator's files do not reach them) and resolves with their paths there, in the given order. Files
   * that are the home's already are moved. What is kept under the digest already stays. Rejects: `disk-full`, `model-file-unreadable`.
   */
  keep(files: readonly FileToKeep[], weightsSha256: Sha256Hex): Promise<readonly string[]>;
  /** Paths of the kept files in load order; null when nothing is kept under the digest. */
  kept(weightsSha256: Sha256Hex): Promise<readonly string[] | null>;
  /** Writes the manifest and the digests beside the kept files: both or none. */
  describe(weightsSha256: Sha256Hex, description: KeptDescription): Promise<void>;
  /** What nodes are given; null when the weights are not kept, or their manifest is not made yet. Small to call: digests are read anew. */
  content(weightsSha256: Sha256Hex): Promise<KeptContent | null>;
  /** Writes bytes that were checked into a kept file, and gives it the length that it should have. Rejects `disk-full`. */
  mend(path: string, patch: FilePatch): Promise<void>;
  /** Deletes the kept files with their manifest; resolves when there were none. */
  discard(weightsSha256: Sha256Hex): Promise<void>;
  /** The bundled models: id and path of each file that ships with the program. */
  bundled(): readonly { readonly modelId: ModelId; readonly path: string }[];
}

export interface FileToKeep {
  readonly path: string;
  /** Plain name that the file has in a set: an engine finds the others of a set by it. */
  readonly name: string;
  /** The file lies in the home and is nobody else's: moved, not copied. */
  readonly isOurs: boolean;
}

export interface FilePatch {
  readonly offset: number;
  readonly bytes: Uint8Array;
  /** The file's right length. */
  readonly fileBytes: number;
}

export interface KeptDescription {
  /** As `wire/weights-manifest.ts` writes it. */
  readonly signedManifest: Uint8Array;
  /** `DIGEST_BYTES` for each chunk, through all files in their order. */
  readonly digests: Uint8Array;
}

export interface KeptContent extends KeptDescription {
  /** Paths in the manifest's order. */
  readonly files: readonly string[];
}

/** An open file. `read` never returns fewer bytes than asked: past the end it rejects with `model-file-unreadable`. */
export interface ModelFile {
  readonly path: string;
  readonly fileBytes: number;
  read(offset: number, length: number): Promise<Uint8Array>;
  sha256(signal: AbortSignal): Promise<Sha256Hex>;
  /** One pass over the file: its digest and those of its chunks. `onBytes` is told how far it is. */
  digest(options: DigestOptions): Promise<FileDigests>;
  /** May be called twice. */
  close(): Promise<void>;
}

export interface DigestOptions {
  readonly chunkBytes: number;
  readonly signal: AbortSignal;
  readonly onBytes?: (doneBytes: number) => void;
}

export interface FileDigests {
  readonly sha256: Sha256Hex;
  /** `DIGEST_BYTES` for each chunk. */
  readonly chunkDigests: Uint8Array;
}
