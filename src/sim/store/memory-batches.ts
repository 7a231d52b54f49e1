/** Files and batches of the memory store. */
import { assert } from "../../domain/assert.ts";
import {
  type BatchChunk,
  type BatchRecord,
  type BatchStatus,
  LIVE_BATCH_STATUSES,
  type LineResult,
  type StoredBatch,
} from "../../domain/batch.ts";
import type { BatchId } from "../../domain/ids.ts";
import { BATCH_COMMIT_MAX, type BatchStore, type FileRecord, type FileStore } from "../../ports/batch-store.ts";
import type { MemoryDisk, MemoryRead, MemoryWrite } from "./memory-disk.ts";
import { byKey } from "./memory-ledger.ts";

export interface MemoryChunk extends BatchChunk {
  readonly doneCount: number;
  readonly epoch: number;
  readonly barrenClaims: number;
  readonly holder: string | null;
  readonly endsAtMs: number;
}

export interface MemoryBatch {
  readonly stored: StoredBatch;
  readonly chunks: ReadonlyMap<number, MemoryChunk>;
  readonly results: ReadonlyMap<number, LineResult>;
  readonly tries: ReadonlyMap<number, number>;
}

export function memoryFiles(read: MemoryRead, write: MemoryWrite): FileStore {
  const sorted = (disk: MemoryDisk) => [...disk.files.values()].sort(byKey((file: FileRecord) => file.fileId));
  return {
    create: (file) =>
      write((disk) => {
        if (!disk.files.has(file.fileId)) disk.files.set(file.fileId, file);
      }),
    get: (id) => read((disk) => disk.files.get(id) ?? null),
    list: ({ tenantId, purpose, after, limit, order }) =>
      read((disk) => {
        const own = sorted(disk).filter((file) => file.tenantId === tenantId);
        const wanted = own.filter((file) => purpose === null || file.purpose === purpose);
        const ordered = order === "asc" ? wanted : wanted.reverse();
        const isAfter = (file: FileRecord) =>
          after === null || (order === "asc" ? file.fileId > after : file.fileId < after);
        return ordered.filter(isAfter).slice(0, limit);
      }),
    remove: (id) => write((disk) => disk.files.delete(id)),
    bytesOf: (tenantId) =>
      read((disk) =>
        sorted(disk)
          .filter((file) => file.tenantId === tenantId)
          .reduce((sum, file) => sum + file.bytes, 0),
      ),
    countOf: (tenantId) => read((disk) => sorted(disk).filter((file) => file.tenantId === tenantId).length),
    expired: ({ nowMs, limit }) =>
      read((disk) => {
        const endOf = (file: FileRecord) => file.expiresAtMs ?? Number.POSITIVE_INFINITY;
        const passed = sorted(disk).filter((file) => endOf(file) <= nowMs);
        return passed.sort((a, b) => endOf(a) - endOf(b)).slice(0, limit);
      }),
  };
}

export function memoryBatches(read: MemoryRead, write: MemoryWrite): BatchStore {
  const batchesOf = (disk: MemoryDisk) =>
    [...disk.batches.values()].map(({ stored }) => stored).sort(byKey(({ record }: StoredBatch) => record.batchId));
  const isLive = ({ record }: StoredBatch) => LIVE_BATCH_STATUSES.some((status) => status === record.status);
  return {
    create: (record) =>
      write((disk) => {
        const counts = { lines: 0, completed: 0, failed: 0, promptTokens: 0, outputTokens: 0 };
        const none = { chunks: new Map(), results: new Map(), tries: new Map() };
        disk.batches.set(record.batchId, { stored: { record, counts }, ...none });
      }),
    get: (id) => read((disk) => disk.batches.get(id)?.stored ?? null),
    list: ({ tenantId, after, limit }) =>
      read((disk) =>
        batchesOf(disk)
          .reverse()
          .filter(({ record }) => record.tenantId === tenantId && (after === null || record.batchId < after))
          .slice(0, limit),
      ),
    live: () => read((disk) => batchesOf(disk).filter(isLive)),
    update: (record, from) => write((disk) => replaced(disk, record, from)),
    begin: (record, chunks) =>
      write((disk) => {
        if (!replaced(disk, record, ["validating"])) return false;
        const batch = found(disk, record.batchId);
        const lines = chunks.reduce((sum, chunk) => sum + chunk.lines, 0);
        const fresh = { doneCount: 0, epoch: 0, barrenClaims: 0, holder: null, endsAtMs: 0 };
        disk.batches.set(record.batchId, {
          ...batch,
          stored: { record, counts: { ...batch.stored.counts, lines } },
          chunks: new Map(chunks.map((chunk) => [chunk.chunk, { ...chunk, ...fresh }])),
        });
        return true;
      }),
    ...claims(write),
    commit: (group) => write((disk) => committed(disk, group)),
    results: ({ batchId, fromLine, toLine }) =>
      read((disk) =>
        [...(disk.batches.get(batchId)?.results.values() ?? [])]
          .filter(({ line }) => line >= fromLine && line < toLine)
          .sort((a, b) => a.line - b.line)
          .map(({ line, isOk, json }) => ({ line, isOk, json })),
      ),
    standing: ({ batchId, fromLine, toLine }) =>
      read((disk) => {
        const isIn = (line: number) => line >= fromLine && line < toLine;
        const batch = disk.batches.get(batchId);
        const tries = [...(batch?.tries ?? [])].filter(([line]) => isIn(line)).sort(([a], [b]) => a - b);
        return {
          done: [...(batch?.results.keys() ?? [])].filter(isIn).sort((a, b) => a - b),
          tries: new Map(tries),
        };
      }),
    chunks: ({ batchId, after, limit }) =>
      read((disk) =>
        [...(disk.batches.get(batchId)?.chunks.values() ?? [])]
          .filter(({ chunk }) => chunk > after)
          .sort((a, b) => a.chunk - b.chunk)
          .slice(0, limit)
          .map(({ chunk, firstLine, lines, offsetBytes, lengthBytes }) => ({
            ...{ chunk, firstLine, lines, offsetBytes, lengthBytes },
          })),
      ),
    clear: ({ batchId }) =>
      write((disk) => {
        const batch = disk.batches.get(batchId);
        if (batch !== undefined) {
          disk.batches.set(batchId, { ...batch, chunks: new Map(), results: new Map(), tries: new Map() });
        }
        return true;
      }),
  };
}

