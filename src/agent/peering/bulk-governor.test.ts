import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { GOVERNOR_START, govern, longestGoodMs, WINDOW_BYTES_MAX, WINDOW_BYTES_MIN } from "./bulk-governor.ts";

describe("the governor of bulk", () => {
  test("settles near the bytes that the way holds, with a queue that it takes for good", () => {
    // A link of 12.5 bytes a microsecond and 40 ms, whose queue adds what the window holds beyond them.
    const bytesPerMs = 12_500;
    const baseRttMs = 40;
    let state = GOVERNOR_START;
    let rttMs = baseRttMs;
    let longest = 0;
    for (let nowMs = 1_000; nowMs < 60_000; nowMs += 50) {
      rttMs = Math.max(baseRttMs, state.windowBytes / bytesPerMs);
      if (nowMs > 10_000) longest = Math.max(longest, rttMs);
      state = govern(state, { nowMs, recentRttMs: rttMs, baseRttMs, isMessaging: false, isWindowUsed: true });
    }
    expect(rttMs).toBeGreaterThan(baseRttMs * 0.9);
    expect(longest).toBeLessThan(longestGoodMs(baseRttMs, false) * 1.15);
  });

  test("does not take loss or a fast way for a full one", () => {
    let state = GOVERNOR_START;
    for (let nowMs = 1_000; nowMs < 20_000; nowMs += 50) {
      state = govern(state, { nowMs, recentRttMs: 41, baseRttMs: 40, isMessaging: false, isWindowUsed: true });
    }
    expect(state.windowBytes).toBe(WINDOW_BYTES_MAX);
  });

  test("does not grow what is not used", () => {
    const state = govern(GOVERNOR_START, {
      nowMs: 9_999,
      recentRttMs: 40,
      baseRttMs: 40,
      isMessaging: false,
      isWindowUsed: false,
    });
    expect(state).toBe(GOVERNOR_START);
  });

  test("does not starve a link for what others make it wait", () => {
    // A busy machine answers every ping 80 ms late, whatever is asked for.
    let state = { ...GOVERNOR_START, windowBytes: 4 * 1024 * 1024, isStarting: false };
    let asked = 0;
    let looks = 0;
    for (let nowMs = 1_000; nowMs < 60_000; nowMs += 50) {
      state = govern(state, { nowMs, recentRttMs: 81, baseRttMs: 1, isMessaging: false, isWindowUsed: true });
      asked += state.windowBytes;
      looks++;
    }
    expect(asked / looks).toBeGreaterThan(2 * 1024 * 1024);
  });

  test("stays within its bounds whatever it sees", () => {
    const look = fc.record({
      recentRttMs: fc.option(fc.double({ min: 0, max: 1e5, noNaN: true })),
      baseRttMs: fc.option(fc.double({ min: 0, max: 1e5, noNaN: true })),
      isMessaging: fc.boolean(),
      isWindowUsed: fc.boolean(),
    });
    fc.assert(
      fc.property(fc.array(look, { maxLength: 100 }), (looks) => {
        let state = GOVERNOR_START;
        let nowMs = 0;
        for (const one of looks) {
          nowMs += 1_000;
          state = govern(state, { ...one, nowMs });
          expect(state.windowBytes).toBeGreaterThanOrEqual(WINDOW_BYTES_MIN);
          expect(state.windowBytes).toBeLessThanOrEqual(WINDOW_BYTES_MAX);
        }
      }),
    );
  });
});
