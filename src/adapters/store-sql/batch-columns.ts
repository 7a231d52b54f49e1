/** A batch's record as its JSON column holds it. */
import type { Selectable } from "kysely";
import { z } from "zod";
import { BATCH_STATUSES, type BatchChunk, type BatchRecord, type StoredBatch } from "../../domain/batch.ts";
import { batchId, fileId, ID_PATTERNS, keyId, tenantId } from "../../domain/ids.ts";
import type { BatchChunkTable, BatchTable } from "./batch-tables.ts";
import { fromJsonColumn } from "./row-text.ts";

const wall = z.number().int().min(0);
const wallOrNull = wall.nullable();
const file = z.string().regex(ID_PATTERNS.file).transform(fileId);

const recordSchema: z.ZodType<BatchRecord> = z.object({
  batchId: z.string().regex(ID_PATTERNS.batch).transform(batchId),
  tenantId: z.string().regex(ID_PATTERNS.tenant).transform(tenantId),
  keyId: z.string().regex(ID_PATTERNS.key).transform(keyId),
  inputFileId: file,
  endpoint: z.string(),
  completionWindow: z.string(),
  status: z.enum(BATCH_STATUSES),
  isPaused: z.boolean(),
  modelId: z.string().nullable(),
  metadata: z.record(z.string(), z.string()).nullable(),
  outputExpiresAfterS: z.number().int().nullable(),
  problems: z.array(
    z.object({
      code: z.string(),
      message: z.string(),
      param: z.string().nullable(),
      line: z.number().int().nullable(),
    }),
  ),
  outputFileId: file.nullable(),
  errorFileId: file.nullable(),
  createdAtMs: wall,
  expiresAtMs: wall,
  inProgressAtMs: wallOrNull,
  finalizingAtMs: wallOrNull,
  completedAtMs: wallOrNull,
  failedAtMs: wallOrNull,
  expiredAtMs: wallOrNull,
  cancellingAtMs: wallOrNull,
  cancelledAtMs: wallOrNull,
});

export function storedFrom(row: Selectable<BatchTable>): StoredBatch {
  return {
    record: fromJsonColumn({ name: "batches.record_json", text: row.record_json, schema: recordSchema }),
    counts: {
      lines: row.line_count,
      completed: row.completed,
      failed: row.failed,
      promptTokens: row.prompt_tokens,
      outputTokens: row.output_tokens,
    },
  };
}

export function chunkFrom(row: Selectable<BatchChunkTable>): BatchChunk {
  return {
    chunk: row.chunk,
    firstLine: row.first_line,
    lines: row.line_count,
    offsetBytes: row.offset_bytes,
    lengthBytes: row.length_bytes,
  };
}
