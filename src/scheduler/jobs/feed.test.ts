import { describe, expect, test } from "vitest";
import { LINES_IN_FLIGHT_MAX, linesToBegin } from "./feed.ts";

/** Feeds a grid of so many slots, of which one frees in each step, and tells the least that ran once it was full. */
function leastRunning(slots: number): { readonly least: number; readonly mostWaiting: number } {
  let running = 0;
  let waiting = 0;
  let least = slots;
  let mostWaiting = 0;
  for (let step = 0; step < 40 * slots; step++) {
    if (step > 20 * slots) running -= 1;
    const moved = Math.min(waiting, slots - running);
    running += moved;
    waiting -= moved;
    waiting += linesToBegin({ running, waiting, inFlight: running + waiting, isCareful: false });
    if (step > 21 * slots) least = Math.min(least, running);
    mostWaiting = Math.max(mostWaiting, waiting);
  }
  return { least, mostWaiting };
}

describe("lines in flight", () => {
  test.each([1, 4, 60, 600])("keep %i slots full, with few lines waiting", (slots) => {
    const { least, mostWaiting } = leastRunning(slots);
    expect(least).toBe(slots);
    expect(mostWaiting).toBeLessThanOrEqual(Math.max(4, slots / 2));
  });

  test("are bounded over all batches", () => {
    expect(linesToBegin({ running: 0, waiting: 0, inFlight: LINES_IN_FLIGHT_MAX - 1, isCareful: false })).toBe(1);
    expect(linesToBegin({ running: 0, waiting: 0, inFlight: LINES_IN_FLIGHT_MAX + 5, isCareful: false })).toBe(0);
  });

  test("are one at a time where care is needed", () => {
    expect(linesToBegin({ running: 0, waiting: 0, inFlight: 0, isCareful: true })).toBe(1);
    expect(linesToBegin({ running: 0, waiting: 1, inFlight: 1, isCareful: true })).toBe(0);
  });
});
