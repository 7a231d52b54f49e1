/**
 * What a receipt says and who signed which part. The node signs a statement about its own attempt; the coordinator signs the
 * body, which holds the statements of all attempts; the log's checkpoint commits to the body's place. Schemas are in
 * wire/receipt.ts, building and checking in market/. Signed bodies hold only strings, booleans, null and safe integers.
 */
import type { AttemptEnding, AttemptStage } from "./attempt.ts";
import type { AttemptId, LeaseId, ModelId, NodeId, ReceiptId, RequestId, Sha256Hex } from "./ids.ts";
import type { MicroUsd, TokenPrice } from "./money.ts";
import type { StopReason } from "./sampling.ts";
import type { ServiceTier } from "./tier.ts";

/** Why an attempt ended, in the node's words; `embedded` for an embedding. */
export type StatementReason = StopReason | "cancelled" | "embedded";

/** What a node signs at the end of its attempt: its own count and terms. */
export interface NodeStatement {
  readonly v: 1;
  readonly kind: "fallow-attempt";
  readonly gridId: string;
  readonly leaseId: LeaseId;
  readonly epoch: number;
  readonly attemptId: AttemptId;
  readonly requestId: RequestId;
  readonly nodeId: NodeId;
  readonly requestSha256: Sha256Hex;
  readonly weightsSha256: Sha256Hex;
  readonly tier: ServiceTier;
  readonly inputMicroUsdPerMtok: number;
  readonly outputMicroUsdPerMtok: number;
  /** Tokens given to the attempt, those of earlier attempts included. */
  readonly promptTokens: number;
  /** Of these, how many were still in the engine's memory. */
  readonly cachedTokens: number;
  readonly outputTokens: number;
  /** Over the little-endian int32 token ids that this attempt produced. */
  readonly outputSha256: Sha256Hex;
  /** Engine, quantisation and backend within which a replay is exact. */
  readonly numericClass: string;
  readonly startedAtMs: number;
  readonly endedAtMs: number;
  /** Null when the node cannot measure it. */
  readonly energyMilliJoule: number | null;
  readonly energyMethod: string | null;
  readonly reason: StatementReason;
}

/** `error` is part of the format and this coordinator writes none: what fails on its side is free and has no receipt. */
export type ReceiptFinish = "stop" | "length" | "tool_calls" | "cancelled" | "error";

export interface ReceiptChoice {
  readonly outputTokens: number;
  /** Over the little-endian int32 token ids that the coordinator accepted; those of cloud parts have digests of their own. */
  readonly outputSha256: Sha256Hex;
  readonly finishReason: ReceiptFinish;
}

export interface ReceiptAttempt {
  readonly attemptId: AttemptId;
  readonly leaseId: LeaseId;
  readonly epoch: number;
  readonly choice: number;
  readonly nodeId: NodeId;
  /** Hex of the 32-byte Ed25519 key. */
  readonly nodePublicKey: string;
  /** Tokens that the coordinator accepted. */
  readonly acknowledgedTokens: number;
  readonly ending: AttemptEnding;
  /** Null when the node was lost before it could sign. */
  readonly statement: NodeStatement | null;
  readonly nodeSignature: string | null;
  /** Of a chain: who worked on it, in order, each with its number of layers; the last one is `nodeId`, who signs for all. */
  readonly stages?: readonly AttemptStage[] | undefined;
}

/** What a cloud provider generated of one choice. Its text has no token ids of ours, so the digest is over its UTF-8. */
export interface CloudPart {
  readonly providerId: string;
  readonly choice: number;
  /** Charged here: the whole prompt in the part that began the request, else 0. */
  readonly promptTokens: number;
  readonly outputTokens: number;
  readonly outputSha256: Sha256Hex;
  readonly price: TokenPrice;
  /**
   * Whose count was charged: `vocabulary` ours, `upstream` the provider's because it was lower or the grid has no vocabulary of the
   * model, `estimate` one from the text's length, where there is neither.
   */
  readonly countedBy: "vocabulary" | "upstream" | "estimate";
}

export interface ReceiptBody {
  readonly v: 1;
  readonly kind: "fallow-receipt";
  readonly gridId: string;
  readonly receiptId: ReceiptId;
  readonly requestId: RequestId;
  /** Of the canonical request that the tenant sent. */
  readonly requestSha256: Sha256Hex;
  readonly modelId: ModelId;
  readonly weightsSha256: Sha256Hex;
  readonly tier: ServiceTier;
  /** A commitment to the sampling seeds, not the seeds. */
  readonly seedSha256: Sha256Hex;
  /** Counted by the coordinator; charged once. */
  readonly promptTokens: number;
  readonly choices: readonly ReceiptChoice[];
  readonly price: TokenPrice;
  readonly costMicroUsd: MicroUsd;
  readonly createdAtMs: number;
  /** In the order in which they ended. */
  readonly attempts: readonly ReceiptAttempt[];
  /** By choice, then in the order in which they ran; absent: the grid did all of it. The body's own price is that of the grid's tokens. */
  readonly cloudParts?: readonly CloudPart[] | undefined;
}

export interface ReceiptInclusion {
  readonly leafIndex: number;
  readonly treeSize: number;
  /** Hex hashes from the leaf upwards (RFC 9162 section 2.1.3). */
  readonly path: readonly string[];
  readonly rootHash: string;
  /** The log's signed tree head as a C2SP signed note. */
  readonly checkpoint: string;
}

export interface SignedReceipt {
  readonly body: ReceiptBody;
  readonly coordinatorPublicKey: string;
  readonly coordinatorSignature: string;
  readonly inclusion: ReceiptInclusion;
}
