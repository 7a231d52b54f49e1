/**
 * How a stage file is made: pieces that lie one behind the other without a gap. Most are ranges of the model's own files, so that whoever writes
 * the stage needs no more memory than one read, and a sparse file that holds the chunks of the stage's share is enough to read from.
 */
import { assert } from "../domain/assert.ts";
import { FallowError } from "../domain/fault.ts";
import type { FileRange, LayerShare } from "../domain/weights.ts";
import type { ByteSource } from "./byte-source.ts";

export interface StagePlan {
  readonly architecture: string;
  readonly share: LayerShare;
  /**
   * Name of the tensor that holds the hidden states after the stage's last layer; also in the file, as `STAGE_OUTPUT_KEY`. Null for the last
   * stage, which gives logits.
   */
  readonly outputTensor: string | null;
  /** Null for most: see `STAGE_INPUT_KEY`, under which it is in the file too. */
  readonly inputTensor: string | null;
  /** Sum of the pieces. */
  readonly fileBytes: number;
  /** In the order in which they stand in the stage file. */
  readonly pieces: readonly StagePiece[];
}

export type StagePiece =
  | { readonly kind: "bytes"; readonly bytes: Uint8Array }
  /** Verbatim from the model's file of this index. */
  | ({ readonly kind: "copy" } & FileRange)
  /** A hole will do. */
  | { readonly kind: "zeros"; readonly bytes: number };

/** Metadata keys of ours in a stage file. The engine reads the first to know what to capture, the others tell what the file is. */
export const STAGE_OUTPUT_KEY = "fallow.stage.output_tensor";
/**
 * Only where the engine changes what it is given before its first layer (gemma scales it): the tensor that is to be overwritten with the hidden
 * states once it was computed. Not in a first stage.
 */
export const STAGE_INPUT_KEY = "fallow.stage.input_tensor";
export const STAGE_FIRST_KEY = "fallow.stage.first_layer";
export const STAGE_MODEL_LAYERS_KEY = "fallow.stage.model_layers";

/** Most bytes that `stageBytes` holds and gives at once. */
export const STAGE_READ_BYTES = 4 * 1024 * 1024;

export function pieceBytes(piece: StagePiece): number {
  return piece.kind === "bytes" ? piece.bytes.length : piece.bytes;
}

/** What the plan reads of the model's tensor data, in the order of the pieces. */
export function copiedRanges(plan: StagePlan): readonly FileRange[] {
  return plan.pieces.flatMap((piece) =>
    piece.kind === "copy" ? [{ file: piece.file, offset: piece.offset, bytes: piece.bytes }] : [],
  );
}

/**
 * The stage file from front to back, in pieces of at most `STAGE_READ_BYTES`. Zeros are given as bytes too; a writer that makes holes goes through
 * `plan.pieces` itself. Throws `weights-short` when a source ends too soon.
 */
export async function* stageBytes(plan: StagePlan, files: readonly ByteSource[]): AsyncGenerator<Uint8Array> {
  for (const piece of plan.pieces) {
    const length = pieceBytes(piece);
    for (let done = 0; done < length; done += STAGE_READ_BYTES) {
      const bytes = Math.min(STAGE_READ_BYTES, length - done);
      if (piece.kind === "bytes") yield piece.bytes.subarray(done, done + bytes);
      else if (piece.kind === "zeros") yield new Uint8Array(bytes);
      else yield await readExactly(files[piece.file], piece.offset + done, bytes);
    }
  }
}

async function readExactly(source: ByteSource | undefined, offset: number, bytes: number): Promise<Uint8Array> {
  assert(source !== undefined, "a plan names files of its own model only");
  const read = await source.read(offset, bytes);
  if (read.length !== bytes) {
    throw new FallowError(
      "weights-short",
      `the model's file gave ${read.length} of ${bytes} bytes from byte ${offset} on`,
    );
  }
  return read;
}
