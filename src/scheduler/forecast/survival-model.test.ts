import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { HOUR_MS } from "./life-table.ts";
import { hourOfWeek } from "./season.ts";
import { LIFE_MS_MAX, NODES_MAX, SurvivalModel, type SurvivalNode } from "./survival-model.ts";
import { SurvivalScore } from "./survival-score.ts";

/** Monday, 5 January 1970, midnight. */
const MONDAY_MS = 4 * 24 * HOUR_MS;

function nodeNamed(nodeId: string, change: Partial<SurvivalNode> = {}): SurvivalNode {
  return { nodeId, cohort: "gpu", utcOffsetMinutes: 0, ...change };
}

/** A stream of fractions in (0, 1), the same for the same seed (mulberry32). */
function fractions(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return (((mixed ^ (mixed >>> 14)) >>> 0) + 0.5) / 2 ** 32;
  };
}

interface Life {
  readonly node: SurvivalNode;
  /** Departures per hour at an age and a time. */
  readonly rate: (ageHours: number, atMs: number) => number;
}

/** Plays lives in steps of a minute: each up stretch ends by its rate, each pause lasts half an hour. */
function play(model: SurvivalModel, lives: readonly Life[], hours: number, eachHour?: (nowMs: number) => void): void {
  const draw = fractions(7);
  const sinceMs = lives.map(() => Number.NaN);
  const backMs = lives.map(() => MONDAY_MS);
  for (let nowMs = MONDAY_MS; nowMs < MONDAY_MS + hours * HOUR_MS; nowMs += 60_000) {
    lives.forEach(({ node, rate }, at) => {
      const since = sinceMs[at] ?? Number.NaN;
      if (Number.isNaN(since)) {
        if (nowMs < (backMs[at] ?? 0)) return;
        model.observe(node, "up", nowMs);
        sinceMs[at] = nowMs;
      } else if (draw() < 1 - Math.exp(-rate((nowMs - since) / HOUR_MS, nowMs) / 60)) {
        model.observe(node, "left", nowMs);
        sinceMs[at] = Number.NaN;
        backMs[at] = nowMs + HOUR_MS / 2;
      }
    });
    if ((nowMs - MONDAY_MS) % HOUR_MS === 0) {
      model.advance(nowMs);
      eachHour?.(nowMs);
    }
  }
}

function freshUp(model: SurvivalModel, node: SurvivalNode, nowMs: number): void {
  model.observe(node, "left", nowMs);
  model.observe(node, "up", nowMs);
}

