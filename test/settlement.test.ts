/** Settlement over the memory store on virtual time: holds, receipts, budgets, restarts, a store that fails. */
import { describe, expect, test } from "vitest";
import { LATE_HOLD_MS } from "../src/coordinator/settlement/settlement.ts";
import { FallowError } from "../src/domain/fault.ts";
import type { ReceiptId } from "../src/domain/ids.ts";
import { microUsd } from "../src/domain/money.ts";
import { nodeIdOf } from "../src/domain/node-id.ts";
import { nodeHeldAccount, nodePayableAccount } from "../src/market/accounts.ts";
import { openCheckpoint } from "../src/market/checkpoint.ts";
import { isConsistent } from "../src/market/merkle-log.ts";
import { AUDIT_WINDOW_MS } from "../src/market/release.ts";
import { verifyReceipt } from "../src/market/verify-receipt.ts";
import { parseSignedReceipt } from "../src/wire/receipt.ts";
import { aSettleRequest, crypto, nodeKey, SettlementGrid, sha256 } from "./support/settlement-grid.ts";
import { anApiKey, madeId } from "./support/store-samples.ts";

const FULL = new FallowError("disk-full", "the disk is full");
const tools = { parse: parseSignedReceipt, crypto };
const nodeOf = (node: number) => nodeIdOf(sha256(nodeKey(node).publicKey));

