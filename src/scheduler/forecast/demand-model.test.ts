import { describe, expect, test } from "vitest";
import { countQuantile, DemandModel, PAIRS_MAX } from "./demand-model.ts";
import { HOUR_MS } from "./life-table.ts";

const DAY_MS = 24 * HOUR_MS;
const PAIR = { modelId: "a", region: "" };

function feed(model: DemandModel, hours: number, perHour: (hour: number) => number, pair = PAIR): number {
  for (let hour = 0; hour < hours; hour++) {
    const count = perHour(hour);
    for (let at = 0; at < count; at++) model.take(pair, hour * HOUR_MS + (at / count) * HOUR_MS);
  }
  model.advance(hours * HOUR_MS);
  return hours * HOUR_MS;
}

describe("DemandModel", () => {
  test("a steady rate is expected to go on, over any horizon", () => {
    const model = new DemandModel();
    const nowMs = feed(model, 48, () => 30);
    expect(model.expected(PAIR, nowMs, HOUR_MS)).toBeCloseTo(30, -0.5);
    expect(model.expected(PAIR, nowMs, 4 * HOUR_MS) / model.expected(PAIR, nowMs, HOUR_MS)).toBeCloseTo(4, 1);
  });

  test("the morning that comes every day is expected before it comes", () => {
    const model = new DemandModel();
    const nowMs = feed(model, 14 * 24, (hour) => (hour % 24 >= 8 && hour % 24 < 18 ? 60 : 6));
    const sevenMs = nowMs + 7 * HOUR_MS;
    for (let hour = 0; hour < 7; hour++) for (let at = 0; at < 6; at++) model.take(PAIR, nowMs + hour * HOUR_MS + at);
    const before = model.expected(PAIR, sevenMs, HOUR_MS);
    const after = model.expected(PAIR, sevenMs + HOUR_MS, HOUR_MS);
    expect(after / before).toBeGreaterThan(5);
  });

  test("pairs are apart, and a model's regions add up", () => {
    const model = new DemandModel();
    feed(model, 24, () => 10);
    const east = { modelId: "a", region: "east" };
    for (let at = 0; at < 20; at++) model.take(east, DAY_MS + at);
    const nowMs = DAY_MS + HOUR_MS;
    model.advance(nowMs);
    const sum = model.expected(PAIR, nowMs, HOUR_MS) + model.expected(east, nowMs, HOUR_MS);
    expect(model.expectedOfModel("a", nowMs, HOUR_MS)).toBeCloseTo(sum);
    expect(model.expected({ modelId: "b", region: "" }, nowMs, HOUR_MS)).toBe(0);
  });

  test("what nobody asks for any more is forgotten, and a silence of months is no work", () => {
    const model = new DemandModel();
    feed(model, 24, () => 10);
    model.advance(400 * DAY_MS);
    expect(model.pairs()).toEqual([]);
  });

  test("follows no more pairs than its bound, and gives up those that are asked for least", () => {
    const model = new DemandModel();
    model.take(PAIR, 0);
    model.take(PAIR, 0);
    for (let at = 0; at < PAIRS_MAX + 10; at++) model.take({ modelId: `m${at}`, region: "" }, 1);
    expect(model.pairs().length).toBe(PAIRS_MAX);
    expect(model.pairs()).toContainEqual(PAIR);
  });

  test("what is kept and read back expects the same", () => {
    const model = new DemandModel();
    const nowMs = feed(model, 100, (hour) => hour % 7);
    const again = new DemandModel(model.snapshot());
    expect(again.expected(PAIR, nowMs, 9 * HOUR_MS)).toBeCloseTo(model.expected(PAIR, nowMs, 9 * HOUR_MS), 3);
    expect(again.quantile(PAIR, nowMs, HOUR_MS, 0.9)).toBe(model.quantile(PAIR, nowMs, HOUR_MS, 0.9));
  });

  test("bursts widen the quantiles", () => {
    const steady = new DemandModel();
    const bursty = new DemandModel();
    const nowMs = feed(steady, 200, () => 12);
    feed(bursty, 200, (hour) => (hour % 5 === 0 ? 60 : 0));
    const spread = (model: DemandModel) =>
      model.quantile(PAIR, nowMs, HOUR_MS, 0.95) / Math.max(1, model.expected(PAIR, nowMs, HOUR_MS));
    expect(spread(bursty)).toBeGreaterThan(1.3 * spread(steady));
  });
});

describe("countQuantile", () => {
  test("is a Poisson's without spread", () => {
    expect(countQuantile(4, 0, 0.5)).toBe(4);
    expect(countQuantile(4, 0, 0.95)).toBe(8);
    expect(countQuantile(0, 1, 0.99)).toBe(0);
  });

  test("finds the median of means at which no request at all is next to impossible", () => {
    expect(Math.abs(countQuantile(2_000, 0, 0.5) - 2_000)).toBeLessThan(3);
  });
});
