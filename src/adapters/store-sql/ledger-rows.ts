/** Accounts and transfers as they are read; how they are written is in money-batch.ts. */
import { sql } from "kysely";
import type { AccountId } from "../../domain/ids.ts";
import type { Account, LedgerOutcome, Transfer } from "../../domain/ledger.ts";
import { NODE_SHARE } from "../../market/ledger.ts";
import type { LedgerStore } from "../../ports/store.ts";
import type { Tx } from "./database.ts";
import { accountOf, transferOf } from "./ledger-columns.ts";

export class LedgerRows implements LedgerStore {
  readonly #tx: Tx;

  constructor(tx: Tx) {
    this.#tx = tx;
  }

  async apply(transfers: readonly Transfer[]): Promise<LedgerOutcome> {
    const outcome = await this.#tx.money({ transfers, receipt: null });
    return outcome.ok ? { ok: true, isReplay: outcome.isReplay } : outcome;
  }

  async account(id: AccountId): Promise<Account | null> {
    const row = await this.#tx.reader
      .selectFrom("accounts")
      .selectAll()
      .where("account_id", "=", id)
      .executeTakeFirst();
    return row === undefined ? null : accountOf(row);
  }

  async accounts(): Promise<readonly Account[]> {
    const rows = await this.#tx.reader.selectFrom("accounts").selectAll().orderBy("account_id").execute();
    return rows.map(accountOf);
  }

  async transfers(page: { accountId?: AccountId; limit: number }): Promise<readonly Transfer[]> {
    const { accountId: id, limit } = page;
    const newest = this.#tx.reader.selectFrom("transfers").selectAll().orderBy("sequence", "desc").limit(limit);
    if (id === undefined) return (await newest.execute()).map(transferOf);
    // Two ordered reads of an index each; one `or` would sort all of an account's transfers.
    const debits = await newest.where("debit_account_id", "=", id).execute();
    const credits = await newest.where("credit_account_id", "=", id).execute();
    const both = [...debits, ...credits].sort((a, b) => b.sequence - a.sequence);
    return both.slice(0, limit).map(transferOf);
  }

  async openHolds(): Promise<readonly Transfer[]> {
    const rows = await this.#tx.reader
      .selectFrom("transfers")
      .selectAll()
      .where("is_open", "=", sql.lit(1))
      .where("kind", "=", "hold")
      .orderBy("sequence")
      .execute();
    return rows.map(transferOf);
  }

  async heldShares(filter: { beforeMs: number; limit: number }): Promise<readonly Transfer[]> {
    const rows = await this.#tx.reader
      .selectFrom("transfers")
      .selectAll()
      .where("is_open", "=", sql.lit(1))
      .where("reason", "=", NODE_SHARE)
      .where("at_ms", "<", filter.beforeMs)
      .orderBy("at_ms")
      .orderBy("sequence")
      .limit(filter.limit)
      .execute();
    return rows.map(transferOf);
  }
}
