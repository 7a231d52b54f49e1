import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { goDuration, RATE_START, stepRate } from "./rate-limit.ts";

describe("a rate limit", () => {
  test("never lets more through in any minute than twice the limit, nor more than the limit at once", () => {
    const steps = fc.array(
      fc.record({ waitMs: fc.integer({ min: 0, max: 20_000 }), cost: fc.integer({ min: 1, max: 5 }) }),
      {
        maxLength: 200,
      },
    );
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 50 }), steps, (perMinute, asked) => {
        let state = RATE_START;
        let nowMs = 1_000;
        const taken: { atMs: number; cost: number }[] = [];
        for (const { waitMs, cost } of asked) {
          nowMs += waitMs;
          const step = stepRate(state, { perMinute, cost, nowMs });
          state = step.state;
          if (step.isAllowed) taken.push({ atMs: nowMs, cost });
          const within = (ms: number) =>
            taken.filter(({ atMs }) => atMs > nowMs - ms).reduce((sum, one) => sum + one.cost, 0);
          expect(within(1)).toBeLessThanOrEqual(perMinute);
          expect(within(60_000)).toBeLessThanOrEqual(2 * perMinute);
        }
      }),
    );
  });

  test("allows what it refused after the time that it named, and not before", () => {
    const full = stepRate(RATE_START, { perMinute: 60, cost: 60, nowMs: 0 });
    expect(full).toMatchObject({ isAllowed: true, remaining: 0, resetMs: 60_000 });
    const refused = stepRate(full.state, { perMinute: 60, cost: 3, nowMs: 0 });
    expect(refused).toMatchObject({ isAllowed: false, retryAfterMs: 3_000, state: full.state });
    expect(stepRate(full.state, { perMinute: 60, cost: 3, nowMs: 2_990 }).isAllowed).toBe(false);
    expect(stepRate(full.state, { perMinute: 60, cost: 3, nowMs: 3_000 }).isAllowed).toBe(true);
  });

  test("says that no wait helps where the cost exceeds the limit, and gives back what was not used", () => {
    expect(stepRate(RATE_START, { perMinute: 10, cost: 11, nowMs: 0 })).toMatchObject({
      isAllowed: false,
      retryAfterMs: null,
    });
    const taken = stepRate(RATE_START, { perMinute: 10, cost: 10, nowMs: 0 });
    const back = stepRate(taken.state, { perMinute: 10, cost: -9, nowMs: 0 });
    expect(back.remaining).toBe(9);
    expect(stepRate(back.state, { perMinute: 10, cost: -99, nowMs: 0 }).remaining).toBe(10);
  });

  test.each([
    [0, "0ms"],
    [12.2, "13ms"],
    [1_000, "1s"],
    [1_500, "1.5s"],
    [360_000, "6m0s"],
    [3_723_400, "1h2m3.4s"],
  ])("%d ms is %s in a header", (ms, text) => {
    expect(goDuration(ms)).toBe(text);
  });
});
