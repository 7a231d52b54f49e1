/** Receipts: each settlement writes its postings, its receipt and its leaf of the log in one transaction. */
import { type Selectable, sql } from "kysely";
import { z } from "zod";
import {
  keyId,
  modelId,
  type ReceiptId,
  type RequestId,
  receiptId,
  requestId,
  type Sha256Hex,
  sha256Hex,
  type TenantId,
  tenantId,
} from "../../domain/ids.ts";
import { microUsd } from "../../domain/money.ts";
import { SERVICE_TIERS } from "../../domain/tier.ts";
import { dayOf } from "../../market/usage-day.ts";
import type { ReceiptRecord, ReceiptStore, Settlement, SettlementOutcome, UsageRow } from "../../ports/store.ts";
import type { Tx, WriteConnection } from "./database.ts";
import { applyTransfers } from "./ledger-rows.ts";
import type { ReceiptTable } from "./tables.ts";

const tierSchema = z.enum(SERVICE_TIERS);

export class ReceiptRows implements ReceiptStore {
  readonly #tx: Tx;

  constructor(tx: Tx) {
    this.#tx = tx;
  }

  settle(settlement: Settlement): Promise<SettlementOutcome> {
    return this.#tx.write(async (connection) => {
      const earlier = await connection
        .selectFrom("receipts")
        .select("leaf_index")
        .where("request_id", "=", settlement.receipt.requestId)
        .executeTakeFirst();
      if (earlier !== undefined) return { ok: true, leafIndex: earlier.leaf_index, isReplay: true };
      const applied = await applyTransfers(connection, settlement.transfers);
      if (!applied.ok) return applied;
      const leafIndex = await countLeaves(connection);
      await connection
        .insertInto("receipts")
        .values(rowOf({ ...settlement.receipt, leafIndex }))
        .execute();
      await addSpent(connection, settlement.receipt);
      return { ok: true, leafIndex, isReplay: false };
    });
  }

  async get(id: ReceiptId): Promise<ReceiptRecord | null> {
    const row = await this.#tx.reader
      .selectFrom("receipts")
      .selectAll()
      .where("receipt_id", "=", id)
      .executeTakeFirst();
    return row === undefined ? null : recordOf(row);
  }

  async byRequest(id: RequestId): Promise<ReceiptRecord | null> {
    const row = await this.#tx.reader
      .selectFrom("receipts")
      .selectAll()
      .where("request_id", "=", id)
      .executeTakeFirst();
    return row === undefined ? null : recordOf(row);
  }

  async list(page: { tenantId?: TenantId; limit: number }): Promise<readonly ReceiptRecord[]> {
    const newest = this.#tx.reader.selectFrom("receipts").selectAll().orderBy("leaf_index", "desc").limit(page.limit);
    const { tenantId: tenant } = page;
    const rows = await (tenant === undefined ? newest : newest.where("tenant_id", "=", tenant)).execute();
    return rows.map(recordOf);
  }

  leafCount(): Promise<number> {
    return countLeaves(this.#tx.reader);
  }

  async leaves(range: { from: number; to: number }): Promise<readonly Sha256Hex[]> {
    const rows = await this.#tx.reader
      .selectFrom("receipts")
      .select("leaf_sha256")
      .where("leaf_index", ">=", range.from)
      .where("leaf_index", "<", range.to)
      .orderBy("leaf_index")
      .execute();
    return rows.map((row) => sha256Hex(row.leaf_sha256));
  }

  async usage(filter: { tenantId?: TenantId; fromMs: number; toMs: number }): Promise<readonly UsageRow[]> {
    let query = this.#tx.reader
      .selectFrom("receipts")
      .select(["day", "tenant_id", "key_id", "model_id", "tier"])
      // PostgreSQL sums bigint to numeric, which arrives as text; counts and sums stay within a safe integer.
      .select([
        sql<number>`count(*)`.as("requests"),
        sql<number>`cast(sum(prompt_tokens) as bigint)`.as("prompt_tokens"),
        sql<number>`cast(sum(output_tokens) as bigint)`.as("output_tokens"),
        sql<number>`cast(sum(cost_micro_usd) as bigint)`.as("cost_micro_usd"),
      ])
      .where("created_at_ms", ">=", filter.fromMs)
      .where("created_at_ms", "<", filter.toMs)
      .groupBy(["day", "tenant_id", "key_id", "model_id", "tier"])
      .orderBy("day")
      .orderBy("tenant_id")
      .orderBy("key_id")
      .orderBy("model_id")
      .orderBy("tier");
    if (filter.tenantId !== undefined) query = query.where("tenant_id", "=", filter.tenantId);
    const rows = await query.execute();
    return rows.map((row) => ({
      day: row.day,
      tenantId: tenantId(row.tenant_id),
      keyId: keyId(row.key_id),
      modelId: modelId(row.model_id),
      tier: tierSchema.parse(row.tier),
      requests: row.requests,
      promptTokens: row.prompt_tokens,
      outputTokens: row.output_tokens,
      costMicroUsd: microUsd(row.cost_micro_usd),
    }));
  }
}

/** Leaves are numbered without a gap, so the highest tells the count at the cost of one step in the index. */
async function countLeaves(connection: WriteConnection): Promise<number> {
  const row = await connection
    .selectFrom("receipts")
    .select("leaf_index")
    .orderBy("leaf_index", "desc")
    .limit(1)
    .executeTakeFirst();
  return row === undefined ? 0 : row.leaf_index + 1;
}

async function addSpent(connection: WriteConnection, receipt: Settlement["receipt"]): Promise<void> {
  await connection
    .updateTable("api_keys")
    .set((key) => ({ spent_micro_usd: key("spent_micro_usd", "+", receipt.costMicroUsd) }))
    .where("key_id", "=", receipt.keyId)
    .execute();
}

function recordOf(row: Selectable<ReceiptTable>): ReceiptRecord {
  return {
    receiptId: receiptId(row.receipt_id),
    requestId: requestId(row.request_id),
    tenantId: tenantId(row.tenant_id),
    keyId: keyId(row.key_id),
    modelId: modelId(row.model_id),
    tier: tierSchema.parse(row.tier),
    promptTokens: row.prompt_tokens,
    outputTokens: row.output_tokens,
    costMicroUsd: microUsd(row.cost_micro_usd),
    createdAtMs: row.created_at_ms,
    bodyJson: row.body_json,
    leafSha256: sha256Hex(row.leaf_sha256),
    leafIndex: row.leaf_index,
  };
}

function rowOf(receipt: ReceiptRecord): ReceiptTable {
  return {
    leaf_index: receipt.leafIndex,
    receipt_id: receipt.receiptId,
    request_id: receipt.requestId,
    tenant_id: receipt.tenantId,
    key_id: receipt.keyId,
    model_id: receipt.modelId,
    tier: receipt.tier,
    prompt_tokens: receipt.promptTokens,
    output_tokens: receipt.outputTokens,
    cost_micro_usd: receipt.costMicroUsd,
    created_at_ms: receipt.createdAtMs,
    day: dayOf(receipt.createdAtMs),
    body_json: receipt.bodyJson,
    leaf_sha256: receipt.leafSha256,
  };
}
