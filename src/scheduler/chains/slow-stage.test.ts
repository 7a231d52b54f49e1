import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { afterPaceReport, SLOW_FOR_MS, type StagePace, slowStage } from "./slow-stage.ts";

/** Reports of each second. */
function told(...seconds: readonly number[]): StagePace {
  let pace: StagePace | null = null;
  for (const [at, each] of seconds.entries()) pace = afterPaceReport(pace, { seconds: each, nowMs: at * 1_000 });
  if (pace === null) throw new Error("a report");
  return pace;
}

const AT_MS = 11_000;
const steady = told(...Array.from({ length: 12 }, () => 1));
const slowed = told(1, 1, 1, 1, 5, 5, 5, 5, 5, 5, 5, 5);

describe("a stage is slow", () => {
  test("that takes three times as long as at its best, for a while, and the others do not", () => {
    expect(slowStage([steady, slowed, steady], AT_MS)).toBe(1);
    expect(slowStage([steady, slowed], AT_MS)).toBe(1);
  });

  test("not for a moment, not when all are, and not by being a small machine", () => {
    const lately = told(1, 1, 1, 1, 1, 1, 1, 1, 5, 5, 5, 5);
    const nowAndThen = told(1, 1, 1, 5, 1, 1, 5, 1, 1, 5, 1, 5);
    expect(slowStage([steady, nowAndThen, steady], AT_MS)).toBeNull();
    expect(slowStage([steady, lately, steady], AT_MS)).toBeNull();
    expect(slowStage([slowed, slowed, slowed], AT_MS)).toBeNull();
    expect(slowStage([steady, told(...Array.from({ length: 12 }, () => 8)), steady], AT_MS)).toBeNull();
  });

  test("not any more once it is quick again, or does nothing", () => {
    expect(slowStage([steady, told(1, 1, 1, 1, 5, 5, 5, 5, 5, 1, 1, 1), steady], AT_MS)).toBeNull();
    expect(slowStage([steady, slowed, steady], AT_MS + SLOW_FOR_MS)).toBeNull();
    expect(slowStage([null, null], AT_MS)).toBeNull();
  });

  test("of two the slower one", () => {
    const slower = told(1, 1, 1, 1, 20, 20, 20, 20, 20, 20, 20, 20);
    expect(slowStage([slowed, slower, steady, steady], AT_MS)).toBe(1);
  });
});

test("how fast a machine is, and the order of the stages, change nothing", () => {
  const reports = fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 6, maxLength: 12 });
  fc.assert(
    fc.property(fc.array(reports, { minLength: 2, maxLength: 6 }), fc.integer({ min: 1, max: 50 }), (all, factor) => {
      const nowMs = Math.max(...all.map(({ length }) => length)) * 1_000;
      const paces = all.map((each) => told(...each));
      const scaled = all.map((each, at) => told(...each.map((seconds) => (at === 0 ? seconds * factor : seconds))));
      const found = slowStage(paces, nowMs);
      expect(slowStage(scaled, nowMs)).toBe(found);
      const turned = slowStage(paces.toReversed(), nowMs);
      const times = (at: number | null) =>
        at === null ? null : (paces[at]?.seconds ?? 0) / (paces[at]?.bestSeconds ?? 1);
      expect(times(turned === null ? null : paces.length - 1 - turned)).toBe(times(found));
    }),
  );
});
