import { describe, expect, test } from "vitest";
import { afterToken, STALL_BOUNDS, stalledAtMs, startPace, type TokenPace } from "./stall.ts";

const SHORT = { tokens: 10 };

function steady(gapMs: number, count: number): TokenPace {
  let pace = startPace(0);
  for (let at = 0; at < count; at++) pace = afterToken(pace, at * gapMs);
  return pace;
}

describe("an attempt is stalled", () => {
  test("before its first token after a floor that grows with the prompt", () => {
    expect(stalledAtMs(startPace(100), SHORT, STALL_BOUNDS)).toBe(100 + 3_000 + 30);
    expect(stalledAtMs(startPace(100), { tokens: 8_000 }, STALL_BOUNDS)).toBe(100 + 3_000 + 24_000);
  });

  test("between tokens after the gap floor, however fast it was", () => {
    expect(stalledAtMs(steady(1, 50), SHORT, STALL_BOUNDS)).toBe(49 + 3_000);
  });

  test("between tokens after many times its usual gap when it is slow", () => {
    expect(stalledAtMs(steady(1_000, 20), SHORT, STALL_BOUNDS)).toBe(19_000 + 12_000);
  });

  test("after one token, when its pace is not known, by the floor", () => {
    expect(stalledAtMs(steady(0, 1), SHORT, STALL_BOUNDS)).toBe(3_000);
  });

  test("later as it becomes slower: the usual gap follows", () => {
    const slowing = afterToken(steady(100, 20), 1_900 + 2_000);
    expect(slowing.usualGapMs).toBeCloseTo(100 + 0.1 * 1_900);
  });
});
