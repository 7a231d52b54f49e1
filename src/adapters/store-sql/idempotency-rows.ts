/** Answers kept for `Idempotency-Key`: the first request with a key starts, the others wait or get its answer. */
import { type Sha256Hex, sha256Hex } from "../../domain/ids.ts";
import type { IdempotencyBegin, IdempotencyRecord, IdempotencyStore } from "../../ports/store.ts";
import type { Tx } from "./database.ts";

export class IdempotencyRows implements IdempotencyStore {
  readonly #tx: Tx;

  constructor(tx: Tx) {
    this.#tx = tx;
  }

  begin(entry: {
    scope: string;
    key: string;
    bodySha256: Sha256Hex;
    atMs: number;
    expiresAtMs: number;
  }): Promise<IdempotencyBegin> {
    return this.#tx.write(async (connection) => {
      const row = await connection
        .selectFrom("idempotency")
        .selectAll()
        .where("scope", "=", entry.scope)
        .where("key", "=", entry.key)
        .executeTakeFirst();
      if (row !== undefined && row.expires_at_ms > entry.atMs) {
        if (sha256Hex(row.body_sha256) !== entry.bodySha256) return { state: "conflict" };
        if (row.status === null || row.headers_json === null || row.body === null) return { state: "in-progress" };
        return { state: "done", record: { status: row.status, headersJson: row.headers_json, body: row.body } };
      }
      const fresh = {
        body_sha256: entry.bodySha256,
        expires_at_ms: entry.expiresAtMs,
        status: null,
        headers_json: null,
        body: null,
      };
      await connection
        .insertInto("idempotency")
        .values({ scope: entry.scope, key: entry.key, ...fresh })
        .onConflict((conflict) => conflict.columns(["scope", "key"]).doUpdateSet(fresh))
        .execute();
      return { state: "started" };
    });
  }

  async finish(entry: { scope: string; key: string; record: IdempotencyRecord }): Promise<void> {
    await this.#tx.write((connection) =>
      connection
        .updateTable("idempotency")
        .set({ status: entry.record.status, headers_json: entry.record.headersJson, body: entry.record.body })
        .where("scope", "=", entry.scope)
        .where("key", "=", entry.key)
        .execute(),
    );
  }

  async forget(entry: { scope: string; key: string }): Promise<void> {
    await this.#tx.write((connection) =>
      connection.deleteFrom("idempotency").where("scope", "=", entry.scope).where("key", "=", entry.key).execute(),
    );
  }

  sweep(options: { nowMs: number; isStart: boolean }): Promise<number> {
    return this.#tx.write(async (connection) => {
      const result = await connection
        .deleteFrom("idempotency")
        .where((where) =>
          options.isStart
            ? where.or([where("expires_at_ms", "<=", options.nowMs), where("status", "is", null)])
            : where("expires_at_ms", "<=", options.nowMs),
        )
        .executeTakeFirst();
      return Number(result.numDeletedRows);
    });
  }
}
