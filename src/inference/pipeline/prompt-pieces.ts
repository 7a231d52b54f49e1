/**
 * Which positions of a sequence go into its next pass through a chain, before it generates. A prompt goes in pieces, so that later stages work on the
 * first while the first stage computes the next, and so that a single token never waits long behind one. The law of `batch-policy.ts` holds: what is
 * of the prompt is decoded two positions or more at a time, what was generated one at a time, also when it is computed again, however long that takes:
 * a bound in measured time would let a busy machine change texts. It takes no longer than it took at first, and the stages behind have theirs still, or
 * take them from the log as they were decoded.
 */
import { assert } from "../../domain/assert.ts";

/** A piece aims at this on the slowest stage, so that a token that comes behind it waits no longer. */
export const PIECE_TARGET_MS = 25;
/** Below this a piece's fixed costs (a frame, a decode) outweigh it. */
export const PIECE_POSITIONS_MIN = 32;
/** Above this a decode gains nothing, and the engine's buffers grow. */
export const PIECE_POSITIONS_MAX = 512;
/** A prompt is cut into so many pieces for each stage at least, so that stages are idle for a small share of it only. */
const PIECES_PER_STAGE = 3;
/** Hidden states of one pass, so that a frame is one small message of the link. */
export const FRAME_BYTES_MAX = 1024 * 1024;
/** Single tokens computed again in one pass, or in as many passes as there are sequences for. */
const REPLAY_POSITIONS_MAX = 32;
/** But so many of each at least: on a busy machine the way to the engine and back takes longer than they do. */
const REPLAY_POSITIONS_MIN = 8;

export interface PieceBounds {
  /** Of one pass, `together`; 3 at least, so that three positions never leave one over. */
  readonly positionsMax: number;
  /** Of one pass, `singly`. */
  readonly singlesMax: number;
  /** Of a pass for each sequence that is computed again: a step of the engine takes one position of every one. */
  readonly replaysMax: number;
}

export interface Piece {
  readonly start: number;
  readonly count: number;
  readonly how: "together" | "singly";
}

export function pieceBounds(chain: {
  readonly stages: number;
  readonly promptLength: number;
  readonly embeddingLength: number;
  readonly bytesPerElement: number;
  /** Of the slowest stage; null: not measured. */
  readonly promptMsPerPosition: number | null;
  readonly singleMs: number | null;
  /** Sequences whose generated tokens are computed again at the same time: each gives a small pass, and they share decodes. */
  readonly replays: number;
}): PieceBounds {
  const framePositions = Math.floor(FRAME_BYTES_MAX / (chain.embeddingLength * chain.bytesPerElement));
  assert(framePositions >= 3, `a frame of ${FRAME_BYTES_MAX} bytes holds three states of ${chain.embeddingLength}`);
  const affordable =
    chain.promptMsPerPosition === null
      ? PIECE_POSITIONS_MAX
      : Math.floor(PIECE_TARGET_MS / Math.max(chain.promptMsPerPosition, 1e-6));
  const streamed = Math.ceil(chain.promptLength / (PIECES_PER_STAGE * chain.stages));
  const positions = Math.max(PIECE_POSITIONS_MIN, Math.min(affordable, streamed, PIECE_POSITIONS_MAX));
  const singleMs = Math.max(chain.singleMs ?? 1, 0.25);
  const share = Math.ceil(REPLAY_POSITIONS_MAX / Math.max(1, chain.replays));
  const singles = Math.max(REPLAY_POSITIONS_MIN, Math.min(share, Math.floor(PIECE_TARGET_MS / singleMs)));
  const singlesMax = Math.min(singles, framePositions);
  return {
    positionsMax: Math.min(positions, framePositions),
    singlesMax,
    replaysMax: singlesMax * Math.max(1, chain.replays),
  };
}

/** The piece that begins at position `from` of `length`; it may begin one earlier, so that the prompt's last position is not alone. */
export function nextPiece(
  work: { readonly from: number; readonly promptLength: number; readonly length: number },
  bounds: Pick<PieceBounds, "positionsMax" | "singlesMax">,
): Piece {
  const { from, promptLength, length } = work;
  assert(from >= 0 && from < length && promptLength >= 1, `position ${from} is below ${length}`);
  if (from >= promptLength) return { start: from, count: Math.min(length - from, bounds.singlesMax), how: "singly" };
  const start = promptLength - from === 1 && promptLength > 1 ? from - 1 : from;
  return { start, count: togetherOf(promptLength - start, bounds.positionsMax), how: "together" };
}

/** Two positions at least, and never all but one of them. */
function togetherOf(pending: number, max: number): number {
  if (pending <= max) return pending;
  return pending - max === 1 ? max - 1 : max;
}
