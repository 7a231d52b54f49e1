/** The part of the store contract that is about money: ledger, receipts, log leaves and usage. */
import { beforeEach, describe, expect, test } from "vitest";
import { transferId } from "../../src/domain/ids.ts";
import type { Account } from "../../src/domain/ledger.ts";
import { microUsd } from "../../src/domain/money.ts";
import { ESCROW, HOUSE, nodeHeldAccount, tenantAccount } from "../../src/market/accounts.ts";
import { holdTransfer, voidTransfer } from "../../src/market/hold.ts";
import { releaseTransfer } from "../../src/market/release.ts";
import { settlementOf } from "../../src/market/settle.ts";
import type { Store } from "../../src/ports/store.ts";
import { anApiKey, aReceipt, aTenant, credit, madeId, nodeIdOf, settlementFor } from "./store-samples.ts";

/** `now` is the store as it is open at present. */
export function describeLedgerContract(at: { now(): Store; reopen(): Promise<void> }): void {
  describe("ledger", () => {
    const tenant = aTenant(1).tenantId;
    const hold = (request: number, amount: number) =>
      holdTransfer({
        requestId: madeId("req", request),
        tenantId: tenant,
        amountMicroUsd: microUsd(amount),
        atMs: 50,
      });

    test("a batch applies once, and its replay at another time changes nothing", async () => {
      expect(await at.now().ledger.apply([credit(tenant, 1_000)])).toEqual({ ok: true, isReplay: false });
      expect(await at.now().ledger.apply([{ ...credit(tenant, 1_000), atMs: 999 }])).toEqual({
        ok: true,
        isReplay: true,
      });
      await at.reopen();
      expect(await at.now().ledger.account(tenantAccount(tenant))).toMatchObject({
        creditsPosted: 1_000,
        debitsPosted: 0,
      });
      expect(await at.now().ledger.account(HOUSE)).toMatchObject({ debitsPosted: 1_000, mustNotOverdraw: false });
      expect(await at.now().ledger.account(ESCROW)).toBeNull();
      expect(await at.now().ledger.transfers({ limit: 10 })).toEqual([credit(tenant, 1_000)]);
    });

    test("a batch with one refused transfer leaves no trace of the others", async () => {
      const refused = await at.now().ledger.apply([credit(tenant, 10), hold(1, 11)]);
      expect(refused).toEqual({
        ok: false,
        reason: {
          code: "insufficient-funds",
          accountId: tenantAccount(tenant),
          availableMicroUsd: 10,
          neededMicroUsd: 11,
        },
      });
      expect(await at.now().ledger.accounts()).toEqual([]);
      expect(await at.now().ledger.transfers({ limit: 10 })).toEqual([]);
    });

    test("an id that returns with another amount is refused", async () => {
      await at.now().ledger.apply([credit(tenant, 10)]);
      expect(await at.now().ledger.apply([credit(tenant, 11)])).toMatchObject({
        ok: false,
        reason: { code: "transfer-differs" },
      });
    });

    test("an open hold is listed until it is resolved, across restarts", async () => {
      await at.now().ledger.apply([credit(tenant, 100)]);
      await at.now().ledger.apply([hold(1, 30)]);
      await at.now().ledger.apply([hold(2, 40)]);
      await at.reopen();
      expect(await at.now().ledger.openHolds()).toEqual([hold(1, 30), hold(2, 40)]);
      expect(await at.now().ledger.account(tenantAccount(tenant))).toMatchObject({ debitsPending: 70 });
      expect(await at.now().ledger.apply([voidTransfer(hold(1, 30), 60)])).toEqual({ ok: true, isReplay: false });
      await at.reopen();
      expect(await at.now().ledger.openHolds()).toEqual([hold(2, 40)]);
      const post = { ...voidTransfer(hold(1, 30), 60), transferId: transferId("other"), kind: "post" as const };
      expect(await at.now().ledger.apply([post])).toMatchObject({
        ok: false,
        reason: { code: "hold-already-resolved" },
      });
    });

    test("transfers of an account come newest first, whichever side it is on", async () => {
      await at.now().ledger.apply([credit(tenant, 100)]);
      for (let request = 1; request <= 4; request++) await at.now().ledger.apply([hold(request, request)]);
      const ids = async (limit: number) =>
        (await at.now().ledger.transfers({ accountId: tenantAccount(tenant), limit })).map((one) => one.amountMicroUsd);
      expect(await ids(10)).toEqual([4, 3, 2, 1, 100]);
      expect(await ids(2)).toEqual([4, 3]);
      expect(await at.now().ledger.transfers({ accountId: HOUSE, limit: 10 })).toEqual([credit(tenant, 100)]);
    });

    test("fifty holds at once on one account never overdraw it", async () => {
      await at.now().ledger.apply([credit(tenant, 100)]);
      const outcomes = await Promise.all(
        Array.from({ length: 50 }, (_, index) => at.now().ledger.apply([hold(index, 7)])),
      );
      expect(outcomes.filter((outcome) => outcome.ok)).toHaveLength(14);
      expect(await at.now().ledger.account(tenantAccount(tenant))).toMatchObject({ debitsPending: 98 });
      expect(await at.now().ledger.openHolds()).toHaveLength(14);
    });

    test("a node's share is held until it is released", async () => {
      await at.now().ledger.apply([credit(tenant, 1_000)]);
      await at.now().ledger.apply([hold(1, 1_000)]);
      const { transfers } = settlementOf({
        requestId: madeId("req", 1),
        tenantId: tenant,
        heldMicroUsd: microUsd(1_000),
        price: { inputMicroUsdPerMtok: 1_000_000, outputMicroUsdPerMtok: 1_000_000 },
        promptTokens: 400,
        attempts: [{ nodeId: nodeIdOf(1), acknowledgedTokens: 600, hasFinished: true }],
        atMs: 5_000,
      });
      expect(await at.now().ledger.apply(transfers)).toEqual({ ok: true, isReplay: false });
      expect(await at.now().ledger.heldShares({ beforeMs: 5_000, limit: 10 })).toEqual([]);
      const [share] = await at.now().ledger.heldShares({ beforeMs: 5_001, limit: 10 });
      expect(share).toMatchObject({ amountMicroUsd: 850, creditAccountId: nodeHeldAccount(nodeIdOf(1)) });
      if (share === undefined) throw new Error("there is a share");
      const release = releaseTransfer(share, 6_000);
      expect(await at.now().ledger.apply([release])).toEqual({ ok: true, isReplay: false });
      expect(await at.now().ledger.apply([release])).toEqual({ ok: true, isReplay: true });
      await at.reopen();
      expect(await at.now().ledger.heldShares({ beforeMs: 9_000, limit: 10 })).toEqual([]);
      expect(sums(await at.now().ledger.accounts())).toEqual({ posted: 0, pending: 0 });
    });
  });

  describe("receipts", () => {
    const tenant = aTenant(1).tenantId;
    beforeEach(async () => {
      await at.now().tenants.create(aTenant(1));
      await at.now().keys.create(anApiKey(1));
      await at.now().ledger.apply([credit(tenant, 1_000_000)]);
    });

    test("a settlement writes postings, receipt, leaf and what the key spent, once", async () => {
      const settlement = settlementFor(1, { costMicroUsd: 250 });
      await at.now().ledger.apply(settlement.hold);
      expect(await at.now().receipts.settle(settlement)).toEqual({ ok: true, leafIndex: 0, isReplay: false });
      expect(await at.now().receipts.settle(settlement)).toEqual({ ok: true, leafIndex: 0, isReplay: true });
      await at.reopen();
      const kept = { ...settlement.receipt, leafIndex: 0 };
      expect(await at.now().receipts.get(settlement.receipt.receiptId)).toEqual(kept);
      expect(await at.now().receipts.byRequest(settlement.receipt.requestId)).toEqual(kept);
      expect(await at.now().receipts.get(aReceipt(9).receiptId)).toBeNull();
      expect(await at.now().receipts.byRequest(aReceipt(9).requestId)).toBeNull();
      expect(await at.now().keys.spent(anApiKey(1).keyId)).toBe(250);
      expect(await at.now().keys.spent(anApiKey(2).keyId)).toBe(0);
      expect(await at.now().ledger.account(ESCROW)).toMatchObject({ creditsPosted: 250, debitsPosted: 250 });
    });

    test("a refused settlement leaves no receipt and no leaf", async () => {
      const outcome = await at.now().receipts.settle(settlementFor(1, { costMicroUsd: 250 }));
      expect(outcome).toMatchObject({ ok: false, reason: { code: "hold-unknown" } });
      expect(await at.now().receipts.leafCount()).toBe(0);
      expect(await at.now().receipts.list({ limit: 10 })).toEqual([]);
    });

    test("sixteen settlements at once get sixteen leaves without a gap", async () => {
      const settlements = Array.from({ length: 16 }, (_, index) => settlementFor(index, { costMicroUsd: 10 + index }));
      for (const { hold } of settlements) await at.now().ledger.apply(hold);
      const outcomes = await Promise.all(settlements.map((settlement) => at.now().receipts.settle(settlement)));
      const places = outcomes.map((outcome) => (outcome.ok ? outcome.leafIndex : -1));
      expect([...places].sort((a, b) => a - b)).toEqual(Array.from({ length: 16 }, (_, index) => index));
      await at.reopen();
      expect(await at.now().receipts.leafCount()).toBe(16);
      const leaves = await at.now().receipts.leaves({ from: 3, to: 7 });
      expect(leaves).toEqual([3, 4, 5, 6].map((place) => settlements[places.indexOf(place)]?.receipt.leafSha256));
      expect(sums(await at.now().ledger.accounts())).toEqual({ posted: 0, pending: 0 });
      const newest = await at.now().receipts.list({ tenantId: tenant, limit: 3 });
      expect(newest.map((receipt) => receipt.leafIndex)).toEqual([15, 14, 13]);
      expect(await at.now().receipts.list({ tenantId: aTenant(2).tenantId, limit: 3 })).toEqual([]);
    });

    test("usage adds up by day, key, model and tier", async () => {
      const day = 86_400_000;
      const wanted = [
        { request: 1, atMs: day, cost: 5 },
        { request: 2, atMs: 2 * day - 1, cost: 7 },
        { request: 3, atMs: 2 * day, cost: 11 },
        { request: 4, atMs: 3 * day, cost: 13 },
      ];
      for (const { request, atMs, cost } of wanted) {
        const settlement = settlementFor(request, { costMicroUsd: cost, createdAtMs: atMs });
        await at.now().ledger.apply(settlement.hold);
        expect(await at.now().receipts.settle(settlement)).toMatchObject({ ok: true });
      }
      const rows = await at.now().receipts.usage({ tenantId: tenant, fromMs: 0, toMs: 3 * day });
      expect(rows.map(({ day: on, requests, costMicroUsd }) => [on, requests, costMicroUsd])).toEqual([
        ["1970-01-02", 2, 12],
        ["1970-01-03", 1, 11],
      ]);
      expect(rows.map(({ provider }) => provider)).toEqual(["grid", "grid"]);
      const { receipt } = settlementFor(1, { costMicroUsd: 5 });
      expect(rows[0]).toMatchObject({
        promptTokens: 2 * receipt.promptTokens,
        outputTokens: 2 * receipt.outputTokens,
      });
      expect(await at.now().receipts.usage({ tenantId: aTenant(2).tenantId, fromMs: 0, toMs: 9 * day })).toEqual([]);
      expect(await at.now().receipts.usage({ fromMs: 3 * day, toMs: 9 * day })).toHaveLength(1);
    });
  });
}

/** What all accounts together have: zero when every debit has its credit. */
export function sums(accounts: readonly Account[]): { posted: number; pending: number } {
  let posted = 0;
  let pending = 0;
  for (const account of accounts) {
    posted += account.creditsPosted - account.debitsPosted;
    pending += account.creditsPending - account.debitsPending;
  }
  return { posted, pending };
}
