/** The part of the Store contract that is about files and batches. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { BatchChunk, BatchRecord, ClaimedChunk, LineResult } from "../../src/domain/batch.ts";
import { type BatchId, batchId, type FileId, fileId, keyId, tenantId } from "../../src/domain/ids.ts";
import type { FileRecord } from "../../src/ports/batch-store.ts";
import type { Store } from "../../src/ports/store.ts";

const ulid = (number: number) => String(number).padStart(26, "0");
export const fileIdOf = (number: number): FileId => fileId(`file-${ulid(number)}`);
export const batchIdOf = (number: number): BatchId => batchId(`batch_${ulid(number)}`);
const tenantOf = (number: number) => tenantId(`ten_${ulid(number)}`);

export function aFile(number: number, more: Partial<FileRecord> = {}): FileRecord {
  return {
    fileId: fileIdOf(number),
    tenantId: tenantOf(1),
    purpose: "batch",
    filename: "lines — häuser.jsonl",
    bytes: 100 * number,
    createdAtMs: 1_000 + number,
    expiresAtMs: null,
    ...more,
  };
}

export function aBatch(number: number, more: Partial<BatchRecord> = {}): BatchRecord {
  return {
    batchId: batchIdOf(number),
    tenantId: tenantOf(1),
    keyId: keyId(`key_${ulid(1)}`),
    inputFileId: fileIdOf(1),
    endpoint: "/v1/chat/completions",
    completionWindow: "24h",
    status: "validating",
    isPaused: false,
    modelId: null,
    metadata: { who: "Ann", "": "ü" },
    outputExpiresAfterS: null,
    problems: [{ code: "invalid_json_line", message: "no", param: null, line: 3 }],
    outputFileId: null,
    errorFileId: fileIdOf(9),
    createdAtMs: 1_000,
    expiresAtMs: 86_401_000,
    inProgressAtMs: null,
    finalizingAtMs: null,
    completedAtMs: null,
    failedAtMs: null,
    expiredAtMs: null,
    cancellingAtMs: null,
    cancelledAtMs: null,
    ...more,
  };
}

const LINES_PER_CHUNK = 4;
export function chunksOf(lines: number): readonly BatchChunk[] {
  return Array.from({ length: Math.ceil(lines / LINES_PER_CHUNK) }, (_, chunk) => ({
    chunk,
    firstLine: chunk * LINES_PER_CHUNK,
    lines: Math.min(LINES_PER_CHUNK, lines - chunk * LINES_PER_CHUNK),
    offsetBytes: chunk * 100,
    lengthBytes: 100,
  }));
}

const resultOf = (line: number, epoch: number, more: Partial<LineResult> = {}): LineResult => ({
  chunk: Math.floor(line / LINES_PER_CHUNK),
  epoch,
  line,
  isOk: true,
  json: JSON.stringify({ line, text: "\u0000 \\u0000 'ü'" }),
  promptTokens: 2,
  outputTokens: 3,
  ...more,
});
const ALL = { fromLine: 0, toLine: 1_000 };

async function begun(store: Store, lines: number, number = 1): Promise<BatchRecord> {
  const record = aBatch(number);
  await store.batches.create(record);
  const running: BatchRecord = { ...record, status: "in_progress", inProgressAtMs: 2_000 };
  expect(await store.batches.begin(running, chunksOf(lines))).toBe(true);
  return running;
}

export function describeBatchContract(storeNow: () => Store, reopen: () => Promise<void>): void {
  describe("files", () => {
    test("are kept as they were made, and the same one again changes nothing", async () => {
      await storeNow().files.create(aFile(1, { expiresAtMs: 5_000 }));
      await storeNow().files.create(aFile(1, { bytes: 7 }));
      await reopen();
      expect(await storeNow().files.get(fileIdOf(1))).toEqual(aFile(1, { expiresAtMs: 5_000 }));
      expect(await storeNow().files.get(fileIdOf(2))).toBeNull();
      expect(await storeNow().files.remove(fileIdOf(1))).toBe(true);
      expect(await storeNow().files.remove(fileIdOf(1))).toBe(false);
    });

    test("are listed by tenant and purpose, in pages and both directions, and counted", async () => {
      for (const number of [1, 2, 3, 4]) await storeNow().files.create(aFile(number));
      await storeNow().files.create(aFile(5, { purpose: "batch_output" }));
      await storeNow().files.create(aFile(6, { tenantId: tenantOf(2) }));
      const page = async (more: object) => {
        const query = { tenantId: tenantOf(1), purpose: null, after: null, limit: 10, order: "desc" as const };
        return (await storeNow().files.list({ ...query, ...more })).map((file) => file.fileId);
      };
      expect(await page({})).toEqual([5, 4, 3, 2, 1].map(fileIdOf));
      expect(await page({ order: "asc", limit: 2 })).toEqual([1, 2].map(fileIdOf));
      expect(await page({ order: "asc", after: fileIdOf(2), purpose: "batch" })).toEqual([3, 4].map(fileIdOf));
      expect(await page({ after: fileIdOf(3), limit: 1 })).toEqual([fileIdOf(2)]);
      expect(await storeNow().files.bytesOf(tenantOf(1))).toBe(1_500);
      expect(await storeNow().files.bytesOf(tenantOf(3))).toBe(0);
      expect([await storeNow().files.countOf(tenantOf(1)), await storeNow().files.countOf(tenantOf(3))]).toEqual([
        5, 0,
      ]);
    });

    test("that have expired are told earliest first", async () => {
      await storeNow().files.create(aFile(1, { expiresAtMs: 300 }));
      await storeNow().files.create(aFile(2, { expiresAtMs: 200 }));
      await storeNow().files.create(aFile(3, { expiresAtMs: 301 }));
      await storeNow().files.create(aFile(4));
      const expired = await storeNow().files.expired({ nowMs: 300, limit: 10 });
      expect(expired.map((file) => file.fileId)).toEqual([2, 1].map(fileIdOf));
    });
  });

  describe("batches", () => {
    test("are kept with every field, changed only from the status that was expected, and listed newest first", async () => {
      await storeNow().batches.create(aBatch(1));
      await storeNow().batches.create(aBatch(2, { tenantId: tenantOf(2) }));
      await storeNow().batches.create(aBatch(3));
      const counts = { lines: 0, completed: 0, failed: 0, promptTokens: 0, outputTokens: 0 };
      await reopen();
      expect(await storeNow().batches.get(batchIdOf(1))).toEqual({ record: aBatch(1), counts });
      expect(await storeNow().batches.get(batchIdOf(8))).toBeNull();
      const failed = aBatch(1, { status: "failed", failedAtMs: 5 });
      expect(await storeNow().batches.update(failed, ["in_progress"])).toBe(false);
      expect(await storeNow().batches.update(failed, ["validating", "in_progress"])).toBe(true);
      expect((await storeNow().batches.get(batchIdOf(1)))?.record).toEqual(failed);
      const list = async (after: BatchId | null, limit: number) =>
        (await storeNow().batches.list({ tenantId: tenantOf(1), after, limit })).map(({ record }) => record.batchId);
      expect(await list(null, 10)).toEqual([batchIdOf(3), batchIdOf(1)]);
      expect(await list(batchIdOf(3), 10)).toEqual([batchIdOf(1)]);
      const live = await storeNow().batches.live();
      expect(live.map(({ record }) => record.batchId)).toEqual([batchIdOf(2), batchIdOf(3)]);
    });

    test("begin once, with their chunks", async () => {
      const running = await begun(storeNow(), 10);
      expect(await storeNow().batches.begin(running, chunksOf(10))).toBe(false);
      await reopen();
      expect((await storeNow().batches.get(running.batchId))?.counts.lines).toBe(10);
      const chunks = await storeNow().batches.chunks({ batchId: running.batchId, after: 0, limit: 5 });
      expect(chunks).toEqual(chunksOf(10).slice(1));
    });

    test("give each chunk to one holder at a time, under a larger epoch each time", async () => {
      const { batchId: id } = await begun(storeNow(), 10);
      const claim = (holder: string, nowMs: number, limit = 2) =>
        storeNow().batches.claim({ batchId: id, holder, nowMs, endsAtMs: nowMs + 10, limit });
      const told = (claimed: readonly ClaimedChunk[]) =>
        claimed.map(({ chunk, epoch, barrenClaims }) => [chunk, epoch, barrenClaims]);
      const first = await claim("a", 100);
      expect(first[0]).toEqual({ ...chunksOf(10)[0], epoch: 1, barrenClaims: 1 });
      expect(told(first)).toEqual([
        [0, 1, 1],
        [1, 1, 1],
      ]);
      expect(told(await claim("b", 100))).toEqual([[2, 1, 1]]);
      expect(told(await claim("b", 109))).toEqual([]);
      await reopen();
      expect(await storeNow().batches.renew({ batchId: id, holder: "a", endsAtMs: 200 })).toBe(2);
      expect(told(await claim("b", 110))).toEqual([[2, 2, 2]]);
      await storeNow().batches.release({ batchId: id, holder: "a", others: false });
      await storeNow().batches.release({ batchId: id, holder: "c", others: true });
      expect(told(await claim("c", 110, 5))).toEqual([
        [0, 2, 1],
        [1, 2, 1],
        [2, 3, 3],
      ]);
    });

    test("take one result for each line, only under the chunk's epoch, and count it once", async () => {
      const { batchId: id } = await begun(storeNow(), 6);
      const claim = (nowMs: number) =>
        storeNow().batches.claim({ batchId: id, holder: "a", nowMs, endsAtMs: nowMs + 10, limit: 1 });
      await claim(0);
      await claim(0);
      const commit = (...results: readonly LineResult[]) =>
        storeNow().batches.commit({ batchId: id, results, tries: [] });
      const first = await commit(resultOf(1, 1), resultOf(4, 1, { isOk: false }), resultOf(1, 1), resultOf(2, 9));
      expect(first).toEqual({ accepted: [true, true, false, false], doneChunks: [], completed: 1, failed: 1 });
      expect(await commit(resultOf(1, 1), resultOf(5, 1))).toMatchObject({ accepted: [false, true], doneChunks: [1] });
      await claim(20);
      expect(await commit(resultOf(0, 1))).toMatchObject({ accepted: [false] });
      expect(await commit(resultOf(0, 2), resultOf(2, 2), resultOf(3, 2))).toMatchObject({ doneChunks: [0] });
      await reopen();
      expect(await claim(99)).toEqual([]);
      const counts = { lines: 6, completed: 5, failed: 1, promptTokens: 12, outputTokens: 18 };
      expect((await storeNow().batches.get(id))?.counts).toEqual(counts);
      const results = await storeNow().batches.results({ batchId: id, ...ALL });
      expect(results.map(({ line, isOk }) => [line, isOk])).toEqual(
        [0, 1, 2, 3, 4, 5].map((line) => [line, line !== 4]),
      );
      expect(results[1]?.json).toBe(resultOf(1, 1).json);
      expect(await storeNow().batches.results({ batchId: id, fromLine: 2, toLine: 3 })).toHaveLength(1);
    });

    test("remember failed tries, forget a chunk's barren claims at its first result, and are cleared in pieces", async () => {
      const { batchId: id } = await begun(storeNow(), 4);
      const claim = (nowMs: number) =>
        storeNow().batches.claim({ batchId: id, holder: "a", nowMs, endsAtMs: nowMs, limit: 1 });
      expect((await claim(0))[0]?.barrenClaims).toBe(1);
      const tries = [
        { chunk: 0, epoch: 1, line: 2, tries: 1 },
        { chunk: 0, epoch: 7, line: 3, tries: 5 },
      ];
      await storeNow().batches.commit({ batchId: id, results: [], tries });
      expect((await claim(1))[0]?.barrenClaims).toBe(2);
      const again = [{ chunk: 0, epoch: 2, line: 2, tries: 2 }];
      await storeNow().batches.commit({ batchId: id, results: [resultOf(0, 2)], tries: again });
      await reopen();
      expect(await storeNow().batches.standing({ batchId: id, ...ALL })).toEqual({
        done: [0],
        tries: new Map([[2, 2]]),
      });
      expect((await claim(2))[0]?.barrenClaims).toBe(1);
      while (!(await storeNow().batches.clear({ batchId: id, limit: 1 })));
      expect(await storeNow().batches.standing({ batchId: id, ...ALL })).toEqual({ done: [], tries: new Map() });
      expect(await storeNow().batches.chunks({ batchId: id, after: -1, limit: 5 })).toEqual([]);
    });

    test("end with every line once, whoever claims, lets go and commits in whatever order", async () => {
      const steps = fc.array(
        fc.record({
          kind: fc.constantFrom("claim", "commit", "commit", "release"),
          holder: fc.constantFrom("a", "b"),
          line: fc.nat(9),
        }),
        { maxLength: 30 },
      );
      let number = 100;
      await fc.assert(
        fc.asyncProperty(steps, async (drawn) => {
          const { batches } = storeNow();
          const { batchId: id } = await begun(storeNow(), 10, ++number);
          const epochs = new Map<string, Map<number, number>>([
            ["a", new Map()],
            ["b", new Map()],
          ]);
          let taken = 0;
          const commit = async (holder: string, lines: readonly number[]) => {
            const known = epochs.get(holder) ?? new Map<number, number>();
            const results = lines.map((line) => resultOf(line, known.get(Math.floor(line / LINES_PER_CHUNK)) ?? 0));
            const outcome = await batches.commit({ batchId: id, results, tries: [] });
            taken += outcome.accepted.filter((isTaken) => isTaken).length;
          };
          const claim = async (holder: string, nowMs: number, limit = 2) => {
            const claimed = await batches.claim({ batchId: id, holder, nowMs, endsAtMs: 1_000, limit });
            for (const { chunk, epoch } of claimed) epochs.get(holder)?.set(chunk, epoch);
          };
          for (const { kind, holder, line } of drawn) {
            if (kind === "claim") await claim(holder, 0);
            else if (kind === "release") await batches.release({ batchId: id, holder, others: false });
            else await commit(holder, [line, (line + 1) % 10]);
          }
          await claim("a", 2_000, 9);
          await commit("a", [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
          expect(taken).toBe(10);
          expect((await batches.get(id))?.counts).toMatchObject({ completed: 10, failed: 0 });
          expect(await batches.claim({ batchId: id, holder: "b", nowMs: 9_000, endsAtMs: 9_001, limit: 9 })).toEqual(
            [],
          );
        }),
        { numRuns: 25 },
      );
    });
  });
}
