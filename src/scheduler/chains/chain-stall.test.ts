import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { startPace, type TokenPace } from "../attempts/stall.ts";
import {
  chainPatience,
  looksApartMs,
  OVERDUE_TO_ASK,
  overdueAttempt,
  type StageProgress,
  stalledStage,
} from "./chain-stall.ts";

const at = (arrived: number, passed: number, more: Partial<StageProgress> = {}): StageProgress => {
  return { arrived, passed, isLacking: false, isHeldUp: false, decoded: 0, ...more };
};
const still = (stages: readonly (StageProgress | null)[], known = 10) =>
  stalledStage(stages, stages, { known, isBusyExcused: true });
const HELD = { isHeldUp: true };

describe("where positions stop", () => {
  test.each<[string, readonly (StageProgress | null)[], object]>([
    [
      "a stage that says nothing is at fault",
      [at(10, 10), null, at(9, 9)],
      { at: 1, reporter: null, what: "no-answer" },
    ],
    ["the first of several that say nothing", [at(10, 10), null, null], { at: 1, reporter: null, what: "no-answer" }],
    [
      "who sends nothing again to one that asked",
      [at(10, 10), at(10, 10), at(3, 3, { isLacking: true })],
      { at: 1, reporter: 2, what: "nothing-sent-again" },
    ],
    [
      "the first of those that pass on that they lack something",
      [at(10, 10), at(3, 3, { isLacking: true }), at(3, 3, { isLacking: true })],
      { at: 0, reporter: 1, what: "nothing-sent-again" },
    ],
    [
      "a middle one that has less than was sent to it",
      [at(10, 10), at(9, 9), at(9, 9)],
      { at: 1, reporter: 0, what: "nothing-taken" },
    ],
    [
      "a first one that did not hear of the newest token",
      [at(9, 9), at(9, 9), at(9, 10)],
      { at: 0, reporter: 2, what: "nothing-taken" },
    ],
    [
      "a middle one that keeps what it took in",
      [at(10, 10), at(10, 9), at(9, 9)],
      { at: 1, reporter: null, what: "nothing-passed-on" },
    ],
    [
      "a first one that feeds nothing",
      [at(10, 9), at(9, 9), at(9, 9)],
      { at: 0, reporter: null, what: "nothing-passed-on" },
    ],
    ["who gives no credit", [at(10, 8, HELD), at(8, 8), at(8, 8)], { at: 1, reporter: 0, what: "nothing-taken" }],
    [
      "the last one, when all before it are held up",
      [at(10, 9, HELD), at(9, 8, HELD), at(8, 8)],
      { at: 2, reporter: 1, what: "nothing-taken" },
    ],
    [
      "a last one that says that it is held up",
      [at(10, 9, HELD), at(9, 8, HELD), at(8, 8, HELD)],
      { at: 2, reporter: 1, what: "nothing-taken" },
    ],
    [
      "a last one that does not draw",
      [at(10, 10), at(10, 10), at(10, 10)],
      { at: 2, reporter: null, what: "nothing-drawn" },
    ],
    [
      "a last one that draws for itself alone",
      [at(12, 12), at(12, 12), at(12, 12)],
      { at: 2, reporter: null, what: "nothing-drawn" },
    ],
  ])("%s", (_, stages, expected) => {
    expect(still(stages)).toEqual(expected);
  });

  test("nobody is at fault while any number grows", () => {
    const before = [at(100, 64), at(64, 32), at(32, 32)];
    expect(stalledStage(before, [at(100, 64), at(64, 40), at(32, 32)], { known: 100, isBusyExcused: true })).toBeNull();
    expect(stalledStage(before, before, { known: 100, isBusyExcused: true })).not.toBeNull();
  });

  test("nor the one where they stop while its engine works, for a while", () => {
    const [before, now] = [
      [at(10, 10), at(10, 9), at(9, 9)],
      [at(10, 10), at(10, 9, { decoded: 3 }), at(9, 9)],
    ];
    expect(stalledStage(before, now, { known: 10, isBusyExcused: true })).toBeNull();
    expect(stalledStage(before, now, { known: 10, isBusyExcused: false })).toMatchObject({ at: 1 });
  });

  test("one that told once is asked again", () => {
    const stages = [at(10, 10), at(10, 9), at(9, 9)];
    expect(stalledStage(stages, [at(10, 10), null, at(9, 9)], { known: 10, isBusyExcused: true })).toBeNull();
    expect(stalledStage([at(10, 10), null, at(9, 9)], stages, { known: 10, isBusyExcused: true })).toEqual({
      at: 1,
      reporter: null,
      what: "nothing-passed-on",
    });
  });
});

