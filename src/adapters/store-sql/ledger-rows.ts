/** Accounts and transfers. What a batch does is decided in market/ledger.ts; here it is read for and written down. */
import { type Insertable, type Selectable, sql } from "kysely";
import { type AccountId, accountId, requestId, type TransferId, transferId } from "../../domain/ids.ts";
import type { Account, LedgerOutcome, Transfer } from "../../domain/ledger.ts";
import { microUsd } from "../../domain/money.ts";
import { decideBatch, type LedgerChange, NODE_SHARE, referencedBy } from "../../market/ledger.ts";
import type { LedgerStore } from "../../ports/store.ts";
import type { Tx, WriteConnection } from "./database.ts";
import type { AccountTable, TransferTable } from "./tables.ts";

export class LedgerRows implements LedgerStore {
  readonly #tx: Tx;

  constructor(tx: Tx) {
    this.#tx = tx;
  }

  apply(transfers: readonly Transfer[]): Promise<LedgerOutcome> {
    return this.#tx.write((connection) => applyTransfers(connection, transfers));
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

/** Inside a write: the batch is applied, or the refusal says why nothing was. */
export async function applyTransfers(
  connection: WriteConnection,
  transfers: readonly Transfer[],
): Promise<LedgerOutcome> {
  if (transfers.length === 0) return { ok: true, isReplay: true };
  const { transferIds, accountIds } = referencedBy(transfers);
  const known = await connection.selectFrom("transfers").selectAll().where("transfer_id", "in", transferIds).execute();
  const accounts = await connection.selectFrom("accounts").selectAll().where("account_id", "in", accountIds).execute();
  const transferById = new Map<TransferId, Transfer>(
    known.map((row) => [transferId(row.transfer_id), transferOf(row)]),
  );
  const open = new Set(known.filter((row) => row.is_open === 1).map((row) => row.transfer_id));
  const accountById = new Map<AccountId, Account>(accounts.map((row) => [accountId(row.account_id), accountOf(row)]));
  const decision = decideBatch(transfers, {
    transfer: (id) => transferById.get(id),
    isOpen: (id) => open.has(id),
    account: (id) => accountById.get(id),
  });
  if (!decision.ok) return decision;
  await writeDown(connection, decision);
  return { ok: true, isReplay: decision.isReplay };
}

async function writeDown(connection: WriteConnection, change: LedgerChange): Promise<void> {
  if (change.accounts.length > 0) {
    await connection
      .insertInto("accounts")
      .values(change.accounts.map(accountRow))
      .onConflict((conflict) =>
        conflict.column("account_id").doUpdateSet((excluded) => ({
          debits_pending: excluded.ref("excluded.debits_pending"),
          debits_posted: excluded.ref("excluded.debits_posted"),
          credits_pending: excluded.ref("excluded.credits_pending"),
          credits_posted: excluded.ref("excluded.credits_posted"),
        })),
      )
      .execute();
  }
  if (change.transfers.length > 0) {
    const opened = new Set<TransferId>(change.opened);
    const rows = change.transfers.map((transfer) => transferRow(transfer, opened.has(transfer.transferId)));
    await connection.insertInto("transfers").values(rows).execute();
  }
  if (change.closed.length > 0) {
    await connection.updateTable("transfers").set({ is_open: 0 }).where("transfer_id", "in", change.closed).execute();
  }
}

function accountOf(row: Selectable<AccountTable>): Account {
  return {
    accountId: accountId(row.account_id),
    mustNotOverdraw: row.must_not_overdraw === 1,
    debitsPending: microUsd(row.debits_pending),
    debitsPosted: microUsd(row.debits_posted),
    creditsPending: microUsd(row.credits_pending),
    creditsPosted: microUsd(row.credits_posted),
  };
}

function accountRow(account: Account): AccountTable {
  return {
    account_id: account.accountId,
    must_not_overdraw: account.mustNotOverdraw ? 1 : 0,
    debits_pending: account.debitsPending,
    debits_posted: account.debitsPosted,
    credits_pending: account.creditsPending,
    credits_posted: account.creditsPosted,
  };
}

function transferOf(row: Selectable<TransferTable>): Transfer {
  return {
    transferId: transferId(row.transfer_id),
    kind: row.kind,
    debitAccountId: accountId(row.debit_account_id),
    creditAccountId: accountId(row.credit_account_id),
    amountMicroUsd: microUsd(row.amount_micro_usd),
    holdTransferId: row.hold_transfer_id === null ? null : transferId(row.hold_transfer_id),
    requestId: row.request_id === null ? null : requestId(row.request_id),
    reason: row.reason,
    atMs: row.at_ms,
  };
}

function transferRow(transfer: Transfer, isOpen: boolean): Insertable<TransferTable> {
  return {
    transfer_id: transfer.transferId,
    kind: transfer.kind,
    debit_account_id: transfer.debitAccountId,
    credit_account_id: transfer.creditAccountId,
    amount_micro_usd: transfer.amountMicroUsd,
    hold_transfer_id: transfer.holdTransferId,
    request_id: transfer.requestId,
    reason: transfer.reason,
    at_ms: transfer.atMs,
    is_open: isOpen ? 1 : 0,
  };
}
