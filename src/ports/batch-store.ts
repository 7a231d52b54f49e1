/** What the store keeps of files and batches. One transaction each; what it resolved survives `kill -9`. */
import type {
  BatchChunk,
  BatchRecord,
  BatchStatus,
  ClaimedChunk,
  LineResult,
  LineTries,
  StoredBatch,
} from "../domain/batch.ts";
import type { BatchId, FileId, TenantId } from "../domain/ids.ts";

/** Of one call of `commit`: bounds the transaction and what waits for it. */
export const BATCH_COMMIT_MAX = 1_024;

/** A file's bytes are behind the port of ports/blob-files.ts; this is what is known of it. */
export interface FileRecord {
  readonly fileId: FileId;
  readonly tenantId: TenantId;
  readonly purpose: string;
  readonly filename: string;
  readonly bytes: number;
  readonly createdAtMs: number;
  /** Null: it stays. */
  readonly expiresAtMs: number | null;
}

export interface FilePage {
  readonly tenantId: TenantId;
  readonly purpose: string | null;
  /** The last file of the page before. */
  readonly after: FileId | null;
  readonly limit: number;
  readonly order: "asc" | "desc";
}

export interface FileStore {
  /** The same file again changes nothing. */
  create(file: FileRecord): Promise<void>;
  get(fileId: FileId): Promise<FileRecord | null>;
  /** By id, which is by time. */
  list(page: FilePage): Promise<readonly FileRecord[]>;
  remove(fileId: FileId): Promise<boolean>;
  /** Of all files of a tenant. */
  bytesOf(tenantId: TenantId): Promise<number>;
  /** How many a tenant has. */
  countOf(tenantId: TenantId): Promise<number>;
  /** Files whose time has passed, the earliest first. */
  expired(filter: { nowMs: number; limit: number }): Promise<readonly FileRecord[]>;
}

/** A range of lines, from 0; `toLine` is not in it. */
export interface LineRange {
  readonly batchId: BatchId;
  readonly fromLine: number;
  readonly toLine: number;
}

export interface CommitOutcome {
  /** For each result, in order: whether it was taken. Not taken: its claim is over, or the line has a result. */
  readonly accepted: readonly boolean[];
  /** Chunks of which every line has a result. */
  readonly doneChunks: readonly number[];
  readonly completed: number;
  readonly failed: number;
}

export interface BatchStore {
  create(record: BatchRecord): Promise<void>;
  get(batchId: BatchId): Promise<StoredBatch | null>;
  /** Newest first. */
  list(page: { tenantId: TenantId; after: BatchId | null; limit: number }): Promise<readonly StoredBatch[]>;
  /** Those that have not ended, oldest first. */
  live(): Promise<readonly StoredBatch[]>;
  /** Puts the record in place of one whose status is among `from`; false, and nothing changes, when it is not. */
  update(record: BatchRecord, from: readonly BatchStatus[]): Promise<boolean>;
  /** As `update`, from `validating`, with the chunks of its lines. */
  begin(record: BatchRecord, chunks: readonly BatchChunk[]): Promise<boolean>;
  /** Chunks that are not done and that nobody has claimed, or whose claim has run out; the first ones first. Each gets a larger epoch. */
  claim(claim: {
    batchId: BatchId;
    holder: string;
    nowMs: number;
    endsAtMs: number;
    limit: number;
  }): Promise<readonly ClaimedChunk[]>;
  /** Moves the ends of the holder's claims; resolves with how many it has. */
  renew(claims: { batchId: BatchId; holder: string; endsAtMs: number }): Promise<number>;
  /** Gives claims up without a word about their chunks: of this holder, or with `others` of everybody else. */
  release(claims: { batchId: BatchId; holder: string; others: boolean }): Promise<void>;
  /** At most `BATCH_COMMIT_MAX` results and tries. A claim that has run out but was not taken by another still counts. */
  commit(group: {
    batchId: BatchId;
    results: readonly LineResult[];
    tries: readonly LineTries[];
  }): Promise<CommitOutcome>;
  /** Lines that have results, in order, with what they are. */
  results(range: LineRange): Promise<readonly { line: number; isOk: boolean; json: string }[]>;
  /** What is known of lines: which have results, and how often others have failed. In order. */
  standing(
    range: LineRange,
  ): Promise<{ readonly done: readonly number[]; readonly tries: ReadonlyMap<number, number> }>;
  /** All chunks, in order, from the one after `after`. */
  chunks(page: { batchId: BatchId; after: number; limit: number }): Promise<readonly BatchChunk[]>;
  /** Removes results, tries and chunks of a batch that has ended, some at a time; true when all are gone. */
  clear(batch: { batchId: BatchId; limit: number }): Promise<boolean>;
}
