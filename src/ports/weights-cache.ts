import type { Sha256Hex } from "../domain/ids.ts";
import type { LayerShare } from "../domain/weights.ts";

/** A node's weights, addressed by content. What was asked for is here and verified before `ensure` resolves. */
export interface WeightsCache {
  /**
   * Path of the (first) verified file, fetching what is missing; of a share what it needs is there, the rest reads as zeros. Rejects:
   * `weights-digest-mismatch`, `weights-manifest-refused`, `weights-unreachable`, `disk-full`.
   */
  ensure(want: WeightsWant, options: { signal: AbortSignal; onProgress: (doneBytes: number) => void }): Promise<string>;
  /** Bytes of what is wanted, as the model's manifest tells; where it is absent a share counts as the whole. Rejects as `ensure` does. */
  bytesOf?(want: WeightsWant, options: { signal: AbortSignal }): Promise<number>;
  /** What `ensure` told the path of is used no more: another agent on the machine may make room of it. */
  rest?(weightsSha256: Sha256Hex): void;
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
  /** That lie here. */
  readonly fileBytes: number;
  /** Of the whole model, where only a part of it is here and the size is known. */
  readonly totalBytes?: number;
}

export interface WeightsWant {
  readonly weightsSha256: Sha256Hex;
  /** Of the whole model. */
  readonly fileBytes: number;
  /** What of it: null, or absent, for the whole. */
  readonly layers?: LayerShare | null;
  /** Ahead of need: gives way to everything that somebody waits for. */
  readonly isIdle?: boolean;
  /** What the owner is shown it as; without it the start of the digest. */
  readonly label?: string;
}
