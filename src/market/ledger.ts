/**
 * The ledger's law: what a batch of transfers does to accounts, all or nothing. Every store calls `decideBatch` with what
 * it read under its own lock, and writes exactly what the decision says; so there is one law and no second opinion in SQL.
 *
 * Transfers apply one after the other in the order given. A transfer id that is known with the same fields is a replay and
 * changes nothing; with other fields the whole batch is refused. `atMs` is no part of the comparison: the time of a
 * transfer is when it was first applied. States and effects are tabled in domain/ledger.ts.
 *
 * Two kinds of transfers stay open until a later one closes them: a `hold`, closed by its `post` or `void`; and a share
 * that a node earned, closed by its release or refund (both carry the id of `closeIdOf`, so at most one of them exists).
 */
import { assert } from "../domain/assert.ts";
import type { AccountId, TransferId } from "../domain/ids.ts";
import { transferId } from "../domain/ids.ts";
import type { Account, LedgerOutcome, LedgerRefusal, Transfer } from "../domain/ledger.ts";
import { availableMicroUsd } from "../domain/ledger.ts";
import { addUsd, microUsd, subtractUsd, ZERO_USD } from "../domain/money.ts";
import { mustNotOverdraw } from "./accounts.ts";

/** What a store knows of the ids that `referencedBy` names. */
export interface LedgerView {
  /** A transfer that was applied. */
  transfer(id: TransferId): Transfer | undefined;
  /** True while a hold is neither posted nor voided. */
  isOpen(hold: TransferId): boolean;
  /** Undefined until the first transfer that touches it. */
  account(id: AccountId): Account | undefined;
}

export interface LedgerChange {
  readonly ok: true;
  readonly isReplay: boolean;
  /** To be inserted, in this order. */
  readonly transfers: readonly Transfer[];
  /** New state of every touched account, sorted by account id. */
  readonly accounts: readonly Account[];
  /** Transfers among `transfers` that are open now. */
  readonly opened: readonly TransferId[];
  /** Earlier transfers that are open no more. */
  readonly closed: readonly TransferId[];
}
export type LedgerDecision = LedgerChange | Exclude<LedgerOutcome, { ok: true }>;

/** More transfers than any settlement makes (attempts are bounded): a bound on one transaction. */
export const BATCH_TRANSFERS_MAX = 1_000;

const CLOSE_SUFFIX = ":close";
/** Transfers with this reason are open until released or refunded. */
export const NODE_SHARE = "node-share";

/** The id of the one transfer that releases or refunds a node's share. */
export function closeIdOf(share: TransferId): TransferId {
  return transferId(`${share}${CLOSE_SUFFIX}`);
}

/** What a store has to read before it can decide, each sorted: lock accounts in this order. */
export function referencedBy(transfers: readonly Transfer[]): {
  readonly transferIds: readonly TransferId[];
  readonly accountIds: readonly AccountId[];
} {
  const ids = new Set<TransferId>();
  const accounts = new Set<AccountId>();
  for (const transfer of transfers) {
    ids.add(transfer.transferId);
    if (transfer.holdTransferId !== null) ids.add(transfer.holdTransferId);
    accounts.add(transfer.debitAccountId);
    accounts.add(transfer.creditAccountId);
  }
  return { transferIds: [...ids].sort(), accountIds: [...accounts].sort() };
}

export function decideBatch(transfers: readonly Transfer[], view: LedgerView): LedgerDecision {
  assert(transfers.length <= BATCH_TRANSFERS_MAX, `a batch has at most ${BATCH_TRANSFERS_MAX} transfers`);
  const batch = new Batch(view);
  for (const transfer of transfers) {
    const refusal = batch.apply(transfer);
    if (refusal !== null) return { ok: false, reason: refusal };
  }
  return batch.change();
}

/** The view with the batch's own effects laid over it. */
class Batch {
  readonly #view: LedgerView;
  readonly #transfers = new Map<TransferId, Transfer>();
  readonly #accounts = new Map<AccountId, Account>();
  readonly #opened = new Set<TransferId>();
  readonly #closed = new Set<TransferId>();

  constructor(view: LedgerView) {
    this.#view = view;
  }

  apply(transfer: Transfer): LedgerRefusal | null {
    assertWellFormed(transfer);
    const known = this.#known(transfer.transferId);
    if (known !== undefined) {
      return isSame(known, transfer) ? null : { code: "transfer-differs", transferId: transfer.transferId };
    }
    const refusal = this.#move(transfer);
    if (refusal !== null) return refusal;
    this.#transfers.set(transfer.transferId, transfer);
    if (transfer.kind === "hold" || transfer.reason === NODE_SHARE) this.#opened.add(transfer.transferId);
    return null;
  }

