/**
 * Which of the passes that could go are given to the first stage's engine, at any moment. Passes that wait there together share decodes, so what goes
 * in decides what runs together through the whole chain. With as many groups as stages, each stage has one to work on while the others have theirs:
 * hence at most ceil(active / stages) generating sequences lie in the first engine at a time. What is ready goes at once, up to that; nothing waits
 * for a group to fill. A chain bound by its round trips never meets the limit but when many answers begin together.
 *
 * Pieces of prompts go oldest prompt first, at most two pieces ahead of the engine, so that a generating sequence's token is never behind more, and not
 * into the link's last free place while others generate and a piece is on its way.
 */

export interface ReadyWork {
  /** Generating sequences, of those that run, the ready ones included. */
  readonly generating: number;
  readonly stages: number;
  /** Passes of generating sequences that the engine has not given back. */
  readonly singlesOut: number;
  /** Positions of prompts that the engine has not given back. */
  readonly piecePositionsOut: number;
  /** Passes that may go now. */
  readonly room: number;
  /** Generating sequences whose next token may go. */
  readonly singlesReady: number;
  /** A prompt has a piece that may go. */
  readonly hasPiece: boolean;
  /** The largest piece. */
  readonly piecePositionsMax: number;
}

/** Pieces that are with the engine while it works on the first: the second keeps it from waiting. */
const PIECES_AHEAD = 2;

/** What goes next; asked again after each pass that went. */
export function nextKind(work: ReadyWork): "single" | "piece" | "nothing" {
  if (work.room < 1) return "nothing";
  const groupMax = Math.max(1, Math.ceil(work.generating / work.stages));
  if (work.singlesReady > 0 && work.singlesOut < groupMax) return "single";
  if (!work.hasPiece || (work.generating > 0 && work.room < 2 && work.piecePositionsOut > 0)) return "nothing";
  return work.piecePositionsOut > (PIECES_AHEAD - 1) * work.piecePositionsMax ? "nothing" : "piece";
}

/** A sequence that has positions to be fed before it generates. */
export interface FeedingWork {
  /** It ran before, and somebody waits for its next token. */
  readonly isMoved: boolean;
  /** Its prompt is in: what is left was generated, and goes one position at a time. */
  readonly isReplay: boolean;
  /** That the engine has not given back. */
  readonly positionsOut: number;
  /** Of arrival. */
  readonly order: number;
}

/**
 * Whose positions go next: what ran before comes before what is new, a prompt before generated tokens, the older prompt before the younger. Generated
 * tokens of several sequences go side by side, since single positions share a decode: one sequence after the other would take a decode for each.
 */
export function feedsBefore(a: FeedingWork, b: FeedingWork): number {
  if (a.isMoved !== b.isMoved) return a.isMoved ? -1 : 1;
  if (a.isReplay !== b.isReplay) return a.isReplay ? 1 : -1;
  return (a.isReplay ? a.positionsOut - b.positionsOut : 0) || a.order - b.order;
}
