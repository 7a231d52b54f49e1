/** What the Store port promises about limits, preferences of keys, spending by the month, and usage by provider. */
import { beforeEach, describe, expect, test } from "vitest";
import { modelId } from "../../src/domain/ids.ts";
import { microUsd } from "../../src/domain/money.ts";
import type { Store, TenantLimits } from "../../src/ports/store.ts";
import { anApiKey, aTenant, credit, settlementFor } from "./store-samples.ts";

const LIMITS: TenantLimits = {
  requestsPerMinuteMax: 60,
  tokensPerMinuteMax: 100_000,
  budgetMicroUsd: microUsd(Number.MAX_SAFE_INTEGER),
  monthlyBudgetMicroUsd: microUsd(0),
  models: [modelId("tiny")],
};
/** 2023-11-14, and the first millisecond of the month after. */
const NOVEMBER_MS = 1_700_000_000_000;
const DECEMBER_MS = Date.UTC(2023, 11, 1);

export function describeBudgetContract(now: () => Store, reopen: () => Promise<void>): void {
  describe("limits and preferences", () => {
    test("a tenant's limits are kept, changed and taken away", async () => {
      const tenant = { ...aTenant(1), limits: LIMITS };
      await now().tenants.create(tenant);
      await now().tenants.create(aTenant(2));
      expect(await now().tenants.setLimits(aTenant(2).tenantId, { ...LIMITS, models: null })).toBe(true);
      expect(await now().tenants.setLimits(aTenant(3).tenantId, LIMITS)).toBe(false);
      await reopen();
      expect(await now().tenants.list()).toEqual([tenant, { ...aTenant(2), limits: { ...LIMITS, models: null } }]);
      expect(await now().tenants.setLimits(tenant.tenantId, null)).toBe(true);
      expect(await now().tenants.get(tenant.tenantId)).toEqual(aTenant(1));
    });

    test("a key's terms change, what it spent and its secret stay, and a revoked key stays as it is", async () => {
      await now().tenants.create(aTenant(1));
      const key = anApiKey(1);
      await now().keys.create(key);
      await now().ledger.apply([credit(key.tenantId, 1_000_000)]);
      const settlement = settlementFor(1, { costMicroUsd: 250 });
      await now().ledger.apply(settlement.hold);
      await now().receipts.settle(settlement);
      const terms = {
        name: "renamed",
        budgetMicroUsd: null,
        monthlyBudgetMicroUsd: microUsd(7),
        models: null,
        preferences: {
          defaults: { provider: { order: ["grid", "far"] }, grid: null },
          rules: { grid: { regions: ["eu"], max_cost_usd: 0.01 } },
        },
      };
      expect(await now().keys.update(key.keyId, terms)).toBe(true);
      expect(await now().keys.update(anApiKey(2).keyId, terms)).toBe(false);
      await reopen();
      expect(await now().keys.get(key.keyId)).toEqual({ ...key, ...terms });
      expect(await now().keys.findBySecret(key.secretSha256)).toEqual({ ...key, ...terms });
      expect(await now().keys.spent(key.keyId)).toBe(250);
      await now().keys.revoke(key.keyId, 777);
      expect(await now().keys.update(key.keyId, { name: "again" })).toBe(false);
      expect((await now().keys.get(key.keyId))?.name).toBe("renamed");
    });
  });

  describe("spending", () => {
    const { keyId, tenantId } = anApiKey(1);
    beforeEach(async () => {
      await now().tenants.create(aTenant(1));
      await now().keys.create(anApiKey(1));
      await now().keys.create(anApiKey(2));
      await now().ledger.apply([credit(tenantId, 1_000_000)]);
    });

    test("adds up by key, tenant and UTC month, once for each request", async () => {
      const wanted = [
        { request: 1, atMs: NOVEMBER_MS, cost: 5, key: 1 },
        { request: 2, atMs: DECEMBER_MS - 1, cost: 7, key: 1 },
        { request: 3, atMs: DECEMBER_MS, cost: 11, key: 1 },
        { request: 4, atMs: DECEMBER_MS, cost: 13, key: 2 },
      ];
      const settlements = wanted.map(({ request, atMs, cost, key }) => {
        const settlement = settlementFor(request, { costMicroUsd: cost, createdAtMs: atMs });
        return { ...settlement, receipt: { ...settlement.receipt, keyId: anApiKey(key).keyId } };
      });
      for (const { hold } of settlements) await now().ledger.apply(hold);
      await Promise.all(settlements.map((settlement) => now().receipts.settle(settlement)));
      await Promise.all(settlements.map((settlement) => now().receipts.settle(settlement)));
      await reopen();
      expect(await now().spending.ofKey(keyId, "2023-11")).toEqual({ totalMicroUsd: 23, monthMicroUsd: 12 });
      expect(await now().spending.ofKey(keyId, "2023-12")).toEqual({ totalMicroUsd: 23, monthMicroUsd: 11 });
      expect(await now().spending.ofTenant(tenantId, "2023-12")).toEqual({ totalMicroUsd: 36, monthMicroUsd: 24 });
      expect(await now().spending.ofTenant(tenantId, "2024-01")).toEqual({ totalMicroUsd: 36, monthMicroUsd: 0 });
      expect(await now().spending.ofKey(anApiKey(9).keyId, "2023-12")).toEqual({ totalMicroUsd: 0, monthMicroUsd: 0 });
    });

    test("of a refused settlement is nothing", async () => {
      expect(await now().receipts.settle(settlementFor(1, { costMicroUsd: 250 }))).toMatchObject({ ok: false });
      expect(await now().spending.ofKey(keyId, "2023-11")).toEqual({ totalMicroUsd: 0, monthMicroUsd: 0 });
    });

    test("is told apart by who served it, and a request of several counts where it began", async () => {
      const split = settlementFor(1, { costMicroUsd: 100, createdAtMs: NOVEMBER_MS });
      const { promptTokens, outputTokens } = split.receipt;
      const part = { promptTokens: 0, outputTokens: 1, costMicroUsd: microUsd(30) };
      const parts = [
        { provider: "grid", promptTokens, outputTokens: outputTokens - 2, costMicroUsd: microUsd(40) },
        { ...part, provider: "far" },
        { ...part, provider: "grid" },
      ];
      const whole = settlementFor(2, { costMicroUsd: 9, createdAtMs: NOVEMBER_MS });
      for (const { hold } of [split, whole]) await now().ledger.apply(hold);
      await now().receipts.settle({ ...split, parts });
      await now().receipts.settle(whole);
      await reopen();
      const rows = await now().receipts.usage({ tenantId, fromMs: 0, toMs: DECEMBER_MS });
      const shown = rows.map((row) => [
        row.provider,
        row.requests,
        row.promptTokens,
        row.outputTokens,
        row.costMicroUsd,
      ]);
      const grid = 2 * outputTokens - 1;
      expect(shown).toEqual([
        ["far", 0, 0, 1, 30],
        ["grid", 2, 2 * promptTokens, grid, 79],
      ]);
      expect(await now().spending.ofKey(keyId, "2023-11")).toEqual({ totalMicroUsd: 109, monthMicroUsd: 109 });
    });
  });
}
