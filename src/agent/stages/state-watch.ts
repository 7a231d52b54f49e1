/**
 * What a stage sees of the hidden states that it receives: the fingerprints that the coordinator may ask for (domain/state-fingerprint.ts), and states
 * that no model gives. A position of its own may be anything, so pieces are judged as a whole, and against what came before: a tenant who chooses
 * odd tokens must not get a stage blamed.
 *
 * | a piece of a prompt                                                                         | is                  |
 * | ------------------------------------------------------------------------------------------- | ------------------- |
 * | zeros alone                                                                                 | no work of a model  |
 * | half of its positions are 64 times larger, or smaller, than half of those of other sequences | no work of a model  |
 *
 * Nothing here sees NaN and infinity: the engine does.
 */
import type { SequenceId } from "../../domain/chain.ts";
import type { StateFingerprint } from "../../domain/state-fingerprint.ts";
import { areAllZero, fingerprintOf, sizesOf, type TravellingStates } from "../../inference/pipeline/state-look.ts";
import type { WireProblem } from "./stage-wire.ts";

/** As many as run at a time, and some more: the coordinator asks right after a probe. About 2 KiB each. */
const FINGERPRINTS_MAX = 128;
/** A shorter piece is not judged by its size: single positions of honest models are up to a hundred times larger than others. */
const JUDGED_POSITIONS_MIN = 8;
/** Of a piece, evenly spread. */
const SIZES_MAX = 16;
const SIZE_RATIO_MAX = 64;
/** So many sequences, each with its first piece, tell what is usual; the last ones. */
const USUAL_MIN = 4;
const USUAL_MAX = 32;

export interface ReceivedPiece extends TravellingStates {
  readonly sequence: SequenceId;
  readonly start: number;
  readonly promptLength: number;
}

export class StateWatch {
  /** The oldest comes first. */
  readonly #fingerprints = new Map<SequenceId, StateFingerprint>();
  #usual: readonly { readonly sequence: SequenceId; readonly size: number }[] = [];

  /** Null where it can be the work of this model. */
  look(piece: ReceivedPiece): WireProblem | null {
    const { sequence, start, positions, promptLength } = piece;
    if (positions > 1 && areAllZero(piece)) return garbage(`${positions} positions of ${sequence} are all zeros`);
    if (start + positions > promptLength) return null;
    if (start === 0 && positions > 1) this.#remember(sequence, fingerprintOf(piece));
    return positions < JUDGED_POSITIONS_MIN ? null : this.#judgeSize(piece);
  }

  /** Of the positions with which its prompt began here; null when it is not known (any more). */
  fingerprint(sequence: SequenceId): StateFingerprint | null {
    return this.#fingerprints.get(sequence) ?? null;
  }

  #judgeSize(piece: ReceivedPiece): WireProblem | null {
    const { sequence } = piece;
    const size = medianOf(sizesOf(piece, SIZES_MAX));
    if (!Number.isFinite(size)) return null;
    const others = this.#usual.filter((one) => one.sequence !== sequence);
    const usual = medianOf(others.map((one) => one.size));
    const isKnown = others.length >= USUAL_MIN && usual > 0;
    if (isKnown && (size > usual * SIZE_RATIO_MAX || size < usual / SIZE_RATIO_MAX)) {
      return garbage(
        `states of ${sequence} have a mean size of ${size.toPrecision(3)}, ${usual.toPrecision(3)} is usual`,
      );
    }
    if (others.length === this.#usual.length) this.#usual = [...others, { sequence, size }].slice(-USUAL_MAX);
    return null;
  }

  #remember(sequence: SequenceId, fingerprint: StateFingerprint | null): void {
    if (fingerprint === null) return;
    this.#fingerprints.delete(sequence);
    this.#fingerprints.set(sequence, fingerprint);
    const [oldest] = this.#fingerprints.keys();
    if (this.#fingerprints.size > FINGERPRINTS_MAX && oldest !== undefined) this.#fingerprints.delete(oldest);
  }
}

function garbage(message: string): WireProblem {
  return { code: "states-impossible", message, kind: "stage-garbage" };
}

function medianOf(numbers: readonly number[]): number {
  const sorted = [...numbers].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? 0;
}
