import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { RETRIES_PER_SECOND_MIN, RETRY_BURST, RetryBudget, STARTS_PER_RETRY } from "./retry-budget.ts";

describe("the retry budget", () => {
  test("lets a burst through at once, then spaces retries out", () => {
    const budget = new RetryBudget(0);
    const atMs = Array.from({ length: RETRY_BURST + 2 }, () => budget.take(0));
    expect(atMs.slice(0, RETRY_BURST).every((at) => at === 0)).toBe(true);
    expect(atMs.slice(RETRY_BURST)).toEqual([1_000 / RETRIES_PER_SECOND_MIN, 2_000 / RETRIES_PER_SECOND_MIN]);
  });

  test("a tenth of what is started may be retried on top, up to the burst", () => {
    const budget = new RetryBudget(0);
    for (let count = 0; count < RETRY_BURST; count++) budget.take(0);
    for (let count = 0; count < 10; count++) budget.started();
    expect(budget.take(0)).toBe(0);
    expect(budget.take(0)).toBeGreaterThan(0);
    for (let count = 0; count < 10_000; count++) budget.started();
    for (let count = 0; count < RETRY_BURST; count++) expect(budget.take(0)).toBe(0);
    expect(budget.take(0)).toBeGreaterThan(0);
  });

  test("law: what runs at once is at most the burst, the floor and a tenth of what was started", () => {
    const anySteps = fc.array(fc.record({ afterMs: fc.nat(2_000), isRetry: fc.boolean() }), { maxLength: 200 });
    fc.assert(
      fc.property(anySteps, (steps) => {
        const budget = new RetryBudget(0);
        let nowMs = 0;
        let started = 0;
        let atOnce = 0;
        for (const { afterMs, isRetry } of steps) {
          nowMs += afterMs;
          if (!isRetry) {
            budget.started();
            started += 1;
          } else if (budget.take(nowMs) === nowMs) atOnce += 1;
        }
        const allowed = RETRY_BURST + (nowMs * RETRIES_PER_SECOND_MIN) / 1_000 + started / STARTS_PER_RETRY;
        expect(atOnce).toBeLessThanOrEqual(Math.floor(allowed + 1e-9));
      }),
    );
  });
});
