/**
 * Transfers and settlements of a group, carried out together: everything that they touch is read once, the law decides on
 * each in its order with the effects of those before it, and what came of it is written once. So the count of statements does
 * not grow with the group, which matters most where each is a round trip to a server.
 *
 * A write that is refused, or that is a bug, has no effect and does not touch the others.
 */
import type { Insertable } from "kysely";
import { type AccountId, type KeyId, type RequestId, requestId, type TransferId } from "../../domain/ids.ts";
import type { Account, Transfer } from "../../domain/ledger.ts";
import { addUsd, type MicroUsd, ZERO_USD } from "../../domain/money.ts";
import { decideBatch, type LedgerChange, type LedgerView, referencedBy } from "../../market/ledger.ts";
import { monthOf } from "../../market/usage-day.ts";
import type { SettledPart, Settlement } from "../../ports/store.ts";
import type { MoneyOutcome, MoneyWrite, WriteConnection } from "./database.ts";
import { accountOf, accountRow, transferOf, transferRow } from "./ledger-columns.ts";
import { receiptRow } from "./receipt-columns.ts";
import type { MonthlySpendingTable, ReceiptPartTable, ReceiptTable } from "./tables.ts";

/** What came of one write; a `cause` is a bug in that write alone. */
export type MoneyResult = { readonly outcome: MoneyOutcome } | { readonly cause: unknown };

/** Bounds the parameters of one statement: 10 for each transfer, of SQLite's 32,766. */
export const BATCH_TRANSFERS_MAX = 2_000;

export async function carryOut(connection: WriteConnection, writes: readonly MoneyWrite[]): Promise<MoneyResult[]> {
  const books = await readBooks(connection, writes);
  const results = writes.map((write): MoneyResult => {
    try {
      return { outcome: books.decide(write) };
    } catch (cause) {
      return { cause };
    }
  });
  await books.writeDown(connection);
  return results;
}

async function readBooks(connection: WriteConnection, writes: readonly MoneyWrite[]): Promise<Books> {
  const { transferIds, accountIds } = referencedBy(writes.flatMap((write) => write.transfers));
  const requests = writes.flatMap((write) => write.receipt?.requestId ?? []);
  const books = new Books();
  if (transferIds.length > 0) {
    const rows = await connection.selectFrom("transfers").selectAll().where("transfer_id", "in", transferIds).execute();
    for (const row of rows) books.knowTransfer(transferOf(row), row.is_open === 1);
    const accounts = await connection
      .selectFrom("accounts")
      .selectAll()
      .where("account_id", "in", accountIds)
      .execute();
    for (const row of accounts) books.knowAccount(accountOf(row));
  }
  if (requests.length > 0) {
    const query = connection.selectFrom("receipts").select(["request_id", "leaf_index"]);
    for (const row of await query.where("request_id", "in", requests).execute()) {
      books.knowLeaf(requestId(row.request_id), row.leaf_index);
    }
    const last = await query.orderBy("leaf_index", "desc").limit(1).executeTakeFirst();
    books.nextLeaf = last === undefined ? 0 : last.leaf_index + 1;
  }
  return books;
}

/** What was read, with the effects of the writes so far laid over it, and what of that is new. */
class Books implements LedgerView {
  nextLeaf = 0;
  readonly #transfers = new Map<TransferId, Transfer>();
  readonly #accounts = new Map<AccountId, Account>();
  readonly #open = new Set<TransferId>();
  readonly #leaves = new Map<RequestId, number>();
  readonly #newTransfers: Transfer[] = [];
  readonly #changedAccounts = new Set<AccountId>();
  readonly #closed = new Set<TransferId>();
  readonly #receipts: Insertable<ReceiptTable>[] = [];
  readonly #spent = new Map<KeyId, MicroUsd>();
  readonly #months = new Map<string, MonthlySpendingTable>();
  readonly #parts: ReceiptPartTable[] = [];

  knowTransfer(transfer: Transfer, isOpen: boolean): void {
    this.#transfers.set(transfer.transferId, transfer);
    if (isOpen) this.#open.add(transfer.transferId);
  }

  knowAccount(account: Account): void {
    this.#accounts.set(account.accountId, account);
  }

  knowLeaf(request: RequestId, leafIndex: number): void {
    this.#leaves.set(request, leafIndex);
  }

  transfer(id: TransferId): Transfer | undefined {
    return this.#transfers.get(id);
  }

