import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { AcceptanceRates, type DraftKind } from "./acceptance.ts";
import { LoopMeter } from "./loop-meter.ts";
import { DRAFTS_MAX, type DraftOffer, type LoopTimes, loopMsWith, Speculation, tokensExpected } from "./speculation.ts";

const WIDE: LoopTimes = { loopMs: 90, draftMs: 3, slowestMs: 1.5 };
const NEAR: LoopTimes = { loopMs: 4, draftMs: 3, slowestMs: 1.5 };

function offer(kind: DraftKind, count: number, waitMs = 0): DraftOffer {
  return { kind, count, waitMs: () => waitMs };
}

/** A numeric recipe's generator: the text's own luck. */
function luck(seed: number): () => number {
  let state = seed | 1;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) | 0;
    return (state >>> 0) / 2 ** 32;
  };
}

/** Generates tokens whose drafts come true with the given chance; answers with the speed against that without drafts. */
function speedup(run: {
  times: LoopTimes;
  chance: (token: number) => number;
  kind: DraftKind;
  tokens: number;
  seed: number;
}): number {
  const { times, kind } = run;
  const speculation = new Speculation(new AcceptanceRates(null));
  const random = luck(run.seed);
  let ms = 0;
  let made = 0;
  while (made < run.tokens) {
    const sent = speculation.choose([offer(kind, DRAFTS_MAX)], times, DRAFTS_MAX);
    let accepted = 0;
    while (sent !== null && accepted < sent.drafts && random() < run.chance(made + accepted)) accepted++;
    ms += loopMsWith(times, sent?.drafts ?? 0);
    made += 1 + accepted;
    speculation.note({ sent, accepted, isOver: false, waitedMs: 0 }, times);
  }
  return (made * loopMsWith(times, 0)) / ms;
}

describe("Speculation", () => {
  it("never slows text whose drafts do not come true by 5 %, however sure the guess", () => {
    const times = fc.record({
      loopMs: fc.double({ min: 1, max: 300, noNaN: true }),
      draftMs: fc.double({ min: 0.1, max: 100, noNaN: true }),
      slowestMs: fc.double({ min: 0.05, max: 100, noNaN: true }),
    });
    fc.assert(
      fc.property(
        times,
        fc.constantFrom<DraftKind>("run-2", "run-16", "model"),
        fc.double({ min: 0, max: 0.05, noNaN: true }),
        fc.integer(),
        (drawn, kind, chance, seed) => {
          expect(speedup({ times: drawn, chance: () => chance, kind, tokens: 200, seed })).toBeGreaterThan(0.95);
        },
      ),
    );
  });

  it("is more than 1.8 times as fast over 40 ms when most drafts come true", () => {
    for (const seed of [1, 2, 3])
      expect(speedup({ times: WIDE, chance: () => 0.75, kind: "run-4", tokens: 200, seed })).toBeGreaterThan(1.8);
  });

  it("learns within an answer that text has begun to repeat, and that it has stopped", () => {
    const half = { times: WIDE, kind: "run-4" as const, tokens: 400, seed: 7 };
    expect(speedup({ ...half, chance: (token) => (token < 200 ? 0.02 : 0.95) })).toBeGreaterThan(1.4);
    expect(speedup({ ...half, chance: (token) => (token < 200 ? 0.95 : 0.02) })).toBeGreaterThan(1.4);
  });

  it("sends no drafts, but for rare tries, where stages and not round trips bound the chain", () => {
    const busy: LoopTimes = { loopMs: 60, draftMs: 3, slowestMs: 60 };
    const speculation = new Speculation(new AcceptanceRates(null));
    let sent = 0;
    for (let loop = 0; loop < 200; loop++) {
      const choice = speculation.choose([offer("run-8", DRAFTS_MAX)], busy, DRAFTS_MAX);
      sent += choice?.drafts ?? 0;
      speculation.note({ sent: choice, accepted: 0, isOver: false, waitedMs: 0 }, busy);
    }
    expect(sent).toBeLessThanOrEqual(4);
  });

  it("chooses the number of drafts with the most tokens for its time, of those that it can afford", () => {
    fc.assert(
      fc.property(
        fc.double({ min: 0.1, max: 30, noNaN: true }),
        fc.integer({ min: 1, max: DRAFTS_MAX }),
        (draftMs, max) => {
          const times = { loopMs: 100, draftMs, slowestMs: draftMs };
          const choice = new Speculation(new AcceptanceRates(null)).choose([offer("run-8", DRAFTS_MAX)], times, max);
          const rate = new AcceptanceRates(null).rate("run-8");
          const score = (drafts: number) => tokensExpected(rate, drafts) / loopMsWith(times, drafts);
          const affordable = Math.min(max, Math.floor(50 / draftMs));
          for (let drafts = 1; drafts <= affordable; drafts++)
            expect(score(choice?.drafts ?? 0)).toBeGreaterThanOrEqual(score(drafts));
        },
      ),
    );
  });

  it("waits for the draft model for a quarter of a loop at most", () => {
    const speculation = new Speculation(new AcceptanceRates(null));
    expect(speculation.choose([offer("model", 8, 20)], WIDE, DRAFTS_MAX)?.waitMs).toBe(20);
    expect(speculation.choose([offer("model", 8, 40)], WIDE, DRAFTS_MAX)).toBeNull();
    expect(speculation.choose([offer("model", 8, 2)], NEAR, DRAFTS_MAX)).toBeNull();
  });

  it("does not hold against a draft that the answer ended before it", () => {
    const shared = new AcceptanceRates(null);
    const speculation = new Speculation(shared);
    const before = shared.rate("run-8");
    const sent = { offer: offer("run-8", 5), drafts: 5, waitMs: 0 };
    speculation.note({ sent, accepted: 0, isOver: true, waitedMs: 0 }, WIDE);
    expect(shared.rate("run-8")).toBe(before);
    speculation.note({ sent, accepted: 0, isOver: false, waitedMs: 0 }, WIDE);
    expect(shared.rate("run-8")).toBeLessThan(before);
  });
});

describe("LoopMeter", () => {
  it("takes what drafts cost out of the loop", () => {
    const meter = new LoopMeter();
    for (let loop = 0; loop < 60; loop++) {
      const drafts = loop % 5;
      meter.note({ tookMs: 90 + drafts * 3, drafts, draftMs: 3 });
    }
    expect(meter.loopMs).toBeCloseTo(90, 6);
    expect(meter.times({ stageMs: { slowestMs: 2, sumMs: 3 }, generating: 16, stages: 3 })).toEqual({
      loopMs: meter.loopMs,
      draftMs: 3,
      slowestMs: 6,
    });
  });

  it("is not misled by one loop that took a hundred times as long", () => {
    const meter = new LoopMeter();
    for (let loop = 0; loop < 20; loop++) meter.note({ tookMs: 10, drafts: 0, draftMs: 1 });
    meter.note({ tookMs: 1_000, drafts: 0, draftMs: 1 });
    expect(meter.loopMs).toBeLessThan(15);
  });
});
