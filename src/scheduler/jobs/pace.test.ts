import { describe, expect, test } from "vitest";
import { linesPerSecond, type Pace, restMs, startPace, stepPace } from "./pace.ts";

function paced(pace: Pace, steps: number, linesPerStep: number): Pace {
  let at = pace;
  for (let step = 0; step < steps; step++) at = stepPace(at, { nowMs: at.atMs + 1_000, lines: linesPerStep });
  return at;
}

describe("the pace of a batch", () => {
  test("is not told before something was seen", () => {
    expect(linesPerSecond(startPace(5))).toBeNull();
    expect(restMs(startPace(5), 10)).toBeNull();
    expect(restMs(startPace(5), 0)).toBe(0);
  });

  test("is the lines of a second, and follows when that changes", () => {
    const steady = paced(startPace(0), 300, 20);
    expect(linesPerSecond(steady)).toBeCloseTo(20, 5);
    expect(restMs(steady, 1_000)).toBeCloseTo(50_000, 0);
    expect(linesPerSecond(paced(steady, 600, 5))).toBeCloseTo(5, 1);
  });

  test("of a batch that stands still promises nothing", () => {
    expect(restMs(paced(startPace(0), 10, 0), 7)).toBeNull();
  });
});
