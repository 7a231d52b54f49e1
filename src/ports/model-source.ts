/** Where models come from: the Hugging Face hub, https addresses, files and folders of the operator. */
import type { WeightsOrigin } from "../domain/weights.ts";

export interface ModelSources {
  /**
   * Reads what a reference names and lists its files: `hf:<owner>/<repo>[@revision][:<quantisation or file>]`, `https://…`, or a path.
   * Rejects with a `FallowError`: `model-source-invalid` (the reference), `model-source-unreachable`, `model-source-refused`
   * (status; what token or licence would help), `model-source-unsafe` (redirect to another host, private address, path outside).
   */
  resolve(reference: string, signal: AbortSignal, looking?: Looking): Promise<ResolvedSource>;
}

export interface Looking {
  /** Somebody waits for the answer and nothing came yet: what cannot be reached is given up sooner. */
  readonly isFirst?: boolean;
  /** It does not answer, and is tried again; a sentence for people. */
  onWait?(why: string): void;
}

export interface ResolvedSource {
  readonly origin: WeightsOrigin;
  /** The reference with everything that was chosen written out (commit, file): it names the same bytes tomorrow. */
  readonly pinned: string;
  /** What was chosen for the operator, in a sentence; null when he named it all. */
  readonly chosen: string | null;
  /** A good id for the model when the operator names none. */
  readonly suggestedId: string;
  readonly licence: string | null;
  /** In load order; all GGUF. */
  readonly files: readonly SourceFile[];
}

export interface SourceFile {
  /** Plain name. */
  readonly name: string;
  /** Null when the source does not tell. */
  readonly fileBytes: number | null;
  /** As the source claims; verified while it comes. */
  readonly sha256: string | null;
  /** Path when it lies on this machine already; it is read there, not fetched. */
  readonly localPath: string | null;
  /** Changes when the content does (an entity tag, a digest); null when nothing tells. Compared when a download goes on after a restart. */
  readonly version: string | null;
  /**
   * Yields bytes from `offset` on, over as many requests as it takes; rejects `model-source-changed` when it is another file than before.
   * `onWait` is told why nothing comes, before each pause.
   */
  read(offset: number, signal: AbortSignal, onWait?: (why: string) => void): AsyncIterable<Uint8Array>;
}
