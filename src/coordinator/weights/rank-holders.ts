/**
 * In which order holders are named to a node: near, idle and useful ones first. The distance weighs as time, load multiplies it (a holder that
 * uploads all it can is worth a quarter), and who has little of what is needed comes late. Ties, and near ties of one LAN, fall differently
 * for each asker, so that a crowd does not run to one holder.
 */
import type { NodeId } from "../../domain/ids.ts";

export interface HolderCandidate {
  readonly nodeId: NodeId;
  /** Measured or estimated round trip between the two. */
  readonly rttMs: number;
  readonly uploads: number;
  /** At least 1. */
  readonly uploadsMax: number;
  /** Chunks that it has of those that are needed; at least 1. */
  readonly useful: number;
}

/** Below this a round trip makes no difference to a chunk. */
const RTT_FLOOR_MS = 5;
const LOAD_WEIGHT = 3;
/** A holder of less than this share of what is needed counts as if it had so much: first chunks are the rarest. */
const USEFUL_SHARE_MIN = 0.05;
/** How far two scores may be apart to fall either way. */
const TIE_SHARE = 0.25;

/** Best first. */
export function rankHolders(
  asker: NodeId,
  needed: number,
  candidates: readonly HolderCandidate[],
): readonly HolderCandidate[] {
  const scored = candidates.map((candidate) => {
    const { rttMs, uploads, uploadsMax, useful } = candidate;
    const load = Math.min(1, uploads / Math.max(1, uploadsMax));
    const share = Math.max(USEFUL_SHARE_MIN, useful / Math.max(1, needed));
    const costMs = ((rttMs + RTT_FLOOR_MS) * (1 + LOAD_WEIGHT * load)) / share;
    return { candidate, costMs: costMs * (1 + TIE_SHARE * draw(asker, candidate.nodeId)) };
  });
  scored.sort((a, b) => a.costMs - b.costMs || (a.candidate.nodeId < b.candidate.nodeId ? -1 : 1));
  return scored.map(({ candidate }) => candidate);
}

/** 0 to 1, the same for the same pair (FNV-1a). */
function draw(asker: NodeId, holder: NodeId): number {
  let hash = 0x811c9dc5;
  for (const text of [asker, holder]) {
    for (let at = 0; at < text.length; at++) hash = Math.imul(hash ^ text.charCodeAt(at), 0x01000193);
  }
  return (hash >>> 0) / 0x1_0000_0000;
}
