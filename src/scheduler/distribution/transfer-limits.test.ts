import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  allowTransfer,
  freshTransferState,
  isQuietHour,
  MINUTES_PER_WEEK,
  NO_LIMITS,
  PIECE_BYTES,
  spendTransfer,
  type TransferLimits,
} from "./transfer-limits.ts";

/** Monday, 5 January 1970, 00:00 UTC. */
const MONDAY_MS = 4 * 86_400_000;
const MINUTE_MS = 60_000;
const at = (nowMs: number, isYielding = false) => ({ nowMs, isYielding });
const capped = (bytesPerSecondMax: number, more: Partial<TransferLimits> = {}): TransferLimits => ({
  ...NO_LIMITS,
  bytesPerSecondMax,
  ...more,
});

describe("what may be moved", () => {
  test("is all without a cap, and nothing while the owner is back", () => {
    expect(allowTransfer(NO_LIMITS, freshTransferState(0), at(5))).toMatchObject({
      allowedBytes: Number.POSITIVE_INFINITY,
      waitMs: 0,
    });
    expect(allowTransfer(NO_LIMITS, freshTransferState(0), at(5, true))).toMatchObject({
      allowedBytes: 0,
      waitMs: null,
    });
    // What was saved up before the owner came is gone.
    const saved = allowTransfer(capped(1_000_000), freshTransferState(0), at(1_000)).state;
    const after = allowTransfer(
      capped(1_000_000),
      allowTransfer(capped(1_000_000), saved, at(1_000, true)).state,
      at(1_001),
    );
    expect(after.allowedBytes).toBe(0);
  });

  test("is none in quiet hours, until they end", () => {
    const limits: TransferLimits = { ...NO_LIMITS, quietHours: [{ fromMinute: 8 * 60, toMinute: 18 * 60 }] };
    expect(allowTransfer(limits, freshTransferState(0), at(MONDAY_MS + 7 * 60 * MINUTE_MS)).allowedBytes).toBe(
      Number.POSITIVE_INFINITY,
    );
    const inside = allowTransfer(limits, freshTransferState(0), at(MONDAY_MS + 17.5 * 60 * MINUTE_MS));
    expect(inside).toMatchObject({ allowedBytes: 0, waitMs: 30 * MINUTE_MS });
  });

  test("is the quiet hours' own cap when they have one, and never more than at other times", () => {
    const quietHours = [{ fromMinute: 0, toMinute: 60 }];
    const slow = capped(10_000_000, { quietHours, quietBytesPerSecondMax: 1_000_000 });
    expect(allowTransfer(slow, freshTransferState(MONDAY_MS), at(MONDAY_MS + 1_000)).allowedBytes).toBe(1_000_000);
    const odd = capped(1_000_000, { quietHours, quietBytesPerSecondMax: 10_000_000 });
    expect(allowTransfer(odd, freshTransferState(MONDAY_MS), at(MONDAY_MS + 1_000)).allowedBytes).toBe(1_000_000);
  });
});

describe("quiet hours", () => {
  test("follow the node's own time", () => {
    const quietHours = [{ fromMinute: 22 * 60, toMinute: 23 * 60 }];
    const isQuiet = (utcHour: number, utcOffsetMinutes: number) =>
      isQuietHour({ quietHours, utcOffsetMinutes }, MONDAY_MS + utcHour * 60 * MINUTE_MS);
    expect(isQuiet(22.5, 0)).toBe(true);
    expect(isQuiet(20.5, 120)).toBe(true);
    expect(isQuiet(22.5, 120)).toBe(false);
    // Sunday evening in New York is Monday in UTC; this window is Monday's.
    expect(isQuiet(3.5, -300)).toBe(false);
    expect(isQuiet(27.5, -300)).toBe(true);
  });

  test("may run over the end of the week, touch each other, or be all of it", () => {
    const sunday = { fromMinute: 6 * 1_440 + 23 * 60, toMinute: 60 };
    const monday = { fromMinute: 60, toMinute: 120 };
    const limits: TransferLimits = { ...NO_LIMITS, quietHours: [sunday, monday] };
    const late = allowTransfer(limits, freshTransferState(0), at(MONDAY_MS - 30 * MINUTE_MS));
    expect(late).toMatchObject({ allowedBytes: 0, waitMs: 150 * MINUTE_MS });
    const always: TransferLimits = { ...NO_LIMITS, quietHours: [{ fromMinute: 0, toMinute: 0 }] };
    expect(allowTransfer(always, freshTransferState(0), at(MONDAY_MS + 1)).waitMs).toBe(MINUTES_PER_WEEK * MINUTE_MS);
  });
});

describe("laws", () => {
  const steps = fc.array(fc.record({ passMs: fc.nat(3_000), wantBytes: fc.nat(5_000_000), isYielding: fc.boolean() }), {
    maxLength: 200,
    size: "max",
  });

  test("over any time no more is moved than the cap and one second of it", () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 50_000_000 }), steps, (cap, turns) => {
        let state = freshTransferState(MONDAY_MS);
        let nowMs = MONDAY_MS;
        let moved = 0;
        // The least, over the starts of all windows, of what was moved before less what the cap gave by then.
        let lowest = Number.POSITIVE_INFINITY;
        for (const { passMs, wantBytes, isYielding } of turns) {
          nowMs += passMs;
          const decision = allowTransfer(capped(cap), state, at(nowMs, isYielding));
          if (isYielding) expect(decision.allowedBytes).toBe(0);
          const taken = Math.min(wantBytes, decision.allowedBytes);
          state = spendTransfer(decision.state, taken);
          const given = (cap * (nowMs - MONDAY_MS)) / 1_000;
          lowest = Math.min(lowest, moved - given);
          moved += taken;
          expect(moved - given - lowest).toBeLessThanOrEqual(Math.max(cap, PIECE_BYTES) + 1);
        }
      }),
    );
  });

  test("who waits as long as told is allowed something, however slow the cap", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 5_000_000 }),
        fc.nat(2_000_000),
        fc.nat(86_400_000 * 7),
        (cap, owed, passMs) => {
          const nowMs = MONDAY_MS + passMs;
          const windows = [
            { fromMinute: 600, toMinute: 700 },
            { fromMinute: 690, toMinute: 2_000 },
          ];
          const limits = capped(cap, { quietHours: windows });
          let decision = allowTransfer(limits, spendTransfer(freshTransferState(nowMs), owed), at(nowMs));
          let clockMs = nowMs;
          // A quiet hour may come while the bucket fills: so at most a few waits.
          for (let turn = 0; turn < 64 && decision.allowedBytes === 0; turn++) {
            clockMs += decision.waitMs ?? 0;
            decision = allowTransfer(limits, decision.state, at(clockMs));
          }
          expect(decision.allowedBytes).toBeGreaterThanOrEqual(1);
        },
      ),
    );
  });

  test("a clock that goes back gives nothing for the time that it goes over twice", () => {
    const limits = capped(1_000_000);
    let state = allowTransfer(limits, freshTransferState(10_000), at(11_000)).state;
    state = spendTransfer(state, 1_000_000);
    const back = allowTransfer(limits, state, at(5_000));
    expect(back.allowedBytes).toBe(0);
  });
});