  change(): LedgerChange {
    return {
      ok: true,
      isReplay: this.#transfers.size === 0,
      transfers: [...this.#transfers.values()],
      accounts: [...this.#accounts.values()].sort((a, b) => (a.accountId < b.accountId ? -1 : 1)),
      opened: [...this.#opened].sort(),
      closed: [...this.#closed].sort(),
    };
  }

  #known(id: TransferId): Transfer | undefined {
    return this.#transfers.get(id) ?? this.#view.transfer(id);
  }

  #account(id: AccountId): Account {
    return this.#accounts.get(id) ?? this.#view.account(id) ?? emptyAccount(id);
  }

  #move(transfer: Transfer): LedgerRefusal | null {
    const debit = this.#account(transfer.debitAccountId);
    const credit = this.#account(transfer.creditAccountId);
    const amount = transfer.amountMicroUsd;
    switch (transfer.kind) {
      case "direct":
      case "hold": {
        const available = availableMicroUsd(debit);
        if (debit.mustNotOverdraw && available < amount) {
          return {
            code: "insufficient-funds",
            accountId: debit.accountId,
            availableMicroUsd: microUsd(available),
            neededMicroUsd: amount,
          };
        }
        if (transfer.kind === "hold") {
          this.#put({ ...debit, debitsPending: addUsd(debit.debitsPending, amount) });
          this.#put({ ...credit, creditsPending: addUsd(credit.creditsPending, amount) });
        } else {
          this.#put({ ...debit, debitsPosted: addUsd(debit.debitsPosted, amount) });
          this.#put({ ...credit, creditsPosted: addUsd(credit.creditsPosted, amount) });
          this.#closeShareOf(transfer);
        }
        return null;
      }
      case "post":
      case "void":
        return this.#resolve(transfer, debit, credit);
    }
  }

  #resolve(transfer: Transfer, debit: Account, credit: Account): LedgerRefusal | null {
    const holdId = transfer.holdTransferId;
    assert(holdId !== null, `${transfer.kind} ${transfer.transferId} names its hold`);
    const hold = this.#known(holdId);
    if (hold === undefined || hold.kind !== "hold") return { code: "hold-unknown", transferId: holdId };
    assert(
      hold.debitAccountId === debit.accountId && hold.creditAccountId === credit.accountId,
      `${transfer.transferId} moves between the accounts of its hold`,
    );
    if (!this.#isOpen(holdId)) return { code: "hold-already-resolved", transferId: holdId };
    const held = hold.amountMicroUsd;
    const posted = transfer.kind === "post" ? transfer.amountMicroUsd : ZERO_USD;
    if (posted > held) return { code: "hold-exceeded", transferId: holdId };
    assert(transfer.kind === "post" || transfer.amountMicroUsd === held, "a void names the held amount");
    this.#put({
      ...debit,
      debitsPending: subtractUsd(debit.debitsPending, held),
      debitsPosted: addUsd(debit.debitsPosted, posted),
    });
    this.#put({
      ...credit,
      creditsPending: subtractUsd(credit.creditsPending, held),
      creditsPosted: addUsd(credit.creditsPosted, posted),
    });
    this.#close(holdId);
    return null;
  }

  #isOpen(id: TransferId): boolean {
    return this.#opened.has(id) || (!this.#closed.has(id) && this.#view.isOpen(id));
  }

  #closeShareOf(transfer: Transfer): void {
    if (!transfer.transferId.endsWith(CLOSE_SUFFIX)) return;
    this.#close(transferId(transfer.transferId.slice(0, -CLOSE_SUFFIX.length)));
  }

  #close(id: TransferId): void {
    if (!this.#opened.delete(id)) this.#closed.add(id);
  }

  #put(account: Account): void {
    this.#accounts.set(account.accountId, account);
  }
}

export function emptyAccount(id: AccountId): Account {
  return {
    accountId: id,
    mustNotOverdraw: mustNotOverdraw(id),
    debitsPending: ZERO_USD,
    debitsPosted: ZERO_USD,
    creditsPending: ZERO_USD,
    creditsPosted: ZERO_USD,
  };
}

function assertWellFormed(transfer: Transfer): void {
  assert(transfer.amountMicroUsd > 0, `${transfer.transferId} moves more than zero`);
  assert(transfer.debitAccountId !== transfer.creditAccountId, `${transfer.transferId} moves between two accounts`);
  const isResolving = transfer.kind === "post" || transfer.kind === "void";
  assert(isResolving === (transfer.holdTransferId !== null), `${transfer.transferId}: only post and void name a hold`);
}

function isSame(a: Transfer, b: Transfer): boolean {
  return (
    a.kind === b.kind &&
    a.debitAccountId === b.debitAccountId &&
    a.creditAccountId === b.creditAccountId &&
    a.amountMicroUsd === b.amountMicroUsd &&
    a.holdTransferId === b.holdTransferId &&
    a.requestId === b.requestId &&
    a.reason === b.reason
  );
}