describe("what is learned", () => {
  test("a hazard that falls with age is recovered from lives that were drawn with it", () => {
    const model = new SurvivalModel();
    const rate = (ageHours: number) => (ageHours < 1 ? 0.8 : ageHours < 4 ? 0.2 : 0.05);
    const lives = Array.from({ length: 40 }, (_, at) => ({ node: nodeNamed(`n${at}`), rate }));
    play(model, lives, 600);
    const nowMs = MONDAY_MS + 600 * HOUR_MS;
    const { node } = lives[0] ?? { node: nodeNamed("n0") };
    freshUp(model, node, nowMs);
    expect(model.stayChance(node.nodeId, nowMs, HOUR_MS)).toBeCloseTo(Math.exp(-0.8), 1);
    expect(model.stayChance(node.nodeId, nowMs + HOUR_MS, 3 * HOUR_MS)).toBeCloseTo(Math.exp(-0.6), 1);
    expect(model.stayChance(node.nodeId, nowMs + 4 * HOUR_MS, 4 * HOUR_MS)).toBeCloseTo(Math.exp(-0.2), 1);
  });

  test("a node that leaves ten times as often as its cohort is believed after a while, and its cohort is not blamed", () => {
    const model = new SurvivalModel();
    const steady = Array.from({ length: 20 }, (_, at) => ({ node: nodeNamed(`s${at}`), rate: () => 0.1 }));
    const flighty = { node: nodeNamed("flighty"), rate: () => 1 };
    play(model, [...steady, flighty], 900);
    const nowMs = MONDAY_MS + 900 * HOUR_MS;
    for (const { node } of [...steady, flighty]) freshUp(model, node, nowMs);
    expect(model.stayChance("flighty", nowMs, HOUR_MS)).toBeLessThan(0.55);
    expect(model.stayChance("s0", nowMs, HOUR_MS)).toBeGreaterThan(0.8);
  });

  test("a node of which nothing is known yet behaves as its cohort, not as the whole grid", () => {
    const model = new SurvivalModel();
    const calm = Array.from({ length: 20 }, (_, at) => ({
      node: nodeNamed(`c${at}`, { cohort: "calm" }),
      rate: () => 0.05,
    }));
    const wild = Array.from({ length: 20 }, (_, at) => ({
      node: nodeNamed(`w${at}`, { cohort: "wild" }),
      rate: () => 1.5,
    }));
    play(model, [...calm, ...wild], 800);
    const nowMs = MONDAY_MS + 800 * HOUR_MS;
    model.observe(nodeNamed("new-calm", { cohort: "calm" }), "up", nowMs);
    model.observe(nodeNamed("new-wild", { cohort: "wild" }), "up", nowMs);
    expect(model.stayChance("new-calm", nowMs, HOUR_MS)).toBeGreaterThan(0.75);
    expect(model.stayChance("new-wild", nowMs, HOUR_MS)).toBeLessThan(0.5);
  });

  test("owners who come back at eight in the evening are seen, and the score lets the hour of the week have its say", () => {
    const model = new SurvivalModel();
    const score = new SurvivalScore(model);
    const rate = (_: number, atMs: number) => (hourOfWeek(atMs, 60) % 24 === 20 ? 3 : 0.05);
    const lives = Array.from({ length: 30 }, (_, at) => ({
      node: nodeNamed(`n${at}`, { utcOffsetMinutes: 60 }),
      rate,
    }));
    play(model, lives, 24 * 14, (nowMs) => score.ask(nowMs));
    expect(model.isSeasonal).toBe(true);
    const nightMs = MONDAY_MS + 24 * 14 * HOUR_MS;
    const [life] = lives;
    freshUp(model, life?.node ?? nodeNamed("n0"), nightMs);
    const atEveningMs = nightMs + 19 * HOUR_MS;
    expect(model.stayChance("n0", atEveningMs, HOUR_MS)).toBeLessThan(0.4);
    expect(model.stayChance("n0", atEveningMs + 2 * HOUR_MS, HOUR_MS)).toBeGreaterThan(0.85);
  });

  test("a score that asks in parts has as many outcomes as one that asks at once, and says the same", () => {
    const briers = [1, 8].map((parts) => {
      const model = new SurvivalModel();
      const score = new SurvivalScore(model);
      const lives = Array.from({ length: 20 }, (_, at) => ({ node: nodeNamed(`n${at}`), rate: () => 0.4 }));
      play(model, lives, 24 * 4, (nowMs) => {
        for (let part = 0; part < parts; part++) score.ask(nowMs, { part, parts });
      });
      return score.reliability.map((scored) => [scored.count, Math.round((scored.brier() ?? 0) * 1e9)]);
    });
    expect(briers[0]?.[0]?.[0]).toBeGreaterThan(500);
    expect(briers[1]).toEqual(briers[0]);
  });

  test("where the hour does not matter it gets no say", () => {
    const model = new SurvivalModel();
    const score = new SurvivalScore(model);
    const lives = Array.from({ length: 20 }, (_, at) => ({ node: nodeNamed(`n${at}`), rate: () => 0.4 }));
    play(model, lives, 24 * 10, (nowMs) => score.ask(nowMs));
    expect(score.reliability[0]?.count).toBeGreaterThan(1_000);
    expect(model.isSeasonal).toBe(false);
  });

  test("the score of an honest forecast is that of the known chance, and its curve lies on the diagonal", () => {
    const model = new SurvivalModel();
    const score = new SurvivalScore(model);
    const lives = Array.from({ length: 30 }, (_, at) => ({ node: nodeNamed(`n${at}`), rate: () => 0.4 }));
    play(model, lives, 24 * 14, (nowMs) => score.ask(nowMs));
    const chance = Math.exp(-0.4);
    expect(score.reliability[0]?.brier()).toBeCloseTo(chance * (1 - chance), 1);
    for (const bin of score.reliability[0]?.curve() ?? []) {
      if (bin.forecasts > 500) expect(Math.abs(bin.meanChance - bin.stayedShare)).toBeLessThan(0.06);
    }
  });
});

