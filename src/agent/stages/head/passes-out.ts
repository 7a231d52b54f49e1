/** Passes that the head's engine was given and has not given back, by tag: what bounds the next group (inference/pipeline/micro-batch.ts). */
import type { SequenceId } from "../../../domain/chain.ts";

interface PassOut {
  readonly sequence: SequenceId;
  /** Positions below it are the sequence's own once the engine has given the pass back. */
  readonly end: number;
  /** Null: the next token of a generating sequence. */
  readonly piecePositions: number | null;
}

/** Tags begin again behind this, so that they stay small integers. */
const TAG_MAX = 2 ** 30;

export class PassesOut {
  readonly #byTag = new Map<number, PassOut>();
  #tag = 0;
  singles = 0;
  piecePositions = 0;

  /** The tag for the pass. */
  add(pass: PassOut): number {
    this.#tag = (this.#tag + 1) % TAG_MAX;
    this.#byTag.set(this.#tag, pass);
    this.#count(pass, 1);
    return this.#tag;
  }

  /** The pass; null when the tag is not out. */
  back(tag: number): PassOut | null {
    const pass = this.#byTag.get(tag);
    if (pass === undefined) return null;
    this.#byTag.delete(tag);
    this.#count(pass, -1);
    return pass;
  }

  /** All of a sequence: they came back, or never will. */
  drop(sequence: SequenceId): void {
    for (const [tag, pass] of this.#byTag) if (pass.sequence === sequence) this.back(tag);
  }

  #count({ piecePositions }: PassOut, sign: 1 | -1): void {
    if (piecePositions === null) this.singles += sign;
    else this.piecePositions += sign * piecePositions;
  }
}
