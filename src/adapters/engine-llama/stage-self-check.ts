/**
 * Whether a stage that was just loaded computes at all: two positions together and one alone go through it, as token ids or as
 * small hidden states, and what comes out must be there, be of the right width and be finite. Nothing of it stays.
 */
import type { DecodePart, StageDecoder } from "./stage-decoder.ts";
import { kvShapeOf } from "./stage-slots.ts";

const POSITIONS = 3;
/** Of the size of hidden states behind an embedding. */
const VALUE_MAX = 0.1;

export interface SelfCheck {
  /** What is wrong, or null. */
  readonly failure: string | null;
  /** Of the states of this stage, for those that come from elsewhere; null when they are of an unknown form. */
  readonly stateShape: string | null;
}

export function checkStage(decoder: StageDecoder): SelfCheck {
  const { loaded, share, embeddingLength } = decoder;
  const { hasEmbedding } = share;
  if (hasEmbedding && loaded.vocabulary.size < POSITIONS) {
    return { failure: `a vocabulary of ${loaded.vocabulary.size} tokens`, stateShape: null };
  }
  const tokenIds = hasEmbedding ? Int32Array.from({ length: POSITIONS }, (_, id) => id) : null;
  const hidden = hasEmbedding
    ? null
    : Float32Array.from({ length: POSITIONS * embeddingLength }, (_, at) => valueAt(at));
  const part: DecodePart = { slot: 0, start: 0, count: 2, tokenIds, hidden, offset: 0, rows: share.hasOutput ? 1 : 0 };
  const failure = outputFailure(decoder, part) ?? outputFailure(decoder, { ...part, start: 2, count: 1, offset: 2 });
  const stateShape = kvShapeOf(loaded);
  loaded.api.removeFrom(loaded.memory, 0, -1, -1);
  return { failure, stateShape };
}

function outputFailure(decoder: StageDecoder, part: DecodePart): string | null {
  decoder.decode([part]);
  const numbers = decoder.share.hasOutput ? decoder.logits()[0] : decoder.hidden();
  const what = decoder.share.hasOutput ? "logits" : "hidden states";
  if (numbers?.every(Number.isFinite) === true) return null;
  return `the stage's ${what} after ${part.count} positions from ${part.start} on hold NaN or infinity`;
}

function valueAt(index: number): number {
  return VALUE_MAX * Math.sin(index);
}
