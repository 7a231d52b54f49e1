/**
 * Which holders a node is sent to, the best first. Near before far and free before busy, both in one figure: the time until a chunk of
 * theirs would be there, were the way shared with those who fetch from them. A holder of the same network comes before all others.
 *
 * Who brings chunks ahead of need is sent to no holder that others wait for. The list is bounded; when its first 32 do not have all
 * that could be had, its last places go to those who have the rest.
 */
import type { ChunkSet } from "../../domain/chunk-set.ts";
import type { NodeId } from "../../domain/ids.ts";
import type { LinkEstimate } from "../network/link-table.ts";

/** `WIRE_BOUNDS.holdersMax`. */
export const RANKED_HOLDERS_MAX = 32;
/** Places that may be given to far holders of chunks that no near one has. */
const COVERAGE_PLACES = 8;
const CHUNK_BYTES = 1024 * 1024;
/** A way that is unknown is taken as this: between a LAN and the other side of the world. */
const UNKNOWN: Pick<LinkEstimate, "rttMs" | "bytesPerSecond"> = { rttMs: 80, bytesPerSecond: 4 * 1024 * 1024 };

export interface HolderCandidate {
  readonly nodeId: NodeId;
  readonly chunks: ChunkSet;
  /** The address prefix that the coordinator sees; null when unknown. */
  readonly network: string | null;
  /** From it to the node that asks; null when nothing is known. */
  readonly link: LinkEstimate | null;
  readonly uploads: number;
  /** 0: it serves nobody. */
  readonly uploadsMax: number;
  /** Somebody who waits fetches from it, or is about to. */
  readonly isWaitedFor: boolean;
}

export interface HolderQuestion {
  readonly nodeId: NodeId;
  readonly network: string | null;
  readonly need: ChunkSet;
  /** Ahead of need. */
  readonly isIdle: boolean;
}

/** At most `RANKED_HOLDERS_MAX`, each with at least one needed chunk. The order is total: equal figures go by id. */
export function rankHolders(question: HolderQuestion, candidates: readonly HolderCandidate[]): readonly NodeId[] {
  const useful = candidates.filter(
    (one) =>
      one.nodeId !== question.nodeId &&
      one.uploadsMax > 0 &&
      !(question.isIdle && (one.isWaitedFor || one.uploads >= one.uploadsMax)) &&
      one.chunks.intersects(question.need),
  );
  const ranked = useful
    .map((holder) => ({ holder, isNear: isSameNetwork(question, holder), seconds: secondsOf(holder) }))
    .sort(
      (a, b) =>
        Number(b.isNear) - Number(a.isNear) || a.seconds - b.seconds || (a.holder.nodeId < b.holder.nodeId ? -1 : 1),
    )
    .map(({ holder }) => holder);
  if (ranked.length <= RANKED_HOLDERS_MAX) return ranked.map(({ nodeId }) => nodeId);
  return covering(question.need, ranked).map(({ nodeId }) => nodeId);
}

/** Until one chunk is there, when the way is shared with the uploads that run; a full holder is asked after a place is free. */
function secondsOf({ link, uploads, uploadsMax }: HolderCandidate): number {
  const { rttMs, bytesPerSecond } = link ?? UNKNOWN;
  const sharers = uploads + 1;
  const queueing = uploads >= uploadsMax ? 4 : 1;
  return rttMs / 1_000 + (queueing * sharers * CHUNK_BYTES) / Math.max(1, bytesPerSecond);
}

function covering(need: ChunkSet, ranked: readonly HolderCandidate[]): readonly HolderCandidate[] {
  const near = ranked.slice(0, RANKED_HOLDERS_MAX - COVERAGE_PLACES);
  const rest = ranked.slice(near.length);
  let open = need;
  for (const { chunks } of near) open = open.minus(chunks);
  const far: HolderCandidate[] = [];
  for (const holder of rest) {
    if (open.size === 0 || far.length === COVERAGE_PLACES) break;
    if (!holder.chunks.intersects(open)) continue;
    far.push(holder);
    open = open.minus(holder.chunks);
  }
  const filled = rest.filter((holder) => !far.includes(holder)).slice(0, COVERAGE_PLACES - far.length);
  const chosen = new Set([...near, ...far, ...filled]);
  return ranked.filter((holder) => chosen.has(holder));
}

function isSameNetwork(question: HolderQuestion, holder: HolderCandidate): boolean {
  return question.network !== null && question.network === holder.network;
}
