import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type AccountId, accountId, requestId, type TransferId, tenantId, transferId } from "../domain/ids.ts";
import { type Account, availableMicroUsd, type Transfer } from "../domain/ledger.ts";
import { microUsd } from "../domain/money.ts";
import { ESCROW, tenantAccount } from "./accounts.ts";
import { holdTransfer, voidTransfer } from "./hold.ts";
import { houseCredit } from "./house.ts";
import { closeIdOf, decideBatch, type LedgerDecision, NODE_SHARE, referencedBy } from "./ledger.ts";

/** The smallest thing that keeps what the law decides. */
class Books {
  readonly accounts = new Map<AccountId, Account>();
  readonly transfers = new Map<TransferId, Transfer>();
  readonly open = new Set<TransferId>();

  apply(...batch: readonly Transfer[]): LedgerDecision {
    const decision = decideBatch(batch, {
      transfer: (id) => this.transfers.get(id),
      isOpen: (id) => this.open.has(id),
      account: (id) => this.accounts.get(id),
    });
    if (!decision.ok) return decision;
    for (const account of decision.accounts) this.accounts.set(account.accountId, account);
    for (const transfer of decision.transfers) this.transfers.set(transfer.transferId, transfer);
    for (const id of decision.opened) this.open.add(id);
    for (const id of decision.closed) this.open.delete(id);
    return decision;
  }

  state(): unknown {
    return [...this.accounts.values()].sort((a, b) => (a.accountId < b.accountId ? -1 : 1));
  }
}

const TENANTS = [0, 1, 2].map((number) => tenantId(`ten_${String(number).padStart(26, "0")}`));
const [first] = TENANTS;
if (first === undefined) throw new Error("there is a tenant");
const requestOf = (number: number) => requestId(`req_${String(number).padStart(26, "0")}`);
const credit = (tenant: number, amount: number, creditId = "first") =>
  houseCredit({ tenantId: TENANTS[tenant] ?? first, creditId, amountMicroUsd: microUsd(amount), atMs: 1 });
const hold = (request: number, tenant: number, amount: number) =>
  holdTransfer({
    requestId: requestOf(request),
    tenantId: TENANTS[tenant] ?? first,
    amountMicroUsd: microUsd(amount),
    atMs: 2,
  });
const post = (held: Transfer, amount: number): Transfer => ({
  ...held,
  transferId: transferId(`${held.requestId}:charge`),
  kind: "post",
  amountMicroUsd: microUsd(amount),
  holdTransferId: held.transferId,
  reason: "charge",
});

describe("holds", () => {
  test("a post of less than was held restores the rest", () => {
    const books = new Books();
    books.apply(credit(0, 100), hold(1, 0, 60));
    expect(books.apply(post(hold(1, 0, 60), 25))).toMatchObject({ ok: true, isReplay: false });
    expect(books.accounts.get(tenantAccount(first))).toMatchObject({ debitsPending: 0, debitsPosted: 25 });
    expect(books.accounts.get(ESCROW)).toMatchObject({ creditsPending: 0, creditsPosted: 25 });
  });

  test("a hold is resolved at most once, by a post or by a void", () => {
    const books = new Books();
    books.apply(credit(0, 100), hold(1, 0, 60), hold(2, 0, 10));
    books.apply(post(hold(1, 0, 60), 60));
    books.apply(voidTransfer(hold(2, 0, 10), 9));
    expect(books.apply(voidTransfer(hold(1, 0, 60), 9))).toMatchObject({ reason: { code: "hold-already-resolved" } });
    expect(books.apply(post(hold(2, 0, 10), 1))).toMatchObject({ reason: { code: "hold-already-resolved" } });
  });

  test("a post beyond the hold, or of a hold that nobody made, is refused", () => {
    const books = new Books();
    books.apply(credit(0, 100), hold(1, 0, 60));
    expect(books.apply(post(hold(1, 0, 60), 61))).toMatchObject({ reason: { code: "hold-exceeded" } });
    expect(books.apply(post(hold(7, 0, 60), 1))).toMatchObject({ reason: { code: "hold-unknown" } });
    const notAHold = { ...post(hold(7, 0, 60), 1), holdTransferId: credit(0, 100).transferId };
    expect(books.apply(notAHold)).toMatchObject({ reason: { code: "hold-unknown" } });
  });

  test("a hold and its post may come in one batch", () => {
    const books = new Books();
    expect(books.apply(credit(0, 100), hold(1, 0, 60), post(hold(1, 0, 60), 10))).toMatchObject({
      ok: true,
      opened: [],
    });
    expect(books.open.size).toBe(0);
  });

  test("what is held cannot be spent again", () => {
    const books = new Books();
    books.apply(credit(0, 100), hold(1, 0, 60));
    expect(books.apply(hold(2, 0, 41))).toEqual({
      ok: false,
      reason: {
        code: "insufficient-funds",
        accountId: tenantAccount(first),
        availableMicroUsd: 40,
        neededMicroUsd: 41,
      },
    });
  });
});

