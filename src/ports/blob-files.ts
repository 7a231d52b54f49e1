/** Bytes of tenants' files. What a file is called and whose it is, the store knows; this knows bytes by id only. */
import type { FileId } from "../domain/ids.ts";

export interface BlobWriter {
  /** Resolves when more may be written. Rejects with a FallowError: `disk-full`, `storage-failed`. */
  write(bytes: Uint8Array): Promise<void>;
  /** All is on the disk under its id; a file of that id is replaced, whole. Resolves with its length. */
  finish(): Promise<number>;
  /** Nothing of it stays. May be called after `finish`, and then does nothing. */
  discard(): Promise<void>;
}

export interface BlobFiles {
  create(fileId: FileId): Promise<BlobWriter>;
  /** Null when there is none. */
  open(fileId: FileId): Promise<BlobReader | null>;
  /** Does nothing when there is none. */
  remove(fileId: FileId): Promise<void>;
  /** What may still be written before the disk's headroom is touched; null when the system does not tell. */
  freeBytes(): Promise<number | null>;
  /** Removes what an earlier life began and did not finish. */
  sweep(): Promise<void>;
}

export interface BlobReader {
  readonly bytes: number;
  /** A range that is in the file. */
  read(offsetBytes: number, lengthBytes: number): Promise<Uint8Array>;
  close(): Promise<void>;
}