describe("a request", () => {
  test("is held with the most it can cost and charged with what it cost", async () => {
    const grid = await SettlementGrid.start(1_000);
    expect(await grid.hold(1, 400)).toEqual({ ok: true, value: undefined });
    expect(await grid.available()).toBe(600);
    const settled = await grid.settlement.settle(aSettleRequest(1, [{ node: 1, tokens: [1, 2, 3] }]));
    expect(settled.costMicroUsd).toBe(106);
    expect(await grid.available()).toBe(894);
    expect(await grid.store.ledger.openHolds()).toEqual([]);
    expect(await grid.settlement.check()).toEqual({ isBalanced: true, accounts: 7, openHolds: 0, problems: [] });
  });

  test("that the balance does not cover is refused with both amounts", async () => {
    const grid = await SettlementGrid.start(1_000);
    const refused = await grid.hold(1, 1_001);
    expect(refused).toMatchObject({ ok: false, reason: { code: "insufficient-funds" } });
    expect(refused.ok || refused.reason.message).toContain("0.001001 USD");
    expect(refused.ok || refused.reason.message).toContain("0.001000 USD");
    expect(await grid.hold(2, 1_000)).toMatchObject({ ok: true });
  });

  test("that is voided gives its hold back, once", async () => {
    const grid = await SettlementGrid.start(1_000);
    await grid.hold(1, 400);
    await Promise.all([grid.settlement.voidHold(madeId("req", 1)), grid.settlement.voidHold(madeId("req", 1))]);
    await grid.settlement.voidHold(madeId("req", 1));
    await grid.settlement.voidHold(madeId("req", 2));
    expect(await grid.available()).toBe(1_000);
  });

  test("whose hold may wait is charged as any other, whether it was written before its settlement or with it", async () => {
    const grid = await SettlementGrid.start(1_000);
    const waiting = grid.hold(1, 400, { mayWait: true });
    expect(await grid.available()).toBe(1_000);
    const settled = await grid.settlement.settle(aSettleRequest(1, [{ node: 1, tokens: [1, 2, 3] }]));
    expect([settled.costMicroUsd, await waiting]).toEqual([106, { ok: true, value: undefined }]);
    const written = grid.hold(2, 400, { mayWait: true });
    await grid.pass(LATE_HOLD_MS);
    expect(await written).toMatchObject({ ok: true });
    expect(await grid.available()).toBe(494);
    await grid.settlement.settle(aSettleRequest(2, [{ node: 1, tokens: [1, 2, 3] }]));
    expect(await grid.available()).toBe(788);
    expect(await grid.settlement.check()).toMatchObject({ isBalanced: true, openHolds: 0, problems: [] });
  });

  test("whose hold may wait and that is voided meanwhile leaves nothing in the books", async () => {
    const grid = await SettlementGrid.start(1_000);
    const waiting = grid.hold(1, 400, { mayWait: true });
    await grid.settlement.voidHold(madeId("req", 1));
    expect(await waiting).toMatchObject({ ok: true });
    await grid.pass(LATE_HOLD_MS);
    expect(await grid.available()).toBe(1_000);
    expect(await grid.store.ledger.openHolds()).toEqual([]);
  });

  test("whose hold does not wait comes after those that do", async () => {
    const grid = await SettlementGrid.start(1_000);
    const waiting = grid.hold(1, 600, { mayWait: true });
    const next = grid.hold(2, 600);
    expect(await waiting).toMatchObject({ ok: true });
    expect(await next).toMatchObject({ ok: false, reason: { code: "insufficient-funds" } });
  });

  test("settled twice has one charge and one receipt, also when both come at once", async () => {
    const grid = await SettlementGrid.start(1_000);
    await grid.hold(1, 400);
    const request = aSettleRequest(1, [{ node: 1, tokens: [1, 2, 3] }]);
    const [first, second] = await Promise.all([grid.settlement.settle(request), grid.settlement.settle(request)]);
    const third = await grid.settlement.settle(request);
    expect([second, third]).toEqual([first, first]);
    expect(await grid.available()).toBe(894);
    expect(await grid.store.receipts.leafCount()).toBe(1);
  });

  test("that failed over pays each node for what it delivered, and the prompt once", async () => {
    const grid = await SettlementGrid.start(10_000);
    await grid.hold(1, 10_000);
    const { costMicroUsd } = await grid.settlement.settle(
      aSettleRequest(1, [
        { node: 1, tokens: Array.from({ length: 50 }, () => 3), ending: "node-lost" },
        { node: 2, tokens: Array.from({ length: 150 }, () => 4) },
      ]),
    );
    expect(costMicroUsd).toBe(100 + 400);
    expect((await grid.store.ledger.account(nodeHeldAccount(nodeOf(1))))?.creditsPosted).toBe(85);
    expect((await grid.store.ledger.account(nodeHeldAccount(nodeOf(2))))?.creditsPosted).toBe(255 + 85);
    expect((await grid.settlement.check()).isBalanced).toBe(true);
  });

  test("of a free model needs no balance and still has a receipt", async () => {
    const grid = await SettlementGrid.start(0);
    expect(await grid.hold(1, 0)).toMatchObject({ ok: true });
    const free = { inputMicroUsdPerMtok: 0, outputMicroUsdPerMtok: 0 };
    const request = { ...aSettleRequest(1, [{ node: 1, tokens: [1], ending: "node-lost" }]), price: free };
    const { receiptId, costMicroUsd } = await grid.settlement.settle(request);
    expect(costMicroUsd).toBe(0);
    expect(verifyReceipt(await grid.settlement.signedReceipt(receiptId), tools).isValid).toBe(true);
  });

  test("whose counts do not agree is a bug and charges nothing", async () => {
    const grid = await SettlementGrid.start(1_000);
    await grid.hold(1, 400);
    const request = aSettleRequest(1, [{ node: 1, tokens: [1, 2, 3] }]);
    const [choice] = request.choices;
    if (choice === undefined) throw new Error("there is a choice");
    const inflated = { ...request, choices: [{ ...choice, outputTokens: 4 }] };
    await expect(grid.settlement.settle(inflated)).rejects.toThrow("its attempts 3");
    expect(await grid.store.receipts.leafCount()).toBe(0);
  });
});

describe("a key's budget", () => {
  test("counts what was settled and what is held, over many requests at once", async () => {
    const grid = await SettlementGrid.start();
    const answers = await Promise.all([1, 2, 3, 4, 5].map((number) => grid.hold(number, 300, { budget: 1_000 })));
    expect(answers.map((answer) => answer.ok)).toEqual([true, true, true, false, false]);
    const refused = answers[3];
    expect(refused?.ok === false && refused.reason.message).toContain(
      "0.000100 USD left of its budget of 0.001000 USD",
    );
    await grid.settlement.settle(aSettleRequest(1, [{ node: 1, tokens: [1, 2, 3] }]));
    await grid.settlement.voidHold(madeId("req", 2));
    expect(await grid.hold(6, 595, { budget: 1_000 })).toMatchObject({
      ok: false,
      reason: { code: "budget-exceeded" },
    });
    expect(await grid.hold(7, 594, { budget: 1_000 })).toMatchObject({ ok: true });
  });

  test("remembers over a restart what was settled, and forgets what was held", async () => {
    const grid = await SettlementGrid.start();
    await grid.hold(1, 300, { budget: 1_000 });
    await grid.settlement.settle(aSettleRequest(1, [{ node: 1, tokens: [1, 2, 3] }]));
    await grid.hold(2, 800, { budget: 1_000 });
    expect(await grid.restart()).toEqual({ voidedHolds: 1, receipts: 1 });
    expect(await grid.store.keys.spent(anApiKey(1).keyId)).toBe(106);
    expect(await grid.hold(3, 895, { budget: 1_000 })).toMatchObject({ ok: false });
    expect(await grid.hold(4, 894, { budget: 1_000 })).toMatchObject({ ok: true });
  });
});

