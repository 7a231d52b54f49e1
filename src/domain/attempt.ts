import type { AttemptId, LeaseId, NodeId } from "./ids.ts";

/** How an attempt ended, as the coordinator saw it. */
export const ATTEMPT_ENDINGS = ["finished", "cancelled", "node-lost", "moved", "failed", "timed-out"] as const;
export type AttemptEnding = (typeof ATTEMPT_ENDINGS)[number];

/** One try at one choice on one node: what settlement pays for and what the receipt shows. */
export interface AttemptRecord {
  readonly attemptId: AttemptId;
  readonly leaseId: LeaseId;
  readonly epoch: number;
  readonly nodeId: NodeId;
  readonly nodePublicKeyHex: string;
  readonly choice: number;
  /** Output tokens that the coordinator accepted from this attempt: what the node is paid for. */
  readonly acknowledgedTokens: number;
  readonly ending: AttemptEnding;
  /** Cause, for people: `link closed`, `engine-crashed: …`; null when it finished. */
  readonly detail: string | null;
  /** The node's signed statement as canonical JSON, and the signature; null when it was lost before it could sign. */
  readonly statementJson: string | null;
  readonly signatureHex: string | null;
  /** Of a chain: who worked on it, in order, each with its number of layers; `nodeId` is the last one's. Absent: the whole model ran on `nodeId`. */
  readonly stages?: readonly AttemptStage[];
}

export interface AttemptStage {
  readonly nodeId: NodeId;
  readonly layers: number;
}
