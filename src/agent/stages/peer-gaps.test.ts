import { describe, expect, test } from "vitest";
import { PeerGaps } from "./peer-gaps.ts";
import { GAP_HALF_LIFE_MS, GAP_MS_START, SILENT_MS, SILENT_MS_MIN, SILENT_TIMES } from "./stage-bounds.ts";

describe("the bound on a neighbour's silence", () => {
  test("is short for one that is always heard quickly", () => {
    const gaps = new PeerGaps();
    expect(gaps.boundMs("ben", 0)).toBe(SILENT_TIMES * GAP_MS_START);
    for (let nowMs = 0; nowMs < 60_000; nowMs += 100) gaps.note("ben", { gapMs: 100, nowMs });
    expect(gaps.boundMs("ben", 60_000)).toBe(SILENT_MS_MIN);
  });

  test("is a multiple of the longest gap, which fades", () => {
    const gaps = new PeerGaps();
    gaps.note("ben", { gapMs: 400, nowMs: 0 });
    expect(gaps.boundMs("ben", 0)).toBe(SILENT_TIMES * 400);
    gaps.note("ben", { gapMs: 10, nowMs: 1_000 });
    expect(gaps.boundMs("ben", 1_000)).toBeCloseTo(SILENT_TIMES * 400 * 2 ** (-1_000 / GAP_HALF_LIFE_MS));
    expect(gaps.boundMs("ben", 60_000)).toBe(SILENT_MS_MIN);
  });

  test("is the longest one there is for who was just given up, so that a slow machine is not given up twice", () => {
    const gaps = new PeerGaps();
    gaps.forgive("ben", 0);
    expect([gaps.boundMs("ben", 0), gaps.boundMs("cem", 0)]).toEqual([SILENT_MS, SILENT_TIMES * GAP_MS_START]);
  });

  test("does not grow by a sleep, and is never above the bound for all", () => {
    const gaps = new PeerGaps();
    gaps.note("ben", { gapMs: 60_000, nowMs: 0 });
    expect(gaps.boundMs("ben", 0)).toBe(SILENT_TIMES * GAP_MS_START);
    gaps.note("ben", { gapMs: SILENT_MS, nowMs: 0 });
    expect(gaps.boundMs("ben", 0)).toBe(SILENT_MS);
  });
});
