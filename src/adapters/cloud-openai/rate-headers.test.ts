import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { durationMs, limitsOf, retryAfterMs, WAIT_MS_MAX } from "./rate-headers.ts";

describe("what headers say of limits", () => {
  test.each([
    ["12ms", 12],
    ["1.5s", 1_500],
    ["6m0s", 360_000],
    ["1h", 3_600_000],
    ["2h", WAIT_MS_MAX],
    ["20", 20_000],
    ["0.2", 200],
    ["", null],
    ["soon", null],
    ["-3s", null],
    ["1s2", null],
  ])("a duration of %j is %j ms", (text, ms) => {
    expect(durationMs(text)).toBe(ms);
  });

  test("a date to come back at is the time until then", () => {
    const wallMs = Date.UTC(2026, 10, 23, 12, 0, 0);
    expect(retryAfterMs({ "retry-after": "Mon, 23 Nov 2026 12:00:30 GMT" }, wallMs)).toBe(30_000);
    expect(retryAfterMs({ "retry-after": "Mon, 23 Nov 2026 11:00:00 GMT" }, wallMs)).toBe(0);
    expect(retryAfterMs({}, wallMs)).toBeNull();
  });

  test("the first of several values counts, and no header is no limit", () => {
    expect(limitsOf({ "x-ratelimit-remaining-requests": ["4", "9"] })).toMatchObject({
      requestsLeft: 4,
      tokensLeft: null,
    });
    expect(limitsOf({ "content-type": "text/html" })).toBeNull();
  });

  test("law: whatever stands there, a wait is null or within its bound", () => {
    const anyText = fc.oneof(
      fc.string(),
      fc.stringMatching(/^[0-9.]{0,20}(ms|s|m|h)?$/),
      fc.date({ noInvalidDate: true }).map((date) => date.toUTCString()),
    );
    fc.assert(
      fc.property(anyText, (text) => {
        for (const wait of [retryAfterMs({ "retry-after": text }, 1e12), durationMs(text)]) {
          if (wait === null) continue;
          expect(Number.isSafeInteger(wait) && wait >= 0 && wait <= WAIT_MS_MAX).toBe(true);
        }
      }),
    );
  });
});