describe("bounds and rules", () => {
  test("a node that is down or unknown does not stay", () => {
    const model = new SurvivalModel();
    expect(model.stayChance("nobody", 0, 1)).toBe(0);
    model.observe(nodeNamed("a"), "up", MONDAY_MS);
    model.observe(nodeNamed("a"), "left", MONDAY_MS + 1);
    expect(model.stayChance("a", MONDAY_MS + 2, 1)).toBe(0);
    expect(model.remainingLifeMs("a", MONDAY_MS + 2, 0.5)).toBe(0);
  });

  test("a node that was sent away, or that we stopped seeing, has not left", () => {
    const counted = (transition: "left" | "unseen") => {
      const model = new SurvivalModel();
      for (let at = 0; at < 50; at++) {
        model.observe(nodeNamed("a"), "up", MONDAY_MS + at * HOUR_MS);
        model.observe(nodeNamed("a"), transition, MONDAY_MS + at * HOUR_MS + HOUR_MS / 2);
      }
      return model.core().grid.departures.reduce((sum, count) => sum + count, 0);
    };
    expect(counted("left")).toBe(50);
    expect(counted("unseen")).toBe(0);
  });

  test("time that stands still or runs backwards counts nothing", () => {
    const model = new SurvivalModel();
    model.observe(nodeNamed("a"), "up", MONDAY_MS);
    model.advance(MONDAY_MS - HOUR_MS);
    model.observe(nodeNamed("a"), "left", MONDAY_MS - HOUR_MS);
    expect(model.core().grid.exposureHours.every((hours) => hours === 0)).toBe(true);
  });

  test("what a node showed fades by the day, whether or not anybody asked about it meanwhile", () => {
    const chances = [1, 40].map((days) => {
      const model = new SurvivalModel();
      const lives = Array.from({ length: 5 }, (_, at) => ({ node: nodeNamed(`n${at}`), rate: () => 0.3 + at / 3 }));
      play(model, lives, 200);
      const startMs = MONDAY_MS + 200 * HOUR_MS;
      for (const { node } of lives) model.observe(node, "unseen", startMs);
      for (let day = days; day <= 80; day += days) {
        model.advance(startMs + day * 24 * HOUR_MS);
        model.observe(nodeNamed("n4"), "up", startMs + day * 24 * HOUR_MS);
        model.stayChance("n4", startMs + day * 24 * HOUR_MS, HOUR_MS);
        model.observe(nodeNamed("n4"), "unseen", startMs + day * 24 * HOUR_MS);
      }
      const [first, fourth] = [[...model.rows()][0], [...model.rows()].find(({ nodeId }) => nodeId === "n4")];
      return [...(first?.departures ?? []), ...(fourth?.departures ?? [])];
    });
    const [daily = [], seldom = []] = chances;
    expect(daily[0]).toBeGreaterThan(0);
    for (const [at, departures] of daily.entries()) expect(seldom[at]).toBeCloseTo(departures, 4);
    const fresh = new SurvivalModel();
    play(
      fresh,
      Array.from({ length: 5 }, (_, at) => ({ node: nodeNamed(`n${at}`), rate: () => 0.3 + at / 3 })),
      200,
    );
    const before = [...fresh.rows()][0]?.departures[0] ?? 0;
    expect(daily[0]).toBeCloseTo(before * 0.5 ** (80 / 56), 1);
  });

  test("of too many nodes those heard of longest ago are forgotten, and a round of looks meets each that is up once", () => {
    const model = new SurvivalModel();
    for (let at = 0; at < NODES_MAX + 7; at++) model.observe(nodeNamed(`n${at}`), "up", MONDAY_MS);
    for (let at = NODES_MAX - 30; at < NODES_MAX; at += 3) {
      model.observe(nodeNamed(`n${at}`), "left", MONDAY_MS);
      if (at % 2 === 0) model.observe(nodeNamed(`n${at}`), "up", MONDAY_MS);
    }
    const step = 800;
    const met = new Set<string>();
    let looks = 0;
    for (let from = 0; from < step; from++) {
      for (const nodeId of model.upNodesEvery(step, from)) {
        met.add(nodeId);
        looks += 1;
      }
    }
    expect(model.size).toBe(NODES_MAX);
    expect(model.upSinceMs("n6")).toBeNull();
    expect(model.upSinceMs(`n${NODES_MAX + 6}`)).toBe(MONDAY_MS);
    expect(looks).toBe(NODES_MAX - 5);
    expect(met.size).toBe(looks);
    expect([...met].every((nodeId) => model.upSinceMs(nodeId) !== null)).toBe(true);
  });

  test("what is kept and read back forecasts the same", () => {
    const model = new SurvivalModel();
    const lives = Array.from({ length: 5 }, (_, at) => ({ node: nodeNamed(`n${at}`), rate: () => 0.3 }));
    play(model, lives, 200);
    const again = new SurvivalModel({ core: model.core(), nodes: [...model.rows()] });
    const nowMs = MONDAY_MS + 201 * HOUR_MS;
    for (const { node } of lives) {
      for (const isSeasonal of [false, true]) {
        const options = { isSeasonal };
        expect(again.stayChance(node.nodeId, nowMs, 5 * HOUR_MS, options)).toBeCloseTo(
          model.stayChance(node.nodeId, nowMs, 5 * HOUR_MS, options),
          4,
        );
      }
    }
  });
});

