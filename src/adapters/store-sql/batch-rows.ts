/**
 * Batches, their chunks and the results of their lines. A group of results is a handful of statements whatever its size: rows travel as
 * one JSON parameter, and counters grow once for each chunk and once for the batch.
 */
import { sql } from "kysely";
import { assert } from "../../domain/assert.ts";
import {
  type BatchChunk,
  type BatchRecord,
  type BatchStatus,
  type ClaimedChunk,
  LIVE_BATCH_STATUSES,
  type LineResult,
  type LineTries,
  type StoredBatch,
} from "../../domain/batch.ts";
import type { BatchId, TenantId } from "../../domain/ids.ts";
import { BATCH_COMMIT_MAX, type BatchStore, type CommitOutcome, type LineRange } from "../../ports/batch-store.ts";
import { chunkFrom, storedFrom } from "./batch-columns.ts";
import type { BatchChunkTable } from "./batch-tables.ts";
import type { Tx, WriteConnection } from "./database.ts";
import { type JsonRows, jsonRows } from "./json-rows.ts";
import type { Dialect } from "./migrations/migration.ts";

/** Rows of one insert of chunks: a parameter of some 100 kB. */
const CHUNKS_AT_ONCE = 2_000;

export class BatchRows implements BatchStore {
  readonly #tx: Tx;
  readonly #rows: JsonRows;

  constructor(tx: Tx, dialect: Dialect) {
    this.#tx = tx;
    this.#rows = jsonRows(dialect);
  }

