/** The coordinator as a source of weights, seen from an agent: what nobody else can give. All bytes are untrusted until checked. */
import type { Sha256Hex } from "../domain/ids.ts";
import type { FileRange } from "../domain/weights.ts";

/** Rejects with `FallowError`: `weights-unreachable` (with `data.status` when refused for good), `link-unreachable`. */
export interface WeightsSource {
  /** The signed manifest as it came: at most `SIGNED_MANIFEST_BYTES_MAX`. */
  manifest(weightsSha256: Sha256Hex, options: SourceOptions): Promise<Uint8Array>;
  /** The chunks' digests, 32 bytes each; rejects when there are not as many. */
  digests(weightsSha256: Sha256Hex, chunkCount: number, options: SourceOptions): Promise<Uint8Array>;
  /** Yields the bytes of a range as they come, in order; ends early only by rejecting. */
  read(weightsSha256: Sha256Hex, range: FileRange, options: SourceOptions): AsyncIterable<Uint8Array>;
}

export interface SourceOptions {
  /** Bearer of the session with the coordinator. */
  readonly bearer: string;
  readonly signal: AbortSignal;
}

export const SIGNED_MANIFEST_BYTES_MAX = 8 * 1024 * 1024;
