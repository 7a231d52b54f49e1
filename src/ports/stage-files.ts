/** GGUFs of stages on this node's disk: cut from a model's files, of which just the chunks of the share need be there. */
import type { Sha256Hex } from "../domain/ids.ts";
import type { LayerShare } from "../domain/weights.ts";

export interface StageFiles {
  /**
   * Path of the stage's own file, made when it is not there whole. Nobody deletes it before as many calls of `rest`. Rejects `stage-refused` (the model
   * cannot be split so), `weights-short`, `disk-full`, or as the disk does.
   */
  ensure(want: StageFileWant, options: { readonly signal: AbortSignal }): Promise<string>;
  /** Whoever asked for it needs it no more. It stays for the next one, as long as there is room. */
  rest(want: Pick<StageFileWant, "weightsSha256" | "share">): void;
}

export interface StageFileWant {
  readonly weightsSha256: Sha256Hex;
  /** Of the model's (first) file. */
  readonly weightsPath: string;
  readonly share: LayerShare;
}
