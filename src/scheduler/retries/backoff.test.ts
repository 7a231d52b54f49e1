import fc from "fast-check";
import { expect, test } from "vitest";
import { backoffCeilingMs, backoffMs } from "./backoff.ts";

const BOUNDS = { baseMs: 500, capMs: 10_000 };

test("ceilings double from the base up to the cap, for any number of failures", () => {
  expect([0, 1, 2, 3, 4, 5, 1_000_000].map((failures) => backoffCeilingMs(failures, BOUNDS))).toEqual([
    500, 1_000, 2_000, 4_000, 8_000, 10_000, 10_000,
  ]);
});

test("a wait lies anywhere between 0 and its ceiling", () => {
  fc.assert(
    fc.property(fc.nat(5_000), fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }), (failures, draw) => {
      const waitMs = backoffMs({ failures, draw }, BOUNDS);
      expect(waitMs).toBeGreaterThanOrEqual(0);
      expect(waitMs).toBeLessThan(backoffCeilingMs(failures, BOUNDS));
    }),
  );
  expect(backoffMs({ failures: 3, draw: 0 }, BOUNDS)).toBe(0);
  expect(backoffMs({ failures: 3, draw: 0.5 }, BOUNDS)).toBe(2_000);
});
