import { describe, expect, test } from "vitest";
import { modelId } from "../../domain/ids.ts";
import {
  FirstTokenTimes,
  HEDGE_UTILISATION_MAX,
  HEDGES_SAVED_MAX,
  HedgeBudget,
  STARTS_PER_HEDGE,
  wantsHedge,
} from "./hedging.ts";

const LATE = {
  tier: "priority",
  hasToken: false,
  hasHedge: false,
  waitedMs: 101,
  firstTokenP95Ms: 100,
  utilisation: 0.5,
} as const;

describe("a hedge is wanted", () => {
  test.each([
    ["for a priority request later than the 95th percentile", {}, true],
    ["not for other tiers", { tier: "default" }, false],
    ["not once a token came", { hasToken: true }, false],
    ["not twice", { hasHedge: true }, false],
    ["not before the percentile", { waitedMs: 100 }, false],
    ["not while the percentile is unknown", { firstTokenP95Ms: null }, false],
    ["not on a full grid", { utilisation: HEDGE_UTILISATION_MAX }, false],
  ] as const)("%s", (_, change, wanted) => {
    expect(wantsHedge({ ...LATE, ...change })).toBe(wanted);
  });
});

test("hedges are at most a tenth of the attempts, and no more than a few are saved up", () => {
  const budget = new HedgeBudget();
  let taken = 0;
  for (let started = 1; started <= 95; started++) {
    budget.started();
    if (!budget.hasRoom) continue;
    budget.take();
    taken += 1;
    expect(taken).toBeLessThanOrEqual(started / STARTS_PER_HEDGE);
  }
  expect(taken).toBe(9);
  for (let started = 0; started < 10_000; started++) budget.started();
  for (taken = 0; budget.hasRoom; taken++) budget.take();
  expect(taken).toBe(HEDGES_SAVED_MAX);
});

test("the percentile is of the newest of its model, and unknown while there are few", () => {
  const times = new FirstTokenTimes();
  const model = modelId("tiny");
  for (let ms = 1; ms < 20; ms++) times.record(model, ms);
  expect(times.p95Ms(model)).toBeNull();
  for (let ms = 20; ms <= 100; ms++) times.record(model, ms);
  expect(times.p95Ms(model)).toBe(95);
  for (let count = 0; count < 128; count++) times.record(model, 7);
  expect(times.p95Ms(model)).toBe(7);
  expect(times.p95Ms(modelId("other"))).toBeNull();
});
