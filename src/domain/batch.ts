/**
 * Batches: a file of requests that is run in idle capacity, line by line, each line once.
 *
 * | status      | validated   | not valid | all lines have results | window over           | cancelled  | files written         |
 * | ----------- | ----------- | --------- | ---------------------- | --------------------- | ---------- | --------------------- |
 * | validating  | in_progress | failed    | bug                    | expired               | cancelling | bug                   |
 * | in_progress | bug         | bug       | finalizing             | finalizing (as expired) | cancelling | bug                 |
 * | finalizing  | bug         | bug       | bug                    | ignored: it ends soon | refused    | completed or expired  |
 * | cancelling  | bug         | bug       | ignored                | ignored               | ignored    | cancelled             |
 * | failed, completed, expired, cancelled | nothing changes them                                                                 |
 *
 * A batch's lines lie in chunks, the pieces that are claimed. A claim has an epoch and an end; what a claim of an older epoch brings
 * is not taken, so each line has one result.
 */
import type { BatchId, FileId, KeyId, TenantId } from "./ids.ts";

export const BATCH_STATUSES = [
  "validating",
  "failed",
  "in_progress",
  "finalizing",
  "completed",
  "expired",
  "cancelling",
  "cancelled",
] as const;
export type BatchStatus = (typeof BATCH_STATUSES)[number];

/** Nothing changes a batch that is in one of these. */
export const ENDED_BATCH_STATUSES = ["failed", "completed", "expired", "cancelled"] as const;
export const LIVE_BATCH_STATUSES = ["validating", "in_progress", "finalizing", "cancelling"] as const;

/** What is wrong with an input file; lines count from 1. */
export interface BatchProblem {
  readonly code: string;
  readonly message: string;
  readonly param: string | null;
  readonly line: number | null;
}

export interface BatchRecord {
  readonly batchId: BatchId;
  readonly tenantId: TenantId;
  /** Whose rights, scope and budget the lines have. */
  readonly keyId: KeyId;
  readonly inputFileId: FileId;
  /** What each line asks: `/v1/chat/completions` and others. */
  readonly endpoint: string;
  readonly completionWindow: string;
  readonly status: BatchStatus;
  /** No line is begun; the window goes on. */
  readonly isPaused: boolean;
  /** The one model of all lines; null until it is known. */
  readonly modelId: string | null;
  readonly metadata: Readonly<Record<string, string>> | null;
  /** Life of the output files from their making; null: they stay. */
  readonly outputExpiresAfterS: number | null;
  readonly problems: readonly BatchProblem[];
  /** Set when the batch begins to be finalised, so that a file which is written again is the same one. */
  readonly outputFileId: FileId | null;
  readonly errorFileId: FileId | null;
  readonly createdAtMs: number;
  readonly expiresAtMs: number;
  readonly inProgressAtMs: number | null;
  readonly finalizingAtMs: number | null;
  readonly completedAtMs: number | null;
  readonly failedAtMs: number | null;
  readonly expiredAtMs: number | null;
  readonly cancellingAtMs: number | null;
  readonly cancelledAtMs: number | null;
}

export interface BatchCounts {
  readonly lines: number;
  readonly completed: number;
  readonly failed: number;
  readonly promptTokens: number;
  readonly outputTokens: number;
}

export interface StoredBatch {
  readonly record: BatchRecord;
  readonly counts: BatchCounts;
}

/** A run of lines of the input file. */
export interface BatchChunk {
  readonly chunk: number;
  /** From 0. */
  readonly firstLine: number;
  readonly lines: number;
  readonly offsetBytes: number;
  readonly lengthBytes: number;
}

export interface ClaimedChunk extends BatchChunk {
  readonly epoch: number;
  /** Claims in a row, this one included, of which none has brought a result yet. */
  readonly barrenClaims: number;
}

export interface LineResult {
  readonly chunk: number;
  /** Of the claim under which it ran. */
  readonly epoch: number;
  /** From 0. */
  readonly line: number;
  readonly isOk: boolean;
  /** The line of the output or error file, without its end. */
  readonly json: string;
  readonly promptTokens: number;
  readonly outputTokens: number;
}

/** How often a line has failed in a way that may be the grid's fault. */
export interface LineTries {
  readonly chunk: number;
  readonly epoch: number;
  readonly line: number;
  readonly tries: number;
}