describe("identity", () => {
  test("the same id with any other field is refused, with another time it is a replay", () => {
    const books = new Books();
    const original = hold(1, 0, 10);
    books.apply(credit(0, 100), original);
    expect(books.apply({ ...original, atMs: 77 })).toMatchObject({
      ok: true,
      isReplay: true,
      transfers: [],
      accounts: [],
    });
    const others: readonly Partial<Transfer>[] = [
      { amountMicroUsd: microUsd(11) },
      { reason: "other" },
      { requestId: null },
      { creditAccountId: accountId("rev:platform") },
      { debitAccountId: accountId("rev:audit") },
    ];
    for (const other of others) {
      expect(books.apply({ ...original, ...other })).toMatchObject({ reason: { code: "transfer-differs" } });
    }
  });

  test("a batch of which a part was applied before applies the rest", () => {
    const books = new Books();
    books.apply(credit(0, 100));
    expect(books.apply(credit(0, 100), hold(1, 0, 10))).toMatchObject({ ok: true, isReplay: false });
    expect(books.accounts.get(tenantAccount(first))).toMatchObject({ creditsPosted: 100, debitsPending: 10 });
  });

  test("malformed transfers are bugs", () => {
    const books = new Books();
    expect(() => books.apply({ ...credit(0, 5), amountMicroUsd: microUsd(0) })).toThrow("more than zero");
    expect(() => books.apply({ ...credit(0, 5), creditAccountId: credit(0, 5).debitAccountId })).toThrow(
      "two accounts",
    );
    expect(() => books.apply({ ...hold(1, 0, 5), holdTransferId: transferId("x") })).toThrow("only post and void");
  });

  test("a store is told every id that the law will ask for, in an order that it can lock by", () => {
    const batch = [post(hold(1, 0, 5), 5), credit(1, 5)];
    expect(referencedBy(batch)).toEqual({
      transferIds: [credit(1, 5).transferId, `${requestOf(1)}:charge`, `${requestOf(1)}:hold`].sort(),
      accountIds: ["escrow", "ext:house", tenantAccount(first), credit(1, 5).creditAccountId].sort(),
    });
  });
});

describe("a node's share", () => {
  const share: Transfer = { ...credit(0, 10), transferId: transferId("share"), reason: NODE_SHARE };
  const close = (reason: string, to: string): Transfer => ({
    ...share,
    transferId: closeIdOf(share.transferId),
    debitAccountId: share.creditAccountId,
    creditAccountId: accountId(to),
    reason,
  });

  test("is open until it is released, and cannot be released and refunded", () => {
    const books = new Books();
    expect(books.apply(share)).toMatchObject({ opened: ["share"] });
    expect(books.apply(close("release", "node:n:payable"))).toMatchObject({ closed: ["share"] });
    expect(books.apply(close("refund", "tenant:t"))).toMatchObject({ reason: { code: "transfer-differs" } });
  });
});

/** Any mix of credits, holds, posts and voids over three tenants, replays and refused ones among them. */
const anyTransfer: fc.Arbitrary<Transfer> = fc
  .record({
    kind: fc.constantFrom("credit", "hold", "post", "void"),
    tenant: fc.nat(2),
    request: fc.nat(6),
    amount: fc.integer({ min: 1, max: 50 }),
  })
  .map(({ kind, tenant, request, amount }) => {
    const held = hold(request, request % 3, 5 + request * 7);
    if (kind === "credit") return credit(tenant, amount, `gift-${amount}`);
    if (kind === "hold") return held;
    return kind === "post" ? post(held, amount) : voidTransfer(held, 9);
  });

describe("laws", () => {
  test("debits equal credits and no account but the outside is overdrawn, whatever is applied", () => {
    fc.assert(
      fc.property(fc.array(fc.array(anyTransfer, { minLength: 1, maxLength: 4 }), { maxLength: 30 }), (batches) => {
        const books = new Books();
        for (const batch of batches) {
          books.apply(...batch);
          let posted = 0;
          let pending = 0;
          for (const account of books.accounts.values()) {
            posted += account.creditsPosted - account.debitsPosted;
            pending += account.creditsPending - account.debitsPending;
            expect(Math.min(account.debitsPending, account.creditsPending)).toBeGreaterThanOrEqual(0);
            if (account.mustNotOverdraw) expect(availableMicroUsd(account)).toBeGreaterThanOrEqual(0);
          }
          expect([posted, pending]).toEqual([0, 0]);
        }
      }),
    );
  });

  test("a batch applied again changes nothing, and a refused one changed nothing", () => {
    fc.assert(
      fc.property(fc.array(fc.array(anyTransfer, { minLength: 1, maxLength: 4 }), { maxLength: 30 }), (batches) => {
        const books = new Books();
        for (const batch of batches) {
          const before = JSON.stringify(books.state());
          const decision = books.apply(...batch);
          const after = JSON.stringify(books.state());
          if (!decision.ok || decision.isReplay) expect(after).toBe(before);
          if (decision.ok) expect(books.apply(...batch)).toMatchObject({ ok: true, isReplay: true });
          expect(JSON.stringify(books.state())).toBe(after);
        }
      }),
    );
  });

  test("independent batches give the same books in any order", () => {
    const request = fc.record({ amount: fc.integer({ min: 1, max: 40 }), used: fc.integer({ min: 0, max: 40 }) });
    const scenario = fc.array(request, { minLength: 2, maxLength: 8 }).chain((requests) =>
      fc.record({
        requests: fc.constant(requests),
        order: fc.shuffledSubarray(
          requests.map((_, index) => index),
          { minLength: requests.length },
        ),
      }),
    );
    const settled = (requests: readonly { amount: number; used: number }[], order: readonly number[]) => {
      const books = new Books();
      books.apply(credit(0, 1_000), credit(1, 1_000), credit(2, 1_000));
      for (const index of order) {
        const { amount, used } = requests[index] ?? { amount: 1, used: 0 };
        const held = hold(index, index % 3, amount);
        expect(books.apply(held).ok).toBe(true);
        const end = used === 0 ? voidTransfer(held, 9) : post(held, Math.min(used, amount));
        expect(books.apply(end).ok).toBe(true);
      }
      return books.state();
    };
    fc.assert(
      fc.property(scenario, ({ requests, order }) => {
        expect(settled(requests, order)).toEqual(settled(requests, [...requests.keys()]));
      }),
    );
  });
});
