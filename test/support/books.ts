/**
 * The books of a grid, read from its store while nothing runs, and held against what clients saw. The sums are plain additions
 * over the transfers, independent of the ledger's own code.
 */
import type { Transfer } from "../../src/domain/ledger.ts";
import type { ReceiptRecord, Store } from "../../src/ports/store.ts";
import { receiptBodySchema } from "../../src/wire/receipt.ts";

/** Above what any drill makes. */
const ROWS_MAX = 1_000_000;

export interface Books {
  readonly receipts: readonly ReceiptRecord[];
  readonly transfers: readonly Transfer[];
  readonly leaves: readonly string[];
  readonly problems: readonly string[];
}

/** What a client knows of one of its requests. */
export interface SeenRequest {
  readonly requestId: string;
  /** It got the whole body, or `[DONE]`. */
  readonly isAcknowledged: boolean;
  /** As the answer's usage said; null when none came. */
  readonly completionTokens: number | null;
}

export async function readBooks(store: Store, seen: readonly SeenRequest[]): Promise<Books> {
  const receipts = await store.receipts.list({ limit: ROWS_MAX });
  const transfers = await store.ledger.transfers({ limit: ROWS_MAX });
  const leaves = await store.receipts.leaves({ from: 0, to: await store.receipts.leafCount() });
  const problems = [
    ...(await accountProblems(store, transfers)),
    ...chargeProblems(receipts, transfers),
    ...seen.flatMap((request) => requestProblems(request, receipts, transfers)),
  ];
  if (leaves.length !== receipts.length) problems.push(`${leaves.length} leaves, ${receipts.length} receipts`);
  return { receipts, transfers, leaves, problems };
}

/** No hold may be open: nothing runs, and what a killed coordinator held was voided at the start that followed. */
async function accountProblems(store: Store, transfers: readonly Transfer[]): Promise<string[]> {
  const problems: string[] = [];
  const posted = new Map<string, number>();
  const add = (account: string, amount: number) => posted.set(account, (posted.get(account) ?? 0) + amount);
  for (const { kind, debitAccountId, creditAccountId, amountMicroUsd } of transfers) {
    if (kind === "hold" || kind === "void") continue;
    add(debitAccountId, -amountMicroUsd);
    add(creditAccountId, amountMicroUsd);
  }
  let sum = 0;
  for (const account of await store.ledger.accounts()) {
    const balance = account.creditsPosted - account.debitsPosted;
    sum += balance;
    const own = posted.get(account.accountId) ?? 0;
    if (balance !== own) problems.push(`${account.accountId} has ${balance}, its transfers add up to ${own}`);
    if (account.debitsPending !== 0 || account.creditsPending !== 0) problems.push(`${account.accountId} holds money`);
    if (account.mustNotOverdraw && balance < 0) problems.push(`${account.accountId} is overdrawn: ${balance}`);
  }
  if (sum !== 0) problems.push(`postings sum to ${sum}`);
  if ((posted.get("escrow") ?? 0) !== 0) problems.push(`escrow keeps ${posted.get("escrow")}`);
  const open = await store.ledger.openHolds();
  if (open.length > 0) problems.push(`${open.length} holds are open, the first is ${open[0]?.transferId}`);
  return problems;
}

/** A charge and its receipt are one transaction: neither is without the other, and neither comes twice. */
function chargeProblems(receipts: readonly ReceiptRecord[], transfers: readonly Transfer[]): string[] {
  const problems: string[] = [];
  const charged = new Map<string, number>();
  for (const transfer of transfers.filter(({ reason }) => reason === "charge")) {
    const requestId = transfer.requestId ?? "none";
    if (charged.has(requestId)) problems.push(`${requestId} was charged twice`);
    charged.set(requestId, transfer.amountMicroUsd);
  }
  const receipted = new Set<string>();
  for (const receipt of receipts) {
    const { requestId, costMicroUsd } = receipt;
    if (receipted.has(requestId)) problems.push(`${requestId} has two receipts`);
    receipted.add(requestId);
    const paid = charged.get(requestId) ?? 0;
    if (paid !== costMicroUsd) problems.push(`${requestId} paid ${paid}, its receipt says ${costMicroUsd}`);
    const body = receiptBodySchema.parse(JSON.parse(receipt.bodyJson));
    if (body.costMicroUsd !== costMicroUsd) problems.push(`${requestId} has a receipt over ${body.costMicroUsd}`);
  }
  for (const requestId of charged.keys()) {
    if (!receipted.has(requestId)) problems.push(`${requestId} was charged without a receipt`);
  }
  return problems;
}

function requestProblems(
  seen: SeenRequest,
  receipts: readonly ReceiptRecord[],
  transfers: readonly Transfer[],
): string[] {
  if (!seen.isAcknowledged) return [];
  const own = receipts.filter(({ requestId }) => requestId === seen.requestId);
  const charges = transfers.filter(({ requestId, reason }) => requestId === seen.requestId && reason === "charge");
  const problems: string[] = [];
  if (own.length !== 1) problems.push(`${seen.requestId} was answered and has ${own.length} receipts`);
  if (charges.length !== 1) problems.push(`${seen.requestId} was answered and has ${charges.length} charges`);
  const counted = own[0]?.outputTokens;
  if (seen.completionTokens !== null && counted !== undefined && counted !== seen.completionTokens) {
    problems.push(`${seen.requestId} was told ${seen.completionTokens} tokens, its receipt has ${counted}`);
  }
  return problems;
}
