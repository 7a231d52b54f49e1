import { expect, test } from "vitest";
import { keyId, requestId, tenantId } from "../../domain/ids.ts";
import { microUsd } from "../../domain/money.ts";
import type { SpendingStore } from "../../ports/store.ts";
import { NO_CAPS, type SpendingCaps, SpendingDesk } from "./spending-desk.ts";

const id = (number: number) => String(number).padStart(26, "0");
const [NOVEMBER_MS, DECEMBER_MS] = [Date.UTC(2026, 10, 22), Date.UTC(2026, 11, 1)];

/** A ledger of settled charges: what the store would add up. */
class Ledger implements SpendingStore {
  readonly rows: { key: string; tenant: string; month: string; amount: number }[] = [];
  reads = 0;
  /** Reads wait for it. */
  gate: Promise<void> = Promise.resolve();

  ofKey(key: string, month: string) {
    return this.#sum((row) => row.key === key, month);
  }
  ofTenant(tenant: string, month: string) {
    return this.#sum((row) => row.tenant === tenant, month);
  }
  async #sum(isOf: (row: Ledger["rows"][number]) => boolean, month: string) {
    this.reads += 1;
    const sum = (rows: Ledger["rows"]) => microUsd(rows.reduce((total, { amount }) => total + amount, 0));
    const rows = this.rows.filter(isOf);
    const spent = { totalMicroUsd: sum(rows), monthMicroUsd: sum(rows.filter((row) => row.month === month)) };
    await this.gate;
    return spent;
  }
}

const caps = (fields: Partial<Record<keyof SpendingCaps, number>>): SpendingCaps => ({
  ...NO_CAPS,
  ...Object.fromEntries(Object.entries(fields).map(([name, value]) => [name, microUsd(value)])),
});
const claim = (request: number, amount: number, more: { key?: number; atMs?: number } = {}) => ({
  requestId: requestId(`req_${id(request)}`),
  keyId: keyId(`key_${id(more.key ?? 1)}`),
  tenantId: tenantId(`ten_${id(1)}`),
  amountMicroUsd: microUsd(amount),
  atMs: more.atMs ?? NOVEMBER_MS,
});

test("requests are let in while the most they can cost fits under the cap, and what they did not use comes free", async () => {
  const desk = new SpendingDesk(new Ledger());
  const cap = caps({ keyMicroUsd: 100 });
  expect(await desk.reserve(claim(1, 60), cap)).toBeNull();
  expect(await desk.reserve(claim(2, 41), cap)).toMatchObject({ code: "budget-exceeded", retryAfterMs: null });
  expect(await desk.reserve(claim(3, 40), cap)).toBeNull();
  desk.end(claim(1, 60).requestId, microUsd(10));
  desk.end(claim(1, 60).requestId, microUsd(10));
  expect(await desk.reserve(claim(4, 50), cap)).toBeNull();
  expect(desk.tightest(claim(9, 0), cap)).toMatchObject({ whose: "key", scope: "total", leftMicroUsd: 0 });
});

test("many at once ask the store once, and never pass the cap together", async () => {
  const ledger = new Ledger();
  ledger.rows.push({ key: claim(0, 0).keyId, tenant: claim(0, 0).tenantId, month: "2026-10", amount: 30 });
  const desk = new SpendingDesk(ledger);
  const outcomes = await Promise.all(
    Array.from({ length: 100 }, (_, at) => desk.reserve(claim(at, 7), caps({ keyMicroUsd: 100 }))),
  );
  expect(outcomes.filter((refusal) => refusal === null)).toHaveLength(10);
  expect(ledger.reads).toBe(1);
});

test("a month's cap counts what was settled in the month, tells when the next begins, and is new then", async () => {
  const ledger = new Ledger();
  const of = { key: claim(0, 0).keyId, tenant: claim(0, 0).tenantId };
  ledger.rows.push({ ...of, month: "2026-11", amount: 90 }, { ...of, month: "2026-10", amount: 900 });
  const desk = new SpendingDesk(ledger);
  const cap = caps({ keyMonthMicroUsd: 100 });
  const refusal = await desk.reserve(claim(1, 11), cap);
  expect(refusal).toMatchObject({ code: "budget-exceeded", retryAfterMs: DECEMBER_MS - NOVEMBER_MS });
  expect(refusal?.message).toContain("0.000010 USD left of its budget for 2026-11 of 0.000100 USD");
  expect(refusal?.message).toContain("2026-12-01T00:00:00Z");
  expect(await desk.reserve(claim(2, 101), cap)).toMatchObject({ retryAfterMs: null });
  expect(await desk.reserve(claim(3, 10), cap)).toBeNull();
  expect(await desk.reserve(claim(4, 100, { atMs: DECEMBER_MS }), cap)).toBeNull();
  desk.end(claim(3, 10).requestId, microUsd(10));
  expect(await desk.reserve(claim(5, 1, { atMs: DECEMBER_MS }), cap)).toMatchObject({ code: "budget-exceeded" });
});

test("a tenant's cap counts all of its keys", async () => {
  const desk = new SpendingDesk(new Ledger());
  const cap = caps({ tenantMicroUsd: 100, tenantMonthMicroUsd: 50 });
  expect(await desk.reserve(claim(1, 30, { key: 1 }), cap)).toBeNull();
  const refusal = await desk.reserve(claim(2, 30, { key: 2 }), cap);
  expect(refusal?.message).toContain("the tenant has 0.000020 USD left of its budget for 2026-11");
  expect(await desk.reserve(claim(3, 20, { key: 2 }), cap)).toBeNull();
});

test("requests that began before there was a cap count when it comes, also those that end while it is read", async () => {
  const ledger = new Ledger();
  const desk = new SpendingDesk(ledger);
  expect(await desk.reserve(claim(1, 40), NO_CAPS)).toBeNull();
  expect(await desk.reserve(claim(2, 30), NO_CAPS)).toBeNull();
  const { promise, resolve } = Promise.withResolvers<void>();
  ledger.gate = promise;
  const asked = desk.reserve(claim(3, 40), caps({ keyMicroUsd: 100, keyMonthMicroUsd: 100 }));
  desk.end(claim(2, 30).requestId, microUsd(25));
  resolve();
  expect((await asked)?.message).toContain("0.000035 USD left");
  expect(await desk.reserve(claim(4, 35), caps({ keyMicroUsd: 100 }))).toBeNull();
});
