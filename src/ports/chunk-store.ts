/**
 * A machine's store of weights, by chunks. Several agents may share the folder: one of them writes a model at a time, all read. What a
 * call has kept survives `kill -9`; after a power cut what cannot be trusted is verified again before use.
 */
import type { ChunkSet } from "../domain/chunk-set.ts";
import type { Sha256Hex } from "../domain/ids.ts";
import type { WeightsManifest } from "../domain/weights.ts";

export interface ChunkStore {
  /**
   * Opens a model's chunks for reading, making room for none yet. The digests are 32 bytes each, one per chunk, already checked against the
   * manifest's roots. What an earlier life left is verified here; `onVerified` tells how far.
   */
  open(
    content: StoredContent,
    options: { signal: AbortSignal; onVerified?: (bytes: number) => void },
  ): Promise<StoredWeights>;
  /** What lies beside a model's chunks, as it was once given to `open`, unchecked; null when there is none that can be read. */
  kept(weightsSha256: Sha256Hex): Promise<Pick<StoredContent, "digests" | "signedManifest"> | null>;
  /** The one used longest ago first. */
  list(): Promise<readonly StoredModel[]>;
  /**
   * Deletes all there is of a model; one that is not there is no fault. Rejects `weights-in-use` while it is open
   * here, and while another agent on the machine writes it, reads it or has told its path.
   */
  remove(weightsSha256: Sha256Hex): Promise<void>;
  /** What its disk could still take, less the headroom; null when it cannot be told. */
  freeBytes(): Promise<number | null>;
}

export interface StoredContent {
  readonly manifest: WeightsManifest;
  readonly digests: Uint8Array;
  /** The grid's signed text of the manifest, kept beside the chunks so that they can be served and used when the coordinator is away. */
  readonly signedManifest: Uint8Array;
}

export interface StoredModel {
  readonly weightsSha256: Sha256Hex;
  /** Of all files when whole. */
  readonly totalBytes: number;
  /** Verified once and on disk, as far as the journal tells. */
  readonly storedBytes: number;
  /** What its files really take: the holes of what came in part take nothing. */
  readonly onDiskBytes: number;
  readonly isWhole: boolean;
}

export interface StoredWeights {
  readonly content: StoredContent;
  /** Live: grows as chunks are kept, also by another agent when `refresh` is called. */
  readonly have: ChunkSet;
  /** Takes the right to write among all processes; resolves false while another holds it. Released by `close` and by the process's end. */
  tryLock(): Promise<boolean>;
  /** Gives the right to write up and goes on reading. Does nothing without it. */
  unlock(): Promise<void>;
  /** Looks again at what is on disk: another agent may have written. */
  refresh(): Promise<void>;
  /**
   * Keeps a chunk if its bytes have the digest of the manifest; `bad` otherwise, and nothing is kept. Needs the lock.
   * Rejects `disk-full` when the disk or its headroom does not take it. The first `savedBytes` the caller has from `part`, or gave to
   * `writePart`: these are not written again.
   */
  write(chunk: number, bytes: Uint8Array, savedBytes?: number): Promise<"kept" | "bad">;
  /**
   * What an earlier life, or an earlier try, left of a chunk that is not whole: bytes from its beginning, which nobody checked. Null when there are
   * none. Needs the lock, as `writePart` and `dropPart` do.
   */
  part(chunk: number): Promise<Uint8Array | null>;
  /**
   * Keeps bytes of a chunk that is on its way, so that a killed process goes on behind them: from its beginning, or where the part ends. One
   * at a time for a chunk; `write` ends it. Rejects `disk-full`.
   */
  writePart(chunk: number, offset: number, bytes: Uint8Array): Promise<void>;
  /** It is fetched from its beginning again. */
  dropPart(chunk: number): Promise<void>;
  /** Bytes of a chunk that is here. Rejects `chunk-damaged` (and forgets the chunk) when the disk cannot give them. */
  read(chunk: number, offset: number, length: number): Promise<Uint8Array>;
  /**
   * Path of the first file once all chunks are here, each verified in this process: what an engine opens. With `needed` those of a share
   * are enough; what is not here reads as zeros there. Rejects `weights-incomplete`.
   */
  path(needed?: ChunkSet, options?: { signal?: AbortSignal; onVerified?: (bytes: number) => void }): Promise<string>;
  /** What `path` told is used no more: until it is told again another agent on the machine may remove the model, and then its chunks are gone. */
  rest(): void;
  /** Reads every chunk that is here again, or those of a range; damaged ones are forgotten and told. */
  scrub(
    options: { signal: AbortSignal; onVerified?: (bytes: number) => void } & Partial<CheckedRange>,
  ): Promise<readonly number[]>;
  /** May be called twice. */
  close(): Promise<void>;
}

export interface CheckedRange {
  /** First chunk. */
  readonly from: number;
  readonly count: number;
}
