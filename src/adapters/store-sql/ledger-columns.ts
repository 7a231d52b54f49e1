/** Accounts and transfers between domain and table. */
import type { Insertable, Selectable } from "kysely";
import { accountId, requestId, transferId } from "../../domain/ids.ts";
import type { Account, Transfer } from "../../domain/ledger.ts";
import { microUsd } from "../../domain/money.ts";
import type { AccountTable, TransferTable } from "./tables.ts";

export function accountOf(row: Selectable<AccountTable>): Account {
  return {
    accountId: accountId(row.account_id),
    mustNotOverdraw: row.must_not_overdraw === 1,
    debitsPending: microUsd(row.debits_pending),
    debitsPosted: microUsd(row.debits_posted),
    creditsPending: microUsd(row.credits_pending),
    creditsPosted: microUsd(row.credits_posted),
  };
}

export function accountRow(account: Account): AccountTable {
  return {
    account_id: account.accountId,
    must_not_overdraw: account.mustNotOverdraw ? 1 : 0,
    debits_pending: account.debitsPending,
    debits_posted: account.debitsPosted,
    credits_pending: account.creditsPending,
    credits_posted: account.creditsPosted,
  };
}

export function transferOf(row: Selectable<TransferTable>): Transfer {
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

export function transferRow(transfer: Transfer, isOpen: boolean): Insertable<TransferTable> {
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
