/** Ledger and receipts of the memory store; the law is market/ledger.ts, as in the real stores. */
import type { Transfer } from "../../domain/ledger.ts";
import { addUsd, ZERO_USD } from "../../domain/money.ts";
import { GRID_PROVIDER } from "../../domain/preferences.ts";
import { decideBatch, type LedgerChange, type LedgerDecision, NODE_SHARE } from "../../market/ledger.ts";
import { dayOf, monthOf } from "../../market/usage-day.ts";
import type {
  LedgerStore,
  ReceiptRecord,
  ReceiptStore,
  Settlement,
  SettlementOutcome,
  SpendingStore,
  Spent,
  UsageRow,
} from "../../ports/store.ts";
import type { MemoryDisk, MemoryRead, MemoryWrite } from "./memory-disk.ts";

export function memoryLedger(read: MemoryRead, write: MemoryWrite): LedgerStore {
  return {
    apply: (transfers) =>
      write((disk) => {
        const decision = decide(disk, transfers);
        if (!decision.ok) return decision;
        writeDown(disk, decision);
        return { ok: true, isReplay: decision.isReplay };
      }),
    account: (id) => read((disk) => disk.accounts.get(id) ?? null),
    accounts: () => read((disk) => [...disk.accounts.values()].sort(byKey((account) => account.accountId))),
    transfers: (page) =>
      read((disk) =>
        [...disk.transfers.values()]
          .reverse()
          .filter(({ debitAccountId, creditAccountId }) => {
            const { accountId } = page;
            return accountId === undefined || debitAccountId === accountId || creditAccountId === accountId;
          })
          .slice(0, page.limit),
      ),
    openHolds: () => read((disk) => openOnes(disk).filter((transfer) => transfer.kind === "hold")),
    heldShares: (filter) =>
      read((disk) =>
        openOnes(disk)
          .filter((transfer) => transfer.reason === NODE_SHARE && transfer.atMs < filter.beforeMs)
          .sort((a, b) => a.atMs - b.atMs)
          .slice(0, filter.limit),
      ),
  };
}

export function memoryReceipts(read: MemoryRead, write: MemoryWrite): ReceiptStore {
  return {
    settle: (settlement) => write((disk) => settle(disk, settlement)),
    get: (id) => read((disk) => disk.receiptById.get(id) ?? null),
    byRequest: (id) => read((disk) => disk.receiptByRequest.get(id) ?? null),
    list: (page) =>
      read((disk) =>
        disk.receipts
          .toReversed()
          .filter((receipt) => page.tenantId === undefined || receipt.tenantId === page.tenantId)
          .slice(0, page.limit),
      ),
    leafCount: () => read((disk) => disk.receipts.length),
    leaves: ({ from, to }) => read((disk) => disk.receipts.slice(from, to).map((receipt) => receipt.leafSha256)),
    usage: (filter) =>
      read((disk) =>
        usageOf(
          disk,
          disk.receipts.filter(
            ({ tenantId, createdAtMs }) =>
              (filter.tenantId === undefined || tenantId === filter.tenantId) &&
              createdAtMs >= filter.fromMs &&
              createdAtMs < filter.toMs,
          ),
        ),
      ),
  };
}

export function memorySpending(read: MemoryRead): SpendingStore {
  const sum = (receipts: readonly ReceiptRecord[], month: string): Spent => ({
    totalMicroUsd: addUsd(...receipts.map((receipt) => receipt.costMicroUsd)),
    monthMicroUsd: addUsd(
      ...receipts.flatMap((receipt) => (monthOf(receipt.createdAtMs) === month ? receipt.costMicroUsd : [])),
    ),
  });
  return {
    ofKey: (id, month) =>
      read((disk) =>
        sum(
          disk.receipts.filter(({ keyId }) => keyId === id),
          month,
        ),
      ),
    ofTenant: (id, month) =>
      read((disk) =>
        sum(
          disk.receipts.filter(({ tenantId }) => tenantId === id),
          month,
        ),
      ),
  };
}

function settle(disk: MemoryDisk, settlement: Settlement): SettlementOutcome {
  const earlier = disk.receiptByRequest.get(settlement.receipt.requestId);
  if (earlier !== undefined) return { ok: true, leafIndex: earlier.leafIndex, isReplay: true };
  const decision = decide(disk, settlement.transfers);
  if (!decision.ok) return decision;
  writeDown(disk, decision);
  const receipt: ReceiptRecord = { ...settlement.receipt, leafIndex: disk.receipts.length };
  disk.receipts.push(receipt);
  disk.receiptById.set(receipt.receiptId, receipt);
  disk.receiptByRequest.set(receipt.requestId, receipt);
  if (settlement.parts !== undefined) disk.receiptParts.set(receipt.requestId, settlement.parts);
  if (disk.keys.has(receipt.keyId)) {
    disk.spent.set(receipt.keyId, addUsd(disk.spent.get(receipt.keyId) ?? ZERO_USD, receipt.costMicroUsd));
  }
  return { ok: true, leafIndex: receipt.leafIndex, isReplay: false };
}

function decide(disk: MemoryDisk, transfers: readonly Transfer[]): LedgerDecision {
  return decideBatch(transfers, {
    transfer: (id) => disk.transfers.get(id),
    isOpen: (id) => disk.open.has(id),
    account: (id) => disk.accounts.get(id),
  });
}

function writeDown(disk: MemoryDisk, change: LedgerChange): void {
  for (const account of change.accounts) disk.accounts.set(account.accountId, account);
  for (const transfer of change.transfers) disk.transfers.set(transfer.transferId, transfer);
  for (const id of change.opened) disk.open.add(id);
  for (const id of change.closed) disk.open.delete(id);
}

/** In the order of application: a transfer opens when it is applied. */
function openOnes(disk: MemoryDisk): Transfer[] {
  return [...disk.open].flatMap((id) => disk.transfers.get(id) ?? []);
}

function usageOf(disk: MemoryDisk, receipts: readonly ReceiptRecord[]): readonly UsageRow[] {
  const rows = new Map<string, UsageRow>();
  for (const receipt of receipts) {
    const { tenantId, keyId, modelId, tier } = receipt;
    const day = dayOf(receipt.createdAtMs);
    const parts = disk.receiptParts.get(receipt.requestId) ?? [];
    for (const [at, part] of (parts.length > 0 ? parts : [{ ...receipt, provider: GRID_PROVIDER }]).entries()) {
      const { provider } = part;
      const name = JSON.stringify([day, tenantId, keyId, modelId, tier, provider]);
      const row = rows.get(name);
      rows.set(name, {
        day,
        tenantId,
        keyId,
        modelId,
        tier,
        provider,
        requests: (row?.requests ?? 0) + (at === 0 ? 1 : 0),
        promptTokens: (row?.promptTokens ?? 0) + part.promptTokens,
        outputTokens: (row?.outputTokens ?? 0) + part.outputTokens,
        costMicroUsd: addUsd(row?.costMicroUsd ?? ZERO_USD, part.costMicroUsd),
      });
    }
  }
  return [...rows.entries()].sort(byKey(([name]) => name)).map(([, row]) => row);
}

/** Order by bytes, as the real stores sort ids. */
export function byKey<T>(key: (item: T) => string): (a: T, b: T) => number {
  return (a, b) => (key(a) < key(b) ? -1 : key(a) > key(b) ? 1 : 0);
}
