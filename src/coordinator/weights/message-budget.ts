/** Messages about weights that one node may send, as a token bucket: chunk sets of a large model take milliseconds to read. */
import type { NodeId } from "../../domain/ids.ts";

/** Two `weights.have` a second for each of four models, and as much again for the rest. */
export const MESSAGES_PER_SECOND_MAX = 20;
/** A node that comes online tells of every model on its disk at once (`WIRE_BOUNDS.weightsPerNodeMax`). */
export const MESSAGES_BURST_MAX = 300;
/** So many dropped in a row are no accident. */
export const DROPPED_PER_BREACH = 200;

interface Bucket {
  tokens: number;
  filledAtMs: number;
  dropped: number;
}

export class MessageBudget {
  readonly #buckets = new Map<NodeId, Bucket>();
  #dropped = 0;

  /** Since the start. */
  get dropped(): number {
    return this.#dropped;
  }

  /** `flood`: dropped, and it is time to report a breach. */
  take(nodeId: NodeId, nowMs: number): "ok" | "dropped" | "flood" {
    const bucket = this.#buckets.get(nodeId) ?? { tokens: MESSAGES_BURST_MAX, filledAtMs: nowMs, dropped: 0 };
    this.#buckets.set(nodeId, bucket);
    const seconds = Math.max(0, nowMs - bucket.filledAtMs) / 1_000;
    bucket.tokens = Math.min(MESSAGES_BURST_MAX, bucket.tokens + seconds * MESSAGES_PER_SECOND_MAX);
    bucket.filledAtMs = nowMs;
    if (bucket.tokens >= 1) {
      bucket.tokens -= 1;
      bucket.dropped = 0;
      return "ok";
    }
    this.#dropped += 1;
    bucket.dropped += 1;
    return bucket.dropped % DROPPED_PER_BREACH === 0 ? "flood" : "dropped";
  }

  forget(nodeId: NodeId): void {
    this.#buckets.delete(nodeId);
  }
}
