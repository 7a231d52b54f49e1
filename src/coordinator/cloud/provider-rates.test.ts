import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { ProviderRates } from "./provider-rates.ts";

const FREE = { requestsPerMinuteMax: null, tokensPerMinuteMax: null, concurrencyMax: 4 };
const NOT_TOLD = { requestsLeft: null, requestsResetMs: null, tokensLeft: null, tokensResetMs: null };

describe("a provider's rates", () => {
  test("as many run at once as it takes, and a place that is given back is free", () => {
    const rates = new ProviderRates({ ...FREE, concurrencyMax: 2 });
    rates.begin(10, 0);
    expect([rates.freeSlots(0), rates.waitMs(10, 0)]).toEqual([1, 0]);
    rates.begin(10, 0);
    expect(rates.freeSlots(0)).toBe(0);
    expect(rates.waitMs(10, 0)).toBeGreaterThan(0);
    rates.end({ taken: 10, used: 10 }, 0);
    expect([rates.freeSlots(0), rates.waitMs(10, 0)]).toEqual([1, 0]);
  });

  test("requests per minute come back evenly", () => {
    const rates = new ProviderRates({ ...FREE, requestsPerMinuteMax: 2 });
    rates.begin(1, 0);
    rates.begin(1, 0);
    expect([rates.freeSlots(0), rates.waitMs(1, 0)]).toEqual([0, 30_000]);
    expect([rates.freeSlots(30_000), rates.waitMs(1, 30_000)]).toEqual([1, 0]);
  });

  test("tokens are taken at the most that a request may use, and given back when it used less", () => {
    const rates = new ProviderRates({ ...FREE, tokensPerMinuteMax: 1_000 });
    rates.begin(900, 0);
    expect(rates.waitMs(600, 0)).toBe(30_000);
    rates.end({ taken: 900, used: 100 }, 0);
    expect(rates.waitMs(600, 0)).toBe(0);
    expect(rates.waitMs(1_001, 0)).toBeNull();
  });

  test("what its headers say counts until the time that they name, and is used up meanwhile", () => {
    const rates = new ProviderRates(FREE);
    rates.hear({ requestsLeft: 1, requestsResetMs: 5_000, tokensLeft: 100, tokensResetMs: 2_000 }, 0);
    expect([rates.freeSlots(0), rates.waitMs(50, 0), rates.waitMs(200, 0)]).toEqual([1, 0, 2_000]);
    rates.begin(50, 0);
    expect([rates.freeSlots(0), rates.waitMs(10, 0)]).toEqual([0, 5_000]);
    expect([rates.freeSlots(5_000), rates.waitMs(10, 5_000)]).toEqual([3, 0]);
  });

  test("headers that tell nothing change nothing, and none keeps it away for longer than a minute", () => {
    const rates = new ProviderRates(FREE);
    rates.hear(NOT_TOLD, 0);
    expect(rates.freeSlots(0)).toBe(4);
    rates.hear({ ...NOT_TOLD, requestsLeft: 0, requestsResetMs: 3_600_000 }, 0);
    expect(rates.waitMs(1, 0)).toBe(60_000);
  });

  test("a provider that said how long to wait is left alone for so long", () => {
    const rates = new ProviderRates(FREE);
    rates.block(7_000, 100);
    rates.block(1_000, 100);
    expect([rates.freeSlots(100), rates.waitMs(1, 100)]).toEqual([0, 7_000]);
    expect(rates.freeSlots(7_100)).toBe(4);
  });

  test("law: within any minute no more starts than the limits allow, and never more at once", () => {
    const anySteps = fc.array(fc.record({ afterMs: fc.nat(5_000), tokens: fc.integer({ min: 1, max: 400 }) }), {
      maxLength: 120,
    });
    fc.assert(
      fc.property(anySteps, (steps) => {
        const limits = { requestsPerMinuteMax: 10, tokensPerMinuteMax: 1_000, concurrencyMax: 3 };
        const rates = new ProviderRates(limits);
        const started: { atMs: number; tokens: number }[] = [];
        let nowMs = 0;
        for (const { afterMs, tokens } of steps) {
          nowMs += afterMs;
          if (rates.running === 3) rates.end({ taken: 1, used: 1 }, nowMs);
          const isFree = rates.freeSlots(nowMs) > 0;
          if (rates.waitMs(tokens, nowMs) !== 0) continue;
          expect(isFree).toBe(true);
          rates.begin(tokens, nowMs);
          started.push({ atMs: nowMs, tokens });
          expect(rates.running).toBeLessThanOrEqual(3);
          // A full allowance and what came back within the minute.
          const recent = started.filter(({ atMs }) => atMs > nowMs - 60_000);
          expect(recent.length).toBeLessThanOrEqual(2 * limits.requestsPerMinuteMax);
          expect(recent.reduce((sum, one) => sum + one.tokens, 0)).toBeLessThanOrEqual(2 * limits.tokensPerMinuteMax);
        }
      }),
    );
  });
});