/** An honest chain in which one stage does nothing any more, as its honest stages tell it. */
const stopped = fc
  .record({
    stages: fc.integer({ min: 2, max: 8 }),
    at: fc.nat(7),
    known: fc.integer({ min: 2, max: 400 }),
    sent: fc.nat(400),
  })
  .map(({ stages, at: place, known, sent }) => ({
    stages,
    bad: place % stages,
    known,
    sent: Math.min(sent, known - 1),
  }));

describe("laws", () => {
  test("whatever stages tell, one of them is named and never its own reporter, when nothing moves", () => {
    const stage = fc.option(
      fc.record({
        arrived: fc.nat(50),
        passed: fc.nat(50),
        isLacking: fc.boolean(),
        isHeldUp: fc.boolean(),
        decoded: fc.nat(9),
      }),
    );
    fc.assert(
      fc.property(fc.array(stage, { minLength: 2, maxLength: 32 }), fc.nat(50), (stages, known) => {
        const found = still(stages, known);
        expect(found).not.toBeNull();
        expect(found?.at).toBeGreaterThanOrEqual(0);
        expect(found?.at).toBeLessThan(stages.length);
        expect(found?.reporter).not.toBe(found?.at);
      }),
    );
  });

  test("who keeps what it took in, or draws nothing, is named by its own numbers", () => {
    fc.assert(
      fc.property(stopped, ({ stages, bad, known, sent }) => {
        const told = Array.from({ length: stages }, (_, place) => {
          if (place < bad) return at(known, known);
          if (place === bad) return bad === stages - 1 ? at(known, known) : at(known, sent);
          return at(sent, sent);
        });
        expect(still(told, known)).toMatchObject({ at: bad, reporter: null });
      }),
    );
  });

  test("who takes nothing is named by the stage before it, whether frames wait for credits or not", () => {
    fc.assert(
      fc.property(stopped, fc.boolean(), ({ stages, bad, known, sent }, isHeldUp) => {
        fc.pre(bad > 0);
        const told = Array.from({ length: stages }, (_, place) => {
          if (place >= bad) return at(sent, sent);
          if (!isHeldUp) return at(known, known);
          return place === bad - 1 ? at(known, sent, HELD) : at(known, known);
        });
        expect(still(told, known)).toMatchObject({ at: bad, reporter: bad - 1 });
      }),
    );
  });
});

describe("the stages are asked", () => {
  const patience = chainPatience({ loopMs: 100, promptMsPerPosition: null });
  const begun = (
    startedAtMs: number,
    lastTokenAtMs: number | null = null,
  ): { pace: TokenPace; promptTokens: number } => {
    return { pace: { ...startPace(startedAtMs), lastTokenAtMs }, promptTokens: 0 };
  };

  test("about an answer that waits longer than the chain's patience, when nothing else moves", () => {
    const late = begun(0);
    expect(overdueAttempt([late], { nowMs: 2_999, patience })).toBeNull();
    expect(overdueAttempt([late], { nowMs: 3_000, patience })).toBe(late);
    expect(overdueAttempt([], { nowMs: 3_000, patience })).toBeNull();
  });

  test("while others move, when several wait, or one waits as long again and again", () => {
    const others = [begun(0, 8_900)];
    const late = [begun(0), begun(1_000), begun(2_000)];
    expect(overdueAttempt([...others, ...late.slice(0, 1)], { nowMs: 5_900, patience })).toBeNull();
    expect(overdueAttempt([...others, ...late], { nowMs: 5_900, patience })).toBe(late[0]);
    expect(overdueAttempt([...others, ...late.slice(0, 1)], { nowMs: 3_000 * OVERDUE_TO_ASK, patience })).toBe(late[0]);
  });

  test("later, and further apart, of a chain that is slow", () => {
    const slow = { loopMs: 2_000, promptMsPerPosition: 5 };
    expect(chainPatience(slow)).toMatchObject({
      firstTokenFloorMs: 24_000,
      firstTokenPerPromptTokenMs: 15,
      gapFloorMs: 24_000,
    });
    expect(looksApartMs(slow)).toBe(15_000);
    expect(looksApartMs({ loopMs: null, promptMsPerPosition: null })).toBe(1_000);
  });
});
