import { expect, test } from "vitest";
import { SeededRandom } from "../time/random.ts";
import { drawOwnerWeek, drawSpot } from "./churn-events.ts";
import type { FaultEvent } from "./faults.ts";

const SPAN = { nodes: 4, startMs: 3_000, faultsEndMs: 33_000, series: [] };

function isApart(events: readonly FaultEvent[]): boolean {
  const sorted = [...events].sort((a, b) => a.atMs - b.atMs);
  return sorted.every((event, at) => {
    const next = sorted[at + 1];
    return next === undefined || event.atMs + event.durationMs <= next.atMs + 1e-6;
  });
}

test.each([
  ["owners", drawOwnerWeek],
  ["spot machines", drawSpot],
] as const)(
  "%s come and go within the time of faults, one visit after the other, the same for the same seed",
  (_, draw) => {
    const events = draw(new SeededRandom("events"), SPAN);
    expect(events.length).toBeGreaterThan(4);
    for (const { atMs, durationMs, node } of events) {
      expect(atMs).toBeGreaterThanOrEqual(SPAN.startMs);
      expect(durationMs).toBeGreaterThan(0);
      expect(atMs + durationMs).toBeLessThanOrEqual(SPAN.faultsEndMs + 1e-6);
      expect([0, 1, 2, 3]).toContain(node);
    }
    for (const node of [0, 1, 2, 3]) expect(isApart(events.filter((event) => event.node === node))).toBe(true);
    expect(draw(new SeededRandom("events"), SPAN)).toEqual(events);
  },
);

test("a machine follows its series: three ticks of capacity, one of none", () => {
  const series = [{ isUp: [true, true, true, false] }];
  const events = drawSpot(new SeededRandom("series"), { ...SPAN, nodes: 1, series });
  expect(new Set(events.map(({ durationMs }) => durationMs))).toEqual(new Set([500]));
  const gaps = events.slice(1).map(({ atMs }, at) => atMs - (events[at]?.atMs ?? 0));
  expect(new Set(gaps)).toEqual(new Set([2_000]));
  expect(events.every(({ kind, coin }) => kind === "spot" && coin)).toBe(true);
});
