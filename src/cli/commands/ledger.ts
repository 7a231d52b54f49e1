import { z } from "zod";
import {
  accountListSchema,
  ledgerCheckSchema,
  transferListSchema,
  transferRowSchema,
} from "../../coordinator/admin/admin-schemas.ts";
import { EXIT } from "../exit-codes.ts";
import { formatTime, table } from "../format.ts";
import { connectGrid, type GlobalOptions } from "../grid-client.ts";
import { note, printJson, printLine, printText } from "../terminal.ts";
import { usd } from "./tables.ts";

export async function listAccounts(options: GlobalOptions): Promise<void> {
  const { accounts } = await connectGrid(options).json("/admin/v1/ledger/accounts", accountListSchema);
  if (options.json === true) return printJson({ accounts });
  printText(
    table(
      [
        { title: "ACCOUNT" },
        { title: "AVAILABLE USD", isRight: true },
        { title: "HELD", isRight: true },
        { title: "DEBITED", isRight: true, dropOrder: 1 },
        { title: "CREDITED", isRight: true, dropOrder: 2 },
      ],
      accounts.map((account) => [
        account.accountId,
        usd(account.availableMicroUsd),
        usd(account.debitsPendingMicroUsd),
        usd(account.debitsPostedMicroUsd),
        usd(account.creditsPostedMicroUsd),
      ]),
      "there is no account",
    ),
  );
}

export async function listTransfers(options: GlobalOptions & { account?: string; limit: number }): Promise<void> {
  const query = new URLSearchParams({ limit: String(options.limit) });
  if (options.account !== undefined) query.set("account", options.account);
  const { transfers } = await connectGrid(options).json(`/admin/v1/ledger/transfers?${query}`, transferListSchema);
  if (options.json === true) return printJson({ transfers });
  printText(
    table(
      [
        { title: "TIME" },
        { title: "KIND", dropOrder: 1 },
        { title: "REASON" },
        { title: "FROM" },
        { title: "TO" },
        { title: "USD", isRight: true },
        { title: "REQUEST", dropOrder: 2 },
      ],
      transfers.map((transfer) => [
        formatTime(transfer.atMs),
        transfer.kind,
        transfer.reason,
        transfer.debitAccountId,
        transfer.creditAccountId,
        usd(transfer.amountMicroUsd),
        transfer.requestId ?? "-",
      ]),
      "there is no transfer",
    ),
  );
}

export async function checkLedger(options: GlobalOptions): Promise<void> {
  const check = await connectGrid(options).json("/admin/v1/ledger/check", ledgerCheckSchema);
  if (!check.isBalanced) process.exitCode = EXIT.checkFailed;
  if (options.json === true) return printJson(check);
  if (check.isBalanced) {
    printLine(`balanced: ${check.accounts} accounts, ${check.openHolds} open holds`);
    return;
  }
  for (const problem of check.problems) printLine(`problem: ${problem}`);
}

export async function creditTenant(
  dollars: number,
  options: GlobalOptions & { tenant?: string; reference?: string },
): Promise<void> {
  const { transfer } = await connectGrid(options).json(
    "/admin/v1/ledger/credit",
    z.object({ transfer: transferRowSchema }),
    {
      body: {
        amountMicroUsd: Math.round(dollars * 1e6),
        ...(options.tenant === undefined ? {} : { tenantId: options.tenant }),
        ...(options.reference === undefined ? {} : { reference: options.reference }),
      },
    },
  );
  if (options.json === true) return printJson({ transfer });
  note(`${usd(transfer.amountMicroUsd)} USD credited to ${transfer.creditAccountId}`);
}