describe("a store that fails", () => {
  test("makes a settlement fail after a few tries; the hold can then be voided when the store is back", async () => {
    const grid = await SettlementGrid.start(1_000);
    await grid.hold(1, 400);
    grid.breakStore(FULL);
    const failing = expect(grid.settlement.settle(aSettleRequest(1, [{ node: 1, tokens: [1] }]))).rejects.toMatchObject(
      { code: "disk-full" },
    );
    await grid.pass(1_000);
    await failing;
    await grid.settlement.voidHold(madeId("req", 1));
    expect(await grid.available()).toBe(600);
    grid.breakStore(null);
    await grid.pass(60_000);
    expect(await grid.available()).toBe(1_000);
    expect(grid.events).toContain("void put off");
  });

  test("that comes back within the tries leaves one charge", async () => {
    const grid = await SettlementGrid.start(1_000);
    await grid.hold(1, 400);
    grid.breakStore(FULL);
    const settling = grid.settlement.settle(aSettleRequest(1, [{ node: 1, tokens: [1] }]));
    await grid.pass(100);
    grid.breakStore(null);
    await grid.pass(1_000);
    expect((await settling).costMicroUsd).toBe(102);
    expect((await grid.settlement.check()).isBalanced).toBe(true);
  });

  test("makes a hold fail, and what may have reached the disk is given back later", async () => {
    const grid = await SettlementGrid.start(1_000);
    grid.breakStore(FULL);
    await expect(grid.hold(1, 400, { budget: 1_000 })).rejects.toMatchObject({ code: "disk-full" });
    grid.breakStore(null);
    await grid.pass(60_000);
    expect(await grid.hold(2, 1_000, { budget: 1_000 })).toMatchObject({ ok: true });
  });
});

describe("a node's share", () => {
  test("becomes payable after the audit window, by itself", async () => {
    const grid = await SettlementGrid.start();
    await grid.hold(1, 400);
    await grid.settlement.settle(aSettleRequest(1, [{ node: 1, tokens: [1, 2, 3] }]));
    const held = nodeHeldAccount(nodeOf(1));
    const payable = nodePayableAccount(nodeOf(1));
    await grid.pass(AUDIT_WINDOW_MS - 60_000);
    expect(await grid.store.ledger.account(payable)).toBeNull();
    await grid.pass(180_000);
    expect((await grid.store.ledger.account(payable))?.creditsPosted).toBe(90);
    expect(await grid.store.ledger.account(held)).toMatchObject({ creditsPosted: 90, debitsPosted: 90 });
    expect(await grid.settlement.releaseDue()).toBe(0);
    expect((await grid.settlement.check()).isBalanced).toBe(true);
  });

  test("is released in batches when many are due", async () => {
    const grid = await SettlementGrid.start();
    for (let number = 1; number <= 450; number++) {
      await grid.hold(number, 200);
      await grid.settlement.settle(aSettleRequest(number, [{ node: 1, tokens: [1], ending: "node-lost" }]));
    }
    grid.clock.stepWall(AUDIT_WINDOW_MS + 1);
    expect(await grid.settlement.releaseDue()).toBe(450);
  });

  test("nothing runs any more after stop", async () => {
    const grid = await SettlementGrid.start();
    grid.settlement.stop();
    grid.settlement.stop();
    await grid.pass(300_000);
    expect(grid.timeline.waiting).toBe(0);
  });
});

