import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  afterFailure,
  afterNothing,
  afterStart,
  afterSuccess,
  BREAKER_CLOSED,
  type Breaker,
  breakerAt,
  FAILURES_TO_OPEN,
  mayGo,
  OPEN_MS_FIRST,
  OPEN_MS_LASTING,
  OPEN_MS_MAX,
} from "./circuit-breaker.ts";

const failed = (breaker: Breaker, nowMs = 0, isLasting = false) =>
  afterFailure(breaker, { why: "it broke", isLasting, nowMs });
const opened = failed(failed(failed(BREAKER_CLOSED)));

describe("the circuit breaker", () => {
  test("opens after so many failures in a row, and a success between them counts them anew", () => {
    let breaker = BREAKER_CLOSED;
    for (let count = 1; count < FAILURES_TO_OPEN; count++) breaker = failed(breaker);
    expect(mayGo(breaker)).toBe(true);
    expect(failed(afterSuccess(breaker)).state).toBe("closed");
    expect(failed(breaker)).toEqual({ state: "open", untilMs: OPEN_MS_FIRST, openMs: OPEN_MS_FIRST, why: "it broke" });
  });

  test("opens at the first failure that time does not mend, for longer", () => {
    expect(failed(BREAKER_CLOSED, 5, true)).toMatchObject({ state: "open", untilMs: OPEN_MS_LASTING + 5 });
  });

  test("lets one request through when its time is over, and no second one beside it", () => {
    expect(mayGo(breakerAt(opened, OPEN_MS_FIRST - 1))).toBe(false);
    const halfOpen = breakerAt(opened, OPEN_MS_FIRST);
    expect(mayGo(halfOpen)).toBe(true);
    expect(mayGo(afterStart(halfOpen))).toBe(false);
    expect(mayGo(afterNothing(afterStart(halfOpen)))).toBe(true);
    expect(afterSuccess(afterStart(halfOpen))).toEqual(BREAKER_CLOSED);
  });

  test("stays open twice as long after each failed trial, up to a bound", () => {
    let breaker = opened;
    let nowMs = 0;
    const waits: number[] = [];
    for (let trial = 0; trial < 8; trial++) {
      if (breaker.state === "open") nowMs = breaker.untilMs;
      breaker = failed(afterStart(breakerAt(breaker, nowMs)), nowMs);
      if (breaker.state === "open") waits.push(breaker.untilMs - nowMs);
    }
    expect(waits.slice(0, 3)).toEqual([2 * OPEN_MS_FIRST, 4 * OPEN_MS_FIRST, 8 * OPEN_MS_FIRST]);
    expect(waits.at(-1)).toBe(OPEN_MS_MAX);
  });

  test("while it is open, what ends late changes nothing", () => {
    expect(afterSuccess(opened)).toBe(opened);
    expect(failed(opened, 3)).toBe(opened);
    expect(afterNothing(opened)).toBe(opened);
  });

  test("law: it is never open for longer than the bound, and after it somebody may go", () => {
    const anyStep = fc.record({
      afterMs: fc.nat(20_000),
      what: fc.constantFrom("success", "failure", "lasting", "nothing"),
    });
    fc.assert(
      fc.property(fc.array(anyStep, { maxLength: 60 }), (steps) => {
        let breaker = BREAKER_CLOSED;
        let nowMs = 0;
        for (const { afterMs, what } of steps) {
          nowMs += afterMs;
          breaker = breakerAt(breaker, nowMs);
          if (mayGo(breaker)) breaker = afterStart(breaker);
          if (what === "success") breaker = afterSuccess(breaker);
          else if (what === "nothing") breaker = afterNothing(breaker);
          else breaker = failed(breaker, nowMs, what === "lasting");
          if (breaker.state !== "open") continue;
          expect(breaker.untilMs - nowMs).toBeLessThanOrEqual(OPEN_MS_MAX);
          expect(mayGo(breakerAt(breaker, nowMs + OPEN_MS_MAX))).toBe(true);
        }
      }),
    );
  });
});