function claims(write: MemoryWrite): Pick<BatchStore, "claim" | "renew" | "release"> {
  return {
    claim: ({ batchId, holder, nowMs, endsAtMs, limit }) =>
      write((disk) => {
        const free = [...found(disk, batchId).chunks.values()]
          .filter((chunk) => chunk.doneCount < chunk.lines && (chunk.holder === null || chunk.endsAtMs <= nowMs))
          .sort((a, b) => a.chunk - b.chunk)
          .slice(0, limit);
        const claimed = free.map((chunk) => ({
          ...chunk,
          ...{ holder, endsAtMs, epoch: chunk.epoch + 1, barrenClaims: chunk.barrenClaims + 1 },
        }));
        putChunks(disk, batchId, claimed);
        return claimed.map(({ doneCount: _done, holder: _holder, endsAtMs: _ends, ...chunk }) => chunk);
      }),
    renew: ({ batchId, holder, endsAtMs }) =>
      write((disk) => {
        const held = [...found(disk, batchId).chunks.values()].filter((chunk) => chunk.holder === holder);
        putChunks(
          disk,
          batchId,
          held.map((chunk) => ({ ...chunk, endsAtMs })),
        );
        return held.length;
      }),
    release: ({ batchId, holder, others }) =>
      write((disk) => {
        const held = [...found(disk, batchId).chunks.values()].filter(
          (chunk) => chunk.holder !== null && (chunk.holder === holder) !== others,
        );
        const freed = others ? { holder: null } : { holder: null, barrenClaims: 0 };
        putChunks(
          disk,
          batchId,
          held.map((chunk) => ({ ...chunk, ...freed })),
        );
      }),
  };
}

function committed(disk: MemoryDisk, group: Parameters<BatchStore["commit"]>[0]) {
  const { batchId } = group;
  assert(
    group.results.length + group.tries.length <= BATCH_COMMIT_MAX,
    `a group has at most ${BATCH_COMMIT_MAX} lines`,
  );
  const batch = found(disk, batchId);
  const isCurrent = ({ chunk, epoch }: { chunk: number; epoch: number }) => batch.chunks.get(chunk)?.epoch === epoch;
  const results = new Map(batch.results);
  const taken: LineResult[] = [];
  const accepted = group.results.map((result) => {
    if (!isCurrent(result) || results.has(result.line)) return false;
    results.set(result.line, result);
    taken.push(result);
    return true;
  });
  const chunks = new Map(batch.chunks);
  for (const { chunk } of taken) {
    const before = chunks.get(chunk);
    assert(before !== undefined, "a result that is taken is of a chunk");
    chunks.set(chunk, { ...before, doneCount: before.doneCount + 1, barrenClaims: 0 });
  }
  const tries = new Map(batch.tries);
  for (const one of group.tries.filter(isCurrent)) tries.set(one.line, one.tries);
  const completed = taken.filter(({ isOk }) => isOk).length;
  const failed = taken.length - completed;
  const { counts, record } = batch.stored;
  const sum = (of: (result: LineResult) => number) => taken.reduce((total, result) => total + of(result), 0);
  disk.batches.set(batchId, {
    stored: {
      record,
      counts: {
        lines: counts.lines,
        completed: counts.completed + completed,
        failed: counts.failed + failed,
        promptTokens: counts.promptTokens + sum((result) => result.promptTokens),
        outputTokens: counts.outputTokens + sum((result) => result.outputTokens),
      },
    },
    chunks,
    results,
    tries,
  });
  const touched = [...new Set(taken.map(({ chunk }) => chunk))].sort((a, b) => a - b);
  const isDone = (chunk: number) => chunks.get(chunk)?.doneCount === chunks.get(chunk)?.lines;
  return { accepted, doneChunks: touched.filter(isDone), completed, failed };
}

function found(disk: MemoryDisk, id: BatchId): MemoryBatch {
  const batch = disk.batches.get(id);
  assert(batch !== undefined, `${id} is a batch`);
  return batch;
}

function putChunks(disk: MemoryDisk, id: BatchId, changed: readonly MemoryChunk[]): void {
  const batch = found(disk, id);
  const chunks = new Map(batch.chunks);
  for (const chunk of changed) chunks.set(chunk.chunk, chunk);
  disk.batches.set(id, { ...batch, chunks });
}

function replaced(disk: MemoryDisk, record: BatchRecord, from: readonly BatchStatus[]): boolean {
  const batch = disk.batches.get(record.batchId);
  if (batch === undefined || !from.includes(batch.stored.record.status)) return false;
  disk.batches.set(record.batchId, { ...batch, stored: { record, counts: batch.stored.counts } });
  return true;
}