describe("a receipt", () => {
  test("verifies at every size of the log, before and after a restart", async () => {
    const grid = await SettlementGrid.start(10_000_000);
    const ids = [];
    for (let number = 1; number <= 300; number++) {
      await grid.hold(number, 400);
      const { receiptId } = await grid.settlement.settle(
        aSettleRequest(number, [
          { node: number % 3, tokens: [number, 2, 3], ...(number % 5 === 0 ? { ending: "node-lost" as const } : {}) },
        ]),
      );
      ids.push(receiptId);
      if (number < 6 || number === 256 || number === 257) {
        for (const id of [ids[0], receiptId]) await expectValid(grid, id);
      }
    }
    await grid.restart();
    for (const id of [ids[0], ids[255], ids[256], ids[299]]) await expectValid(grid, id);
  });

  async function expectValid(grid: SettlementGrid, id: ReceiptId | undefined) {
    if (id === undefined) throw new Error("there is such a receipt");
    // What a tenant gets went through JSON.
    const received: unknown = JSON.parse(JSON.stringify(await grid.settlement.signedReceipt(id)));
    const { checks } = verifyReceipt(received, tools);
    expect(checks.filter((check) => !check.isPassed)).toEqual([]);
  }

  test("that nobody wrote is null", async () => {
    const grid = await SettlementGrid.start();
    expect(await grid.settlement.signedReceipt(madeId("rcpt", 1))).toBeNull();
  });

  test("of an attempt with an unreadable statement leaves it out", async () => {
    const grid = await SettlementGrid.start();
    await grid.hold(1, 400);
    const request = aSettleRequest(1, [{ node: 1, tokens: [1] }]);
    const [attempt] = request.attempts;
    if (attempt === undefined) throw new Error("there is an attempt");
    const { receiptId } = await grid.settlement.settle({ ...request, attempts: [{ ...attempt, statementJson: "{" }] });
    const receipt = await grid.settlement.signedReceipt(receiptId);
    expect(receipt?.body.attempts[0]).toMatchObject({ statement: null, nodeSignature: null });
    expect(grid.events).toContain("statement dropped");
    expect(verifyReceipt(receipt, tools).isValid).toBe(true);
  });

  test("stands in a log whose checkpoints are signed and only grow", async () => {
    const grid = await SettlementGrid.start();
    const empty = openCheckpoint(await grid.settlement.checkpoint(), grid.keyPair.publicKey, crypto);
    expect(empty?.size).toBe(0);
    await grid.hold(1, 400);
    await grid.settlement.settle(aSettleRequest(1, [{ node: 1, tokens: [1] }]));
    const one = openCheckpoint(await grid.settlement.checkpoint(), grid.keyPair.publicKey, crypto);
    await grid.hold(2, 400);
    const { receiptId } = await grid.settlement.settle(aSettleRequest(2, [{ node: 1, tokens: [2] }]));
    const receipt = await grid.settlement.signedReceipt(receiptId);
    const two = openCheckpoint(receipt?.inclusion.checkpoint ?? "", grid.keyPair.publicKey, crypto);
    if (one === null || two === null) throw new Error("both checkpoints are signed");
    expect([one.origin, one.size, two.size]).toEqual(["fallow/grid-1", 1, 2]);
    // The path from size 1 to 2 is the second leaf.
    const leaf = (await grid.store.receipts.leaves({ from: 1, to: 2 }))[0] ?? "";
    expect(isConsistent({ from: one, to: two, path: [new Uint8Array(Buffer.from(leaf, "hex"))] }, sha256)).toBe(true);
  });
});

test("books that are out of order are reported with the amounts", async () => {
  const grid = await SettlementGrid.start(1_000);
  await grid.hold(1, 400);
  const escrow = [...grid.store.disk.accounts.values()].find((account) => account.accountId === "escrow");
  if (escrow === undefined) throw new Error("there is an escrow account");
  grid.store.disk.accounts.set(escrow.accountId, {
    ...escrow,
    creditsPosted: microUsd(5),
    creditsPending: microUsd(300),
  });
  const audit = await grid.settlement.check();
  expect(audit.isBalanced).toBe(false);
  expect(audit.problems).toEqual([
    "all posted amounts together are 5 micro-USD: they must be zero",
    "all held amounts together are -100 micro-USD: they must be zero",
    "escrow took in 5 and paid out 0 micro-USD: they must be equal",
    "escrow expects 300 micro-USD, the open holds are 400",
    "charges of 5 micro-USD were posted, receipts are over 0",
  ]);
});
