/** Whether the books are in order: what must hold of all accounts at any moment between two transactions. */
import type { Account, Transfer } from "../domain/ledger.ts";
import { availableMicroUsd } from "../domain/ledger.ts";
import { ESCROW } from "./accounts.ts";
import { emptyAccount } from "./ledger.ts";

export interface LedgerAudit {
  readonly isBalanced: boolean;
  readonly accounts: number;
  readonly openHolds: number;
  /** One sentence for each thing that is wrong. */
  readonly problems: readonly string[];
}

/** All three are of one moment. `receiptsMicroUsd`: what all receipts together cost. */
export function auditLedger(books: {
  readonly accounts: readonly Account[];
  readonly openHolds: readonly Transfer[];
  readonly receiptsMicroUsd: number;
}): LedgerAudit {
  const problems = [...sumProblems(books.accounts), ...books.accounts.flatMap(accountProblems)];
  const escrow = books.accounts.find((account) => account.accountId === ESCROW) ?? emptyAccount(ESCROW);
  const held = books.openHolds.reduce((sum, hold) => sum + hold.amountMicroUsd, 0);
  if (escrow.creditsPosted !== escrow.debitsPosted) {
    problems.push(
      `escrow took in ${escrow.creditsPosted} and paid out ${escrow.debitsPosted} micro-USD: they must be equal`,
    );
  }
  if (escrow.creditsPending !== held) {
    problems.push(`escrow expects ${escrow.creditsPending} micro-USD, the open holds are ${held}`);
  }
  if (escrow.creditsPosted !== books.receiptsMicroUsd) {
    problems.push(
      `charges of ${escrow.creditsPosted} micro-USD were posted, receipts are over ${books.receiptsMicroUsd}`,
    );
  }
  return {
    isBalanced: problems.length === 0,
    accounts: books.accounts.length,
    openHolds: books.openHolds.length,
    problems,
  };
}

function sumProblems(accounts: readonly Account[]): string[] {
  let posted = 0;
  let pending = 0;
  for (const account of accounts) {
    posted += account.creditsPosted - account.debitsPosted;
    pending += account.creditsPending - account.debitsPending;
  }
  const problems: string[] = [];
  if (posted !== 0) problems.push(`all posted amounts together are ${posted} micro-USD: they must be zero`);
  if (pending !== 0) problems.push(`all held amounts together are ${pending} micro-USD: they must be zero`);
  return problems;
}

function accountProblems(account: Account): string[] {
  const available = availableMicroUsd(account);
  if (!account.mustNotOverdraw || available >= 0) return [];
  return [`${account.accountId} is overdrawn by ${-available} micro-USD`];
}
