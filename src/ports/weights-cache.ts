import type { Sha256Hex } from "../domain/ids.ts";
import type { LayerShare } from "../domain/weights.ts";

/** A node's files of weights, addressed by content. A file is complete and verified before `ensure` resolves. */
export interface WeightsCache {
  /** Path of the verified file, fetching what is missing. Rejects: `weights-digest-mismatch`, `weights-unreachable`, `disk-full`. */
  ensure(want: WeightsWant, options: { signal: AbortSignal; onProgress: (doneBytes: number) => void }): Promise<string>;
  has(weightsSha256: Sha256Hex): Promise<boolean>;
  /** Complete files, the one used longest ago first. */
  list(): Promise<readonly CachedWeights[]>;
  /** Files that came in part, with the bytes that are there; they are continued when they are wanted again. */
  listPartial(): Promise<readonly CachedWeights[]>;
  /** Deletes a file, and what there is of it in part; one that is not there is no fault. */
  remove(weightsSha256: Sha256Hex): Promise<void>;
  /** What its disk could still take, less a margin for everything else; null when it cannot be told. */
  freeBytes(): Promise<number | null>;
}

export interface CachedWeights {
  readonly weightsSha256: Sha256Hex;
  readonly fileBytes: number;
}

export interface WeightsWant {
  readonly weightsSha256: Sha256Hex;
  /** Of the whole model. */
  readonly fileBytes: number;
  /** What of it: null, or absent, for the whole. */
  readonly layers?: LayerShare | null;
  /** Ahead of need: gives way to everything that somebody waits for. */
  readonly isIdle?: boolean;
  /** Path below the coordinator's URL, and the bearer token of this session. */
  readonly path: string;
  readonly bearer: string;
}