describe("laws", () => {
  const histories = fc.array(
    fc.record({
      nodeId: fc.constantFrom("a", "b", "c"),
      transition: fc.constantFrom("up" as const, "left" as const, "unseen" as const),
      afterMs: fc.integer({ min: 0, max: 40 * HOUR_MS }),
    }),
    { maxLength: 60 },
  );

  test("a longer horizon is never likelier, two horizons in a row multiply, and a quantile of life inverts the chance", () => {
    fc.assert(
      fc.property(histories, fc.boolean(), (history, isSeasonal) => {
        const model = new SurvivalModel();
        model.isSeasonal = isSeasonal;
        let nowMs = MONDAY_MS;
        for (const { nodeId, transition, afterMs } of history) {
          nowMs += afterMs;
          model.observe(nodeNamed(nodeId), transition, nowMs);
        }
        model.observe(nodeNamed("a"), "up", nowMs);
        model.advance(nowMs);
        const first = model.stayChance("a", nowMs, 3 * HOUR_MS);
        const both = model.stayChance("a", nowMs, 10 * HOUR_MS);
        expect(both).toBeLessThanOrEqual(first);
        expect(first * model.stayChance("a", nowMs + 3 * HOUR_MS, 7 * HOUR_MS)).toBeCloseTo(both, 9);
        const lifeMs = model.remainingLifeMs("a", nowMs, 0.3);
        if (lifeMs < LIFE_MS_MAX) expect(model.stayChance("a", nowMs, lifeMs)).toBeCloseTo(0.7, 6);
        expect(lifeMs).toBeLessThanOrEqual(model.remainingLifeMs("a", nowMs, 0.6));
      }),
    );
  });
});
