import type { ModelId, Sha256Hex } from "../domain/ids.ts";

/** Model files on the coordinator's machine: those that an operator names, and the ones kept in the home, by digest. */
export interface ModelFiles {
  /** Opens a file by its path. Rejects with a `FallowError`: `model-file-unreadable` (path, and why). */
  open(path: string): Promise<ModelFile>;
  /**
   * Makes the file part of the home under its digest (cloned where the file system allows it, else copied; complete or absent,
   * never half; later changes of the operator's file do not reach it) and resolves with its path there. Rejects: `disk-full`, `model-file-unreadable`.
   */
  keep(path: string, weightsSha256: Sha256Hex): Promise<string>;
  /** Deletes a kept file; resolves when there was none. */
  discard(weightsSha256: Sha256Hex): Promise<void>;
  /** The bundled models: id and path of each file that ships with the program. */
  bundled(): readonly { readonly modelId: ModelId; readonly path: string }[];
}

/** An open file. `read` never returns fewer bytes than asked: past the end it rejects with `model-file-unreadable`. */
export interface ModelFile {
  readonly path: string;
  readonly fileBytes: number;
  read(offset: number, length: number): Promise<Uint8Array>;
  sha256(signal: AbortSignal): Promise<Sha256Hex>;
  /** May be called twice. */
  close(): Promise<void>;
}
