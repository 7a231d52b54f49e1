/**
 * Which tokens the keys and values of a sequence were surely computed from, kept after it stopped running: drafts that did not come true lie there under
 * the sequence's name, too, and an answer that went on elsewhere and comes back must not take them for its own.
 */
import type { SequenceId } from "../../../domain/chain.ts";

export class FedTokens {
  readonly #bySequence = new Map<SequenceId, readonly number[]>();
  readonly #sequencesMax: number;

  /** Keeps so many sequences, the latest; an engine holds no more of them. */
  constructor(sequencesMax: number) {
    this.#sequencesMax = sequencesMax;
  }

  /** Positions behind `tokens` may hold anything. */
  keep(sequence: SequenceId, tokens: readonly number[]): void {
    this.#bySequence.delete(sequence);
    this.#bySequence.set(sequence, tokens);
    for (const oldest of this.#bySequence.keys()) {
      if (this.#bySequence.size <= this.#sequencesMax) break;
      this.#bySequence.delete(oldest);
    }
  }

  drop(sequence: SequenceId): void {
    this.#bySequence.delete(sequence);
  }

  /**
   * How many of the first `held` positions are of `tokens`. What was not fed here came with keys and values from another node, which hands over
   * confirmed positions only.
   */
  shared(sequence: SequenceId, tokens: readonly number[], held: number): number {
    const fed = this.#bySequence.get(sequence);
    const positions = Math.min(held, tokens.length, fed?.length ?? tokens.length);
    for (let at = 0; at < positions; at++) if (fed !== undefined && fed[at] !== tokens[at]) return at;
    return positions;
  }
}
