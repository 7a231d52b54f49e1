/** What keys and tenants have spent, by the month; written with each settlement in money-batch.ts. */

import type { Expression } from "kysely";
import { type SqlBool, sql } from "kysely";
import type { KeyId, TenantId } from "../../domain/ids.ts";
import { microUsd } from "../../domain/money.ts";
import type { SpendingStore, Spent } from "../../ports/store.ts";
import type { Tx } from "./database.ts";

export class SpendingRows implements SpendingStore {
  readonly #tx: Tx;

  constructor(tx: Tx) {
    this.#tx = tx;
  }

  ofKey(id: KeyId, month: string): Promise<Spent> {
    return this.#sum(sql<SqlBool>`key_id = ${id}`, month);
  }

  ofTenant(id: TenantId, month: string): Promise<Spent> {
    return this.#sum(sql<SqlBool>`tenant_id = ${id}`, month);
  }

  async #sum(whose: Expression<SqlBool>, month: string): Promise<Spent> {
    const row = await this.#tx.reader
      .selectFrom("monthly_spending")
      .select([
        // PostgreSQL sums bigint to numeric, which arrives as text; sums stay within a safe integer.
        sql<number>`cast(coalesce(sum(micro_usd), 0) as bigint)`.as("total"),
        sql<number>`cast(coalesce(sum(case when month = ${month} then micro_usd else 0 end), 0) as bigint)`.as("month"),
      ])
      .where(whose)
      .executeTakeFirstOrThrow();
    return { totalMicroUsd: microUsd(row.total), monthMicroUsd: microUsd(row.month) };
  }
}
