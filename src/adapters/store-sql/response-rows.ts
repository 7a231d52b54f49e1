/** Answers of `/v1/responses` that are kept, with each tenant's totals beside them. */
import { type Selectable, sql } from "kysely";
import { responseId, tenantId } from "../../domain/ids.ts";
import type { ResponseQuota, ResponseRef, ResponseStore, StoredResponse } from "../../ports/response-store.ts";
import type { Tx, WriteConnection } from "./database.ts";
import type { ResponseTable } from "./tables.ts";

/** Dropped in one step while a tenant is over its quota; one new answer seldom drops more than one. */
const DROP_BATCH = 64;

export class ResponseRows implements ResponseStore {
  readonly #tx: Tx;

  constructor(tx: Tx) {
    this.#tx = tx;
  }

  put(response: StoredResponse, quota: ResponseQuota): Promise<number> {
    const chars = response.inputJson.length + response.bodyJson.length;
    return this.#tx.write(async (connection) => {
      const added = await connection
        .insertInto("responses")
        .values({
          response_id: response.responseId,
          tenant_id: response.tenantId,
          previous_id: response.previousId,
          created_at_ms: response.createdAtMs,
          expires_at_ms: response.expiresAtMs,
          chars,
          input_json: response.inputJson,
          body_json: response.bodyJson,
        })
        .onConflict((conflict) => conflict.column("response_id").doNothing())
        .executeTakeFirst();
      if (Number(added.numInsertedOrUpdatedRows ?? 0) === 0) return 0;
      await addTotals(connection, { tenant: response.tenantId, responses: 1, chars });
      return await dropOldest(connection, { response, quota });
    });
  }

  async get(ref: ResponseRef, nowMs: number): Promise<StoredResponse | null> {
    const row = await this.#tx.reader
      .selectFrom("responses")
      .selectAll()
      .where("response_id", "=", ref.responseId)
      .where("tenant_id", "=", ref.tenantId)
      .where("expires_at_ms", ">", nowMs)
      .executeTakeFirst();
    return row === undefined ? null : responseOf(row);
  }

  async chain(
    ref: ResponseRef,
    options: ResponseQuota & { readonly nowMs: number },
  ): Promise<readonly StoredResponse[]> {
    const { nowMs, responsesMax, charsMax } = options;
    // Ids first: what lies beyond the bounds is never read.
    const rows = await this.#tx.reader
      .withRecursive("line", (query) =>
        query
          .selectFrom("responses")
          .select(["response_id", "previous_id", "chars as total", sql<number>`1`.as("place")])
          .where("response_id", "=", ref.responseId)
          .where("tenant_id", "=", ref.tenantId)
          .where("expires_at_ms", ">", nowMs)
          .unionAll(
            query
              .selectFrom("line")
              .innerJoin("responses", "responses.response_id", "line.previous_id")
              .select([
                "responses.response_id",
                "responses.previous_id",
                sql<number>`line.total + responses.chars`.as("total"),
                sql<number>`line.place + 1`.as("place"),
              ])
              .where("responses.tenant_id", "=", ref.tenantId)
              .where("responses.expires_at_ms", ">", nowMs)
              .where("line.place", "<", responsesMax)
              .where("line.total", "<=", charsMax),
          ),
      )
      .selectFrom("line")
      .innerJoin("responses", "responses.response_id", "line.response_id")
      .selectAll("responses")
      .orderBy("line.place")
      .execute();
    return rows.map(responseOf);
  }

  remove(ref: ResponseRef): Promise<boolean> {
    return this.#tx.write(async (connection) => {
      const row = await connection
        .deleteFrom("responses")
        .where("response_id", "=", ref.responseId)
        .where("tenant_id", "=", ref.tenantId)
        .returning("chars")
        .executeTakeFirst();
      if (row === undefined) return false;
      await addTotals(connection, { tenant: ref.tenantId, responses: -1, chars: -row.chars });
      return true;
    });
  }

  sweep(options: { readonly nowMs: number; readonly limit: number }): Promise<number> {
    return this.#tx.write(async (connection) => {
      const expired = await connection
        .selectFrom("responses")
        .select("response_id")
        .where("expires_at_ms", "<=", options.nowMs)
        .orderBy("expires_at_ms")
        .orderBy("response_id")
        .limit(options.limit)
        .execute();
      return await removeAll(connection, expired);
    });
  }
}

async function dropOldest(
  connection: WriteConnection,
  { response, quota }: { response: StoredResponse; quota: ResponseQuota },
): Promise<number> {
  let dropped = 0;
  for (;;) {
    const totals = await connection
      .selectFrom("response_totals")
      .selectAll()
      .where("tenant_id", "=", response.tenantId)
      .executeTakeFirstOrThrow();
    let over = { responses: totals.responses - quota.responsesMax, chars: totals.chars - quota.charsMax };
    if (over.responses <= 0 && over.chars <= 0) return dropped;
    const oldest = await connection
      .selectFrom("responses")
      .select(["response_id", "chars"])
      .where("tenant_id", "=", response.tenantId)
      .where("response_id", "!=", response.responseId)
      .orderBy("created_at_ms")
      .orderBy("response_id")
      .limit(DROP_BATCH)
      .execute();
    const going: { response_id: string }[] = [];
    for (const row of oldest) {
      if (over.responses <= 0 && over.chars <= 0) break;
      going.push(row);
      over = { responses: over.responses - 1, chars: over.chars - row.chars };
    }
    if (going.length === 0) return dropped;
    dropped += await removeAll(connection, going);
  }
}

async function removeAll(
  connection: WriteConnection,
  rows: readonly { readonly response_id: string }[],
): Promise<number> {
  if (rows.length === 0) return 0;
  const removed = await connection
    .deleteFrom("responses")
    .where(
      "response_id",
      "in",
      rows.map((row) => row.response_id),
    )
    .returning(["tenant_id", "chars"])
    .execute();
  for (const [tenant, theirs] of Map.groupBy(removed, (row) => row.tenant_id)) {
    const chars = theirs.reduce((sum, row) => sum + row.chars, 0);
    await addTotals(connection, { tenant, responses: -theirs.length, chars: -chars });
  }
  return removed.length;
}

async function addTotals(
  connection: WriteConnection,
  change: { tenant: string; responses: number; chars: number },
): Promise<void> {
  const { tenant, responses, chars } = change;
  await connection
    .insertInto("response_totals")
    .values({ tenant_id: tenant, responses, chars })
    .onConflict((conflict) =>
      conflict.column("tenant_id").doUpdateSet((set) => ({
        responses: set("response_totals.responses", "+", responses),
        chars: set("response_totals.chars", "+", chars),
      })),
    )
    .execute();
}

function responseOf(row: Selectable<ResponseTable>): StoredResponse {
  return {
    responseId: responseId(row.response_id),
    tenantId: tenantId(row.tenant_id),
    previousId: row.previous_id === null ? null : responseId(row.previous_id),
    createdAtMs: row.created_at_ms,
    expiresAtMs: row.expires_at_ms,
    inputJson: row.input_json,
    bodyJson: row.body_json,
  };
}
