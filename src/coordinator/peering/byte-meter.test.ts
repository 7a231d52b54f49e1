import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { ByteRate, DayBytes } from "./byte-meter.ts";

const HOUR_MS = 3_600_000;

describe("a rate of bytes", () => {
  test("lets a burst of one second through, and has the rest waited for", () => {
    const rate = new ByteRate(1_000, 0);
    expect(rate.take(1_000, 0)).toBe(0);
    expect(rate.take(500, 0)).toBe(500);
    expect(rate.take(0, 500)).toBe(0);
    expect(rate.take(100, 10_000)).toBe(0);
  });

  test("is never passed over any time by who waits as he is told", () => {
    const step = fc.record({ bytes: fc.integer({ min: 1, max: 5_000 }), pauseMs: fc.integer({ min: 0, max: 3_000 }) });
    fc.assert(
      fc.property(fc.array(step, { minLength: 1, maxLength: 60 }), (steps) => {
        const perSecond = 1_000;
        const rate = new ByteRate(perSecond, 0);
        let nowMs = 0;
        let taken = 0;
        for (const { bytes, pauseMs } of steps) {
          nowMs += pauseMs;
          taken += bytes;
          nowMs += rate.take(bytes, nowMs);
          expect(taken).toBeLessThanOrEqual(perSecond + (nowMs / 1_000) * perSecond);
        }
      }),
    );
  });
});

test("bytes of a day are forgotten by the hour", () => {
  const day = new DayBytes();
  day.add(5, 0);
  day.add(7, HOUR_MS);
  day.add(1, HOUR_MS + 1);
  expect(day.sum(HOUR_MS)).toBe(13);
  expect(day.sum(24 * HOUR_MS - 1)).toBe(13);
  expect(day.sum(24 * HOUR_MS)).toBe(8);
  expect(day.sum(25 * HOUR_MS)).toBe(0);
});
