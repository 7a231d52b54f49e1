import type { Sha256Hex } from "../domain/ids.ts";

/** A node's files of weights, addressed by content. A file is complete and verified before `ensure` resolves. */
export interface WeightsCache {
  /** Path of the verified file, fetching what is missing. Rejects: `weights-digest-mismatch`, `weights-unreachable`, `disk-full`. */
  ensure(want: WeightsWant, options: { signal: AbortSignal; onProgress: (doneBytes: number) => void }): Promise<string>;
  has(weightsSha256: Sha256Hex): Promise<boolean>;
}

export interface WeightsWant {
  readonly weightsSha256: Sha256Hex;
  readonly fileBytes: number;
  /** Path below the coordinator's URL, and the bearer token of this session. */
  readonly path: string;
  readonly bearer: string;
}