  async create(record: BatchRecord): Promise<void> {
    const none = { line_count: 0, completed: 0, failed: 0, prompt_tokens: 0, output_tokens: 0 };
    await this.#tx.write((connection) =>
      connection
        .insertInto("batches")
        .values({ batch_id: record.batchId, tenant_id: record.tenantId, ...changing(record), ...none })
        .execute(),
    );
  }

  async get(id: BatchId): Promise<StoredBatch | null> {
    const row = await this.#tx.reader.selectFrom("batches").selectAll().where("batch_id", "=", id).executeTakeFirst();
    return row === undefined ? null : storedFrom(row);
  }

  async list(page: { tenantId: TenantId; after: BatchId | null; limit: number }): Promise<readonly StoredBatch[]> {
    let query = this.#tx.reader.selectFrom("batches").selectAll().where("tenant_id", "=", page.tenantId);
    if (page.after !== null) query = query.where("batch_id", "<", page.after);
    return (await query.orderBy("batch_id", "desc").limit(page.limit).execute()).map(storedFrom);
  }

  async live(): Promise<readonly StoredBatch[]> {
    const query = this.#tx.reader.selectFrom("batches").selectAll().where("status", "in", LIVE_BATCH_STATUSES);
    return (await query.orderBy("batch_id").execute()).map(storedFrom);
  }

  update(record: BatchRecord, from: readonly BatchStatus[]): Promise<boolean> {
    return this.#tx.write((connection) => replaced(connection, record, from));
  }

  begin(record: BatchRecord, chunks: readonly BatchChunk[]): Promise<boolean> {
    return this.#tx.write(async (connection) => {
      if (!(await replaced(connection, record, ["validating"]))) return false;
      for (let at = 0; at < chunks.length; at += CHUNKS_AT_ONCE) {
        const rows = chunks
          .slice(at, at + CHUNKS_AT_ONCE)
          .map(({ chunk, firstLine, lines, offsetBytes, lengthBytes }) => [
            ...[chunk, firstLine, lines, offsetBytes, lengthBytes],
          ]);
        await sql`insert into batch_chunks (batch_id, chunk, first_line, line_count, offset_bytes, length_bytes,
            done_count, epoch, barren_claims, holder, ends_at_ms)
          select ${record.batchId}, a, b, c, d, e, 0, 0, 0, null, 0
          from ${this.#rows(rows, ["bigint", "bigint", "bigint", "bigint", "bigint"])} as r where true`.execute(
          connection,
        );
      }
      const lines = chunks.reduce((sum, chunk) => sum + chunk.lines, 0);
      await connection
        .updateTable("batches")
        .set({ line_count: lines })
        .where("batch_id", "=", record.batchId)
        .execute();
      return true;
    });
  }

  claim(claim: {
    batchId: BatchId;
    holder: string;
    nowMs: number;
    endsAtMs: number;
    limit: number;
  }): Promise<readonly ClaimedChunk[]> {
    const { batchId, holder, nowMs, endsAtMs, limit } = claim;
    return this.#tx.write(async (connection) => {
      const free = sql`select chunk from batch_chunks where batch_id = ${batchId} and done_count < line_count
        and (holder is null or ends_at_ms <= ${nowMs}) order by chunk limit ${limit}`;
      const claimed = await sql<BatchChunkTable>`update batch_chunks
        set holder = ${holder}, ends_at_ms = ${endsAtMs}, epoch = epoch + 1, barren_claims = barren_claims + 1
        where batch_id = ${batchId} and chunk in (${free}) returning *`.execute(connection);
      return claimed.rows
        .map((row) => ({ ...chunkFrom(row), epoch: row.epoch, barrenClaims: row.barren_claims }))
        .sort((a, b) => a.chunk - b.chunk);
    });
  }

  renew(claims: { batchId: BatchId; holder: string; endsAtMs: number }): Promise<number> {
    return this.#tx.write(async (connection) => {
      const result = await connection
        .updateTable("batch_chunks")
        .set({ ends_at_ms: claims.endsAtMs })
        .where("batch_id", "=", claims.batchId)
        .where("holder", "=", claims.holder)
        .executeTakeFirst();
      return Number(result.numUpdatedRows);
    });
  }

  async release(claims: { batchId: BatchId; holder: string; others: boolean }): Promise<void> {
    await this.#tx.write((connection) =>
      connection
        .updateTable("batch_chunks")
        // What was given up in good order says nothing against the chunk.
        .set(claims.others ? { holder: null } : { holder: null, barren_claims: 0 })
        .where("batch_id", "=", claims.batchId)
        .where("holder", claims.others ? "!=" : "=", claims.holder)
        .execute(),
    );
  }

  commit(group: {
    batchId: BatchId;
    results: readonly LineResult[];
    tries: readonly LineTries[];
  }): Promise<CommitOutcome> {
    const { batchId, results, tries } = group;
    assert(results.length + tries.length <= BATCH_COMMIT_MAX, `a group has at most ${BATCH_COMMIT_MAX} lines`);
    return this.#tx.write(async (connection) => {
      const epochs = await this.#epochs(connection, batchId, [...results, ...tries]);
      const current = results.filter(({ chunk, epoch }) => epochs.get(chunk) === epoch);
      const taken = await this.#insert(connection, batchId, current);
      const doneChunks = await this.#count(connection, batchId, taken);
      await this.#keepTries(
        connection,
        batchId,
        tries.filter(({ chunk, epoch }) => epochs.get(chunk) === epoch),
      );
      const left = new Set(taken);
      return {
        // Named twice in one group, the second is not taken.
        accepted: results.map((result) => left.delete(result)),
        doneChunks,
        completed: taken.filter(({ isOk }) => isOk).length,
        failed: taken.filter(({ isOk }) => !isOk).length,
      };
    });
  }

  async results(range: LineRange): Promise<readonly { line: number; isOk: boolean; json: string }[]> {
    const rows = await this.#tx.reader
      .selectFrom("batch_results")
      .select(["line", "is_ok", "line_json"])
      .where("batch_id", "=", range.batchId)
      .where("line", ">=", range.fromLine)
      .where("line", "<", range.toLine)
      .orderBy("line")
      .execute();
    return rows.map((row) => ({ line: row.line, isOk: row.is_ok === 1, json: row.line_json }));
  }

  async standing({ batchId, fromLine, toLine }: LineRange): Promise<{
    readonly done: readonly number[];
    readonly tries: ReadonlyMap<number, number>;
  }> {
    const { reader } = this.#tx;
    const done = await sql<{ line: number }>`select line from batch_results
      where batch_id = ${batchId} and line >= ${fromLine} and line < ${toLine} order by line`.execute(reader);
    const tries = await sql<{ line: number; tries: number }>`select line, tries from batch_tries
      where batch_id = ${batchId} and line >= ${fromLine} and line < ${toLine} order by line`.execute(reader);
    return {
      done: done.rows.map(({ line }) => line),
      tries: new Map(tries.rows.map((row) => [row.line, row.tries])),
    };
  }

  async chunks(page: { batchId: BatchId; after: number; limit: number }): Promise<readonly BatchChunk[]> {
    const rows = await this.#tx.reader
      .selectFrom("batch_chunks")
      .selectAll()
      .where("batch_id", "=", page.batchId)
      .where("chunk", ">", page.after)
      .orderBy("chunk")
      .limit(page.limit)
      .execute();
    return rows.map(chunkFrom);
  }

  clear({ batchId, limit }: { batchId: BatchId; limit: number }): Promise<boolean> {
    return this.#tx.write(async (connection) => {
      let room = limit;
      for (const [table, key] of CLEARED) {
        if (room === 0) return false;
        const some = sql`select ${sql.ref(key)} from ${sql.table(table)} where batch_id = ${batchId} limit ${room}`;
        const gone = await sql`delete from ${sql.table(table)}
          where batch_id = ${batchId} and ${sql.ref(key)} in (${some})`.execute(connection);
        room -= Number(gone.numAffectedRows ?? 0);
      }
      return room > 0;
    });
  }

  async #epochs(
    connection: WriteConnection,
    batchId: BatchId,
    named: readonly { chunk: number }[],
  ): Promise<ReadonlyMap<number, number>> {
    const chunks = [...new Set(named.map(({ chunk }) => chunk))];
    if (chunks.length === 0) return new Map();
    const rows = await connection
      .selectFrom("batch_chunks")
      .select(["chunk", "epoch"])
      .where("batch_id", "=", batchId)
      .where("chunk", "in", chunks)
      .execute();
    return new Map(rows.map(({ chunk, epoch }) => [chunk, epoch]));
  }

  /** Resolves with those that are new. */
  async #insert(
    connection: WriteConnection,
    batchId: BatchId,
    results: readonly LineResult[],
  ): Promise<readonly LineResult[]> {
    if (results.length === 0) return [];
    const byLine = new Map<number, LineResult>();
    for (const result of results) if (!byLine.has(result.line)) byLine.set(result.line, result);
    const rows = [...byLine.values()].map(({ line, isOk, json }) => [line, isOk ? 1 : 0, json]);
    const inserted = await sql<{ line: number }>`insert into batch_results (batch_id, line, is_ok, line_json)
      select ${batchId}, a, b, c from ${this.#rows(rows, ["bigint", "bigint", "text"])} as r where true
      on conflict (batch_id, line) do nothing returning line`.execute(connection);
    return inserted.rows.flatMap(({ line }) => byLine.get(line) ?? []);
  }

  async #count(
    connection: WriteConnection,
    batchId: BatchId,
    taken: readonly LineResult[],
  ): Promise<readonly number[]> {
    if (taken.length === 0) return [];
    const perChunk = [...Map.groupBy(taken, ({ chunk }) => chunk)].map(([chunk, some]) => [chunk, some.length]);
    const counted = await sql<{ chunk: number; is_done: number }>`update batch_chunks
      set done_count = done_count + r.b, barren_claims = 0
      from ${this.#rows(perChunk, ["bigint", "bigint"])} as r
      where batch_id = ${batchId} and chunk = r.a
      returning chunk, case when done_count = line_count then 1 else 0 end as is_done`.execute(connection);
    const ok = taken.filter(({ isOk }) => isOk).length;
    const promptTokens = taken.reduce((sum, result) => sum + result.promptTokens, 0);
    const outputTokens = taken.reduce((sum, result) => sum + result.outputTokens, 0);
    await sql`update batches set completed = completed + ${ok}, failed = failed + ${taken.length - ok},
      prompt_tokens = prompt_tokens + ${promptTokens}, output_tokens = output_tokens + ${outputTokens}
      where batch_id = ${batchId}`.execute(connection);
    return counted.rows
      .filter(({ is_done }) => is_done === 1)
      .map(({ chunk }) => chunk)
      .sort((a, b) => a - b);
  }

  async #keepTries(connection: WriteConnection, batchId: BatchId, tries: readonly LineTries[]): Promise<void> {
    if (tries.length === 0) return;
    const newest = new Map(tries.map((one) => [one.line, one.tries]));
    await sql`insert into batch_tries (batch_id, line, tries)
      select ${batchId}, a, b from ${this.#rows([...newest], ["bigint", "bigint"])} as r where true
      on conflict (batch_id, line) do update set tries = excluded.tries`.execute(connection);
  }
}

const CLEARED = [
  ["batch_results", "line"],
  ["batch_tries", "line"],
  ["batch_chunks", "chunk"],
] as const;

function changing(record: BatchRecord) {
  return { status: record.status, record_json: JSON.stringify(record) };
}

async function replaced(
  connection: WriteConnection,
  record: BatchRecord,
  from: readonly BatchStatus[],
): Promise<boolean> {
  const result = await connection
    .updateTable("batches")
    .set(changing(record))
    .where("batch_id", "=", record.batchId)
    .where("status", "in", from)
    .executeTakeFirst();
  return Number(result.numUpdatedRows) > 0;
}
