/** Receipts as they are read; how a settlement is written is in money-batch.ts. */
import { sql } from "kysely";
import { assert } from "../../domain/assert.ts";
import {
  keyId,
  modelId,
  type ReceiptId,
  type RequestId,
  type Sha256Hex,
  sha256Hex,
  type TenantId,
  tenantId,
} from "../../domain/ids.ts";
import { microUsd } from "../../domain/money.ts";
import { GRID_PROVIDER } from "../../domain/preferences.ts";
import type { ReceiptRecord, ReceiptStore, Settlement, SettlementOutcome, UsageRow } from "../../ports/store.ts";
import type { Tx } from "./database.ts";
import { recordOf, tierSchema } from "./receipt-columns.ts";

/** A receipt without parts was the grid's alone. */
const PROVIDER = sql<string>`coalesce(part.provider, ${sql.lit(GRID_PROVIDER)})`;

export class ReceiptRows implements ReceiptStore {
  readonly #tx: Tx;

  constructor(tx: Tx) {
    this.#tx = tx;
  }

  async settle({ transfers, receipt, parts = [] }: Settlement): Promise<SettlementOutcome> {
    const outcome = await this.#tx.money({ transfers, receipt, parts });
    if (!outcome.ok) return outcome;
    const { leafIndex, isReplay } = outcome;
    assert(leafIndex !== null, "a settlement has a leaf");
    return { ok: true, leafIndex, isReplay };
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

  /** Leaves are numbered without a gap, so the highest tells the count at the cost of one step in the index. */
  async leafCount(): Promise<number> {
    const row = await this.#tx.reader
      .selectFrom("receipts")
      .select("leaf_index")
      .orderBy("leaf_index", "desc")
      .limit(1)
      .executeTakeFirst();
    return row === undefined ? 0 : row.leaf_index + 1;
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
      .leftJoin("receipt_parts as part", "part.request_id", "receipts.request_id")
      .select(["day", "tenant_id", "key_id", "model_id", "tier"])
      // PostgreSQL sums bigint to numeric, which arrives as text; counts and sums stay within a safe integer.
      .select([
        PROVIDER.as("provider"),
        sql<number>`cast(sum(case when coalesce(part.part, 0) = 0 then 1 else 0 end) as bigint)`.as("requests"),
        sql<number>`cast(sum(coalesce(part.prompt_tokens, receipts.prompt_tokens)) as bigint)`.as("prompt_tokens"),
        sql<number>`cast(sum(coalesce(part.output_tokens, receipts.output_tokens)) as bigint)`.as("output_tokens"),
        sql<number>`cast(sum(coalesce(part.cost_micro_usd, receipts.cost_micro_usd)) as bigint)`.as("cost_micro_usd"),
      ])
      .where("created_at_ms", ">=", filter.fromMs)
      .where("created_at_ms", "<", filter.toMs)
      .groupBy(["day", "tenant_id", "key_id", "model_id", "tier"])
      .groupBy(PROVIDER)
      .orderBy("day")
      .orderBy("tenant_id")
      .orderBy("key_id")
      .orderBy("model_id")
      .orderBy("tier")
      .orderBy("provider");
    if (filter.tenantId !== undefined) query = query.where("tenant_id", "=", filter.tenantId);
    const rows = await query.execute();
    return rows.map((row) => ({
      day: row.day,
      tenantId: tenantId(row.tenant_id),
      keyId: keyId(row.key_id),
      modelId: modelId(row.model_id),
      tier: tierSchema.parse(row.tier),
      provider: row.provider,
      requests: row.requests,
      promptTokens: row.prompt_tokens,
      outputTokens: row.output_tokens,
      costMicroUsd: microUsd(row.cost_micro_usd),
    }));
  }
}