  isOpen(id: TransferId): boolean {
    return this.#open.has(id);
  }

  account(id: AccountId): Account | undefined {
    return this.#accounts.get(id);
  }

  decide({ transfers, receipt, parts = [] }: MoneyWrite): MoneyOutcome {
    const earlier = receipt === null ? undefined : this.#leaves.get(receipt.requestId);
    if (earlier !== undefined) return { ok: true, isReplay: true, leafIndex: earlier };
    const decision = decideBatch(transfers, this);
    if (!decision.ok) return decision;
    if (receipt === null) {
      this.#take(decision);
      return { ok: true, isReplay: decision.isReplay, leafIndex: null };
    }
    const row = receiptRow({ ...receipt, leafIndex: this.nextLeaf });
    const spent = addUsd(this.#spent.get(receipt.keyId) ?? ZERO_USD, receipt.costMicroUsd);
    // Nothing above changed anything, so what throws there leaves the books as they were.
    this.#take(decision);
    this.#receipts.push(row);
    this.#spent.set(receipt.keyId, spent);
    this.#spendMonth(receipt);
    this.#parts.push(...parts.map((part, at) => partRow(receipt.requestId, part, at)));
    this.#leaves.set(receipt.requestId, this.nextLeaf);
    return { ok: true, isReplay: false, leafIndex: this.nextLeaf++ };
  }

  async writeDown(connection: WriteConnection): Promise<void> {
    await this.#writeLedger(connection);
    if (this.#receipts.length > 0) await connection.insertInto("receipts").values(this.#receipts).execute();
    if (this.#parts.length > 0) await connection.insertInto("receipt_parts").values(this.#parts).execute();
    await this.#writeMonths(connection);
    for (const [keyId, amount] of this.#spent) {
      await connection
        .updateTable("api_keys")
        .set((key) => ({ spent_micro_usd: key("spent_micro_usd", "+", amount) }))
        .where("key_id", "=", keyId)
        .execute();
    }
  }

  #spendMonth({ keyId, tenantId, createdAtMs, costMicroUsd }: Settlement["receipt"]): void {
    const month = monthOf(createdAtMs);
    const name = `${keyId} ${month}`;
    const before = this.#months.get(name)?.micro_usd ?? 0;
    this.#months.set(name, { key_id: keyId, month, tenant_id: tenantId, micro_usd: before + costMicroUsd });
  }

  async #writeMonths(connection: WriteConnection): Promise<void> {
    const rows = [...this.#months.values()];
    if (rows.length === 0) return;
    await connection
      .insertInto("monthly_spending")
      .values(rows)
      .onConflict((conflict) =>
        conflict.columns(["key_id", "month"]).doUpdateSet((row) => ({
          micro_usd: row("monthly_spending.micro_usd", "+", row.ref("excluded.micro_usd")),
        })),
      )
      .execute();
  }

  #take(change: LedgerChange): void {
    for (const account of change.accounts) {
      this.#accounts.set(account.accountId, account);
      this.#changedAccounts.add(account.accountId);
    }
    for (const transfer of change.transfers) this.#transfers.set(transfer.transferId, transfer);
    this.#newTransfers.push(...change.transfers);
    for (const id of change.opened) this.#open.add(id);
    for (const id of change.closed) {
      this.#open.delete(id);
      this.#closed.add(id);
    }
  }

  async #writeLedger(connection: WriteConnection): Promise<void> {
    const accounts = [...this.#changedAccounts].flatMap((id) => this.#accounts.get(id) ?? []);
    if (accounts.length > 0) {
      await connection
        .insertInto("accounts")
        .values(accounts.map(accountRow))
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
    const rows = this.#newTransfers.map((transfer) => transferRow(transfer, this.#open.has(transfer.transferId)));
    if (rows.length > 0) await connection.insertInto("transfers").values(rows).execute();
    const closed = [...this.#closed];
    if (closed.length > 0) {
      await connection.updateTable("transfers").set({ is_open: 0 }).where("transfer_id", "in", closed).execute();
    }
  }
}

function partRow(request: RequestId, part: SettledPart, at: number): ReceiptPartTable {
  return {
    request_id: request,
    part: at,
    provider: part.provider,
    prompt_tokens: part.promptTokens,
    output_tokens: part.outputTokens,
    cost_micro_usd: part.costMicroUsd,
  };
}
