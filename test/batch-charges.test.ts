/** A line that is run again, whatever a kill left of its money: held, voided, or charged. One charge comes of it. */
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { LineBook, lineSettlement } from "../src/coordinator/jobs/line-book.ts";
import { microUsd } from "../src/domain/money.ts";
import { aSettleRequest, SettlementGrid } from "./support/settlement-grid.ts";
import { anApiKey, aTenant } from "./support/store-samples.ts";

const BALANCE = 10_000;
/** 100 prompt tokens at 1 and 2 output tokens at 2 micro-USD. */
const COST = 104;

describe("a batch's line", () => {
  let grid: SettlementGrid;
  beforeEach(async () => {
    grid = await SettlementGrid.start(BALANCE);
  });
  afterEach(() => grid.settlement.stop());

  const settling = aSettleRequest(1, [{ node: 1, tokens: [7, 8] }]);
  const { requestId } = settling;

  async function held(run: string, isSettled: boolean, amount = 500) {
    const book = new LineBook();
    const line = {
      run,
      isSettled,
      endsAtMonoMs: 1e9,
      avoidedNodeIds: [],
      onStarted: () => undefined,
      onWaiting: () => undefined,
    };
    book.open(requestId, line);
    const settlement = lineSettlement(grid.settlement, book);
    const outcome = await settlement.hold({
      requestId,
      tenantId: aTenant(1).tenantId,
      keyId: anApiKey(1).keyId,
      budgetMicroUsd: null,
      amountMicroUsd: microUsd(amount),
      atMs: grid.clock.wallMs(),
    });
    expect(outcome.ok).toBe(true);
    return settlement;
  }

  async function expectChargedOnce(): Promise<void> {
    expect(await grid.available()).toBe(BALANCE - COST);
    expect(await grid.store.ledger.openHolds()).toEqual([]);
    expect(await grid.store.receipts.leafCount()).toBe(1);
    expect((await grid.settlement.check()).problems).toEqual([]);
  }

  test("that was killed while it ran holds anew, and is charged", async () => {
    await held("1.1", false);
    expect(await grid.restart()).toMatchObject({ voidedHolds: 1 });
    const again = await held("2.1", false);
    await again.settle(settling);
    await expectChargedOnce();
  });

  test("that failed and was voided runs again in the same life, also at another price", async () => {
    await (await held("1.1", false)).voidHold(requestId);
    await (await held("1.2", false, 600)).voidHold(requestId);
    expect(await grid.available()).toBe(BALANCE);
    await (await held("1.3", false, 700)).settle(settling);
    await expectChargedOnce();
  });

  test("that was charged before its result was kept is run for the result, and its settlement is the receipt that is there", async () => {
    const first = await (await held("1.1", false)).settle(settling);
    await grid.restart();
    const again = await held("2.1", true);
    // Another node, and another length: what was charged stands.
    const other = aSettleRequest(1, [{ node: 2, tokens: [7, 8, 9, 10] }]);
    expect(await again.settle(other)).toEqual(first);
    await expectChargedOnce();
  });
});
