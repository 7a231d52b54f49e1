/**
 * How likely a draft's token is what the chain will draw, by where the draft came from: looked up after a short or a long run of equal tokens, or by
 * the draft model. Each sequence keeps its own counts, whose past fades fast, over those of all sequences, which fade slowly, over a guess. Whether
 * the first token of a draft came true says much of the second's chance: tokens behind the first wrong one were never tried and are not counted.
 */

/** Looked up after 2, 3, 4 to 7, 8 to 15, and 16 or more equal tokens; by the model. */
export const DRAFT_KINDS = ["run-2", "run-3", "run-4", "run-8", "run-16", "model"] as const;
export type DraftKind = (typeof DRAFT_KINDS)[number];

/** Before anything is known; measured on the tiny model's text (docs/speculation.md), where two equal tokens say little. */
const GUESS: Readonly<Record<DraftKind, number>> = {
  "run-2": 0.25,
  "run-3": 0.45,
  "run-4": 0.5,
  "run-8": 0.8,
  "run-16": 0.95,
  model: 0.6,
};
/** Tokens that the guess weighs, in the counts of all sequences; and those counts, in a sequence's own. */
const GUESS_TOKENS = 8;
const SHARED_TOKENS = 4;
/** Share of the past that a pass leaves. */
const OWN_FADE = 0.85;
const SHARED_FADE = 0.99;
/** Nothing is surer than this: one wrong guess in a hundred must not surprise. */
const RATE_MAX = 0.985;

export function lookupKind(runLength: number): DraftKind {
  if (runLength >= 16) return "run-16";
  if (runLength >= 8) return "run-8";
  if (runLength >= 4) return "run-4";
  return runLength === 3 ? "run-3" : "run-2";
}

/** Of drafts that were verified: tokens that came true, and tokens that were tried (those and the first wrong one). */
export interface DraftOutcome {
  readonly accepted: number;
  readonly tried: number;
}

export class AcceptanceRates {
  readonly #counts = new Map<DraftKind, { accepted: number; tried: number }>();
  readonly #parent: AcceptanceRates | null;

  /** Without a parent: those of all sequences. */
  constructor(parent: AcceptanceRates | null) {
    this.#parent = parent;
  }

  /** Chance that a token comes true whose predecessors in the draft did. */
  rate(kind: DraftKind): number {
    const counts = this.#counts.get(kind) ?? { accepted: 0, tried: 0 };
    const base = this.#parent === null ? GUESS[kind] : this.#parent.rate(kind);
    const weight = this.#parent === null ? GUESS_TOKENS : SHARED_TOKENS;
    return Math.min(RATE_MAX, (counts.accepted + base * weight) / (counts.tried + weight));
  }

  note(kind: DraftKind, { accepted, tried }: DraftOutcome): void {
    const fade = this.#parent === null ? SHARED_FADE : OWN_FADE;
    const before = this.#counts.get(kind) ?? { accepted: 0, tried: 0 };
    this.#counts.set(kind, { accepted: before.accepted * fade + accepted, tried: before.tried * fade + tried });
    this.#parent?.note(kind, { accepted, tried });
  }
}
