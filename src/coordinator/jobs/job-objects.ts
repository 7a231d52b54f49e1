/** Files and batches as OpenAI's API shows them. */
import type { FileRecord } from "../../ports/batch-store.ts";
import type { BatchObject } from "../../wire/openai/batches.ts";
import type { FileObject } from "../../wire/openai/files.ts";
import type { BatchView } from "./jobs.ts";

export function fileObject(file: FileRecord): FileObject {
  return {
    id: file.fileId,
    object: "file",
    bytes: file.bytes,
    created_at: secondsOf(file.createdAtMs),
    ...(file.expiresAtMs === null ? {} : { expires_at: secondsOf(file.expiresAtMs) }),
    filename: file.filename,
    purpose: file.purpose,
    status: "processed",
  };
}

export function batchObject({ record, counts, progress }: BatchView): BatchObject {
  const { problems, status } = record;
  // The ids are fixed before the files are there.
  const hasFiles = status === "completed" || status === "expired" || status === "cancelled";
  const { lines, completed, failed, promptTokens, outputTokens } = counts;
  return {
    id: record.batchId,
    object: "batch",
    endpoint: record.endpoint,
    model: record.modelId,
    errors: problems.length === 0 ? null : { object: "list", data: [...problems] },
    input_file_id: record.inputFileId,
    completion_window: record.completionWindow,
    status,
    output_file_id: hasFiles ? record.outputFileId : null,
    error_file_id: hasFiles ? record.errorFileId : null,
    created_at: secondsOf(record.createdAtMs),
    in_progress_at: secondsOrNull(record.inProgressAtMs),
    expires_at: secondsOf(record.expiresAtMs),
    finalizing_at: secondsOrNull(record.finalizingAtMs),
    completed_at: secondsOrNull(record.completedAtMs),
    failed_at: secondsOrNull(record.failedAtMs),
    expired_at: secondsOrNull(record.expiredAtMs),
    cancelling_at: secondsOrNull(record.cancellingAtMs),
    cancelled_at: secondsOrNull(record.cancelledAtMs),
    request_counts: { total: lines, completed, failed },
    usage: {
      input_tokens: promptTokens,
      input_tokens_details: { cached_tokens: 0 },
      output_tokens: outputTokens,
      output_tokens_details: { reasoning_tokens: 0 },
      total_tokens: promptTokens + outputTokens,
    },
    metadata: record.metadata,
    grid: {
      is_paused: record.isPaused,
      lines_in_flight: progress?.linesInFlight ?? 0,
      lines_per_second: rounded(progress?.linesPerSecond ?? null),
      eta_s: rounded(progress === null || progress.restMs === null ? null : progress.restMs / 1_000),
      waits_for: progress?.waitsFor ?? null,
    },
  };
}

function secondsOf(ms: number): number {
  return Math.floor(ms / 1_000);
}

function secondsOrNull(ms: number | null): number | null {
  return ms === null ? null : secondsOf(ms);
}

function rounded(value: number | null): number | null {
  return value === null ? null : Math.round(value * 10) / 10;
}
