/** What a node knows of one holder of chunks, and how many it asks of it at once. Owned by `NextChunks`. */
import { ChunkSet } from "../../domain/chunk-set.ts";
import type { NodeId } from "../../domain/ids.ts";

export interface HolderOffer {
  readonly nodeId: NodeId;
  readonly chunks: ChunkSet;
  /** Place in the coordinator's answer: 0 is the nearest and least busy. */
  readonly rank: number;
  /** Uploads that it still takes as it says; null when it does not. */
  readonly uploadsFree: number | null;
}

export interface HolderMeasure {
  readonly rttMs?: number;
  /** Of all chunks that come from it at the time, counted here. */
  readonly bytesPerSecond?: number;
}

/** Until something is measured: two chunks show a rate without keeping more from others. */
const SLOTS_UNMEASURED = 2;
/** 16 MiB on the way at 1 MiB a chunk: 1 Gbit/s over 130 ms. */
export const SLOTS_MAX = 16;
/** Beside the round trip, the time that the other end takes to read a chunk and start sending. */
const TURNAROUND_MS = 20;
const ASSUMED_RTT_MS = 50;
const ASSUMED_BYTES_PER_SECOND = 4 * 1024 * 1024;
/** Weight of the newest measurement. */
const NEWEST_WEIGHT = 0.3;

export class Holder {
  readonly nodeId: NodeId;
  readonly chunks: ChunkSet;
  /** Chunks that it would not give, though it says that it has them. */
  readonly refused = new Set<number>();
  readonly asked = new Set<number>();
  /** How many of its chunks are wanted. */
  wantedCount = 0;
  rank = 0;
  uploadsFree: number | null = null;
  pausedUntilMs = Number.NEGATIVE_INFINITY;
  /** Where the walk over its own set goes on. */
  cursor: number;
  rttMs: number | null = null;
  bytesPerSecond: number | null = null;
  /** Halvings of its slots: one for each failure in a row. */
  failures = 0;

  constructor(nodeId: NodeId, cursor: number, chunkCount: number) {
    this.nodeId = nodeId;
    this.cursor = cursor;
    this.chunks = new ChunkSet(chunkCount);
  }

  measure({ rttMs, bytesPerSecond }: HolderMeasure): void {
    if (rttMs !== undefined) this.rttMs = blend(this.rttMs, rttMs);
    if (bytesPerSecond !== undefined && bytesPerSecond > 0)
      this.bytesPerSecond = blend(this.bytesPerSecond, bytesPerSecond);
  }

  delivered(): void {
    this.failures = 0;
  }

  failed(): void {
    this.failures++;
  }
}

/** How many chunks may be in flight from it: its bandwidth-delay product and one more, which is read while the next is on its way. */
export function slotsOf(holder: Holder, chunkBytes: number): number {
  const { bytesPerSecond, rttMs, failures, uploadsFree, asked } = holder;
  const waitMs = (rttMs ?? ASSUMED_RTT_MS) + TURNAROUND_MS;
  const full =
    bytesPerSecond === null ? SLOTS_UNMEASURED : 1 + Math.ceil((bytesPerSecond * waitMs) / 1_000 / chunkBytes);
  const slots = Math.max(1, Math.min(SLOTS_MAX, full) >> Math.min(failures, 8));
  // What it says to have free does not count the chunks that it already sends here.
  return uploadsFree === null ? slots : Math.min(slots, asked.size + uploadsFree);
}

/** Until one more chunk would be here, behind those that were asked before. */
export function expectedMs(holder: Holder, chunkBytes: number): number {
  const bytesPerSecond = holder.bytesPerSecond ?? ASSUMED_BYTES_PER_SECOND;
  const bytes = (holder.asked.size + 1) * chunkBytes;
  return (holder.rttMs ?? ASSUMED_RTT_MS) + TURNAROUND_MS + (bytes / bytesPerSecond) * 1_000;
}

function blend(old: number | null, newest: number): number {
  return old === null ? newest : old + NEWEST_WEIGHT * (newest - old);
}
