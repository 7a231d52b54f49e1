/**
 * What one node may send over its link, as two token buckets: frames and characters. A node that floods is cut before its
 * frames are parsed, so that the coordinator stays quick for all others.
 */

/** A GPU node with 256 sequences at 50 tokens/s sends about 100 frames/s, because tokens of one step share a frame. */
export const FRAMES_PER_SECOND_MAX = 2_000;
export const FRAMES_BURST_MAX = 4_000;
/** JSON is read at some 100 MB/s: one node gets a part of a core, not all of it. Embeddings are the largest honest load. */
export const CHARS_PER_SECOND_MAX = 16 * 1024 * 1024;
/** Four frames of the largest size at once. */
export const CHARS_BURST_MAX = 64 * 1024 * 1024;

export interface FrameBudget {
  frames: number;
  chars: number;
  filledAtMs: number;
}

export function fullBudget(nowMs: number): FrameBudget {
  return { frames: FRAMES_BURST_MAX, chars: CHARS_BURST_MAX, filledAtMs: nowMs };
}

/** Takes one frame out of the budget, in place; false when it is spent. */
export function takeFrame(budget: FrameBudget, frame: { chars: number; nowMs: number }): boolean {
  const seconds = Math.max(0, frame.nowMs - budget.filledAtMs) / 1_000;
  budget.filledAtMs = Math.max(budget.filledAtMs, frame.nowMs);
  budget.frames = Math.min(FRAMES_BURST_MAX, budget.frames + seconds * FRAMES_PER_SECOND_MAX) - 1;
  budget.chars = Math.min(CHARS_BURST_MAX, budget.chars + seconds * CHARS_PER_SECOND_MAX) - frame.chars;
  return budget.frames >= 0 && budget.chars >= 0;
}
