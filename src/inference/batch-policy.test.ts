import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { PREFILL_TOKENS_MAX, PREFILL_TOKENS_MIN, PrefillPace, planStep, STEP_TARGET_MS } from "./batch-policy.ts";

const sequences = fc.uniqueArray(
  fc.record({ slot: fc.nat(63), pendingTokens: fc.integer({ min: 1, max: 900 }), order: fc.nat(500) }),
  {
    selector: ({ slot }) => slot,
    maxLength: 64,
  },
);

describe("a step", () => {
  test("takes every generating sequence, and prompts only up to the budget", () => {
    fc.assert(
      fc.property(sequences, fc.integer({ min: 1, max: 512 }), (pending, budget) => {
        const parts = planStep(pending, budget);
        const bySlot = new Map(parts.map((part) => [part.slot, part.tokens]));
        let prefill = 0;
        for (const sequence of pending) {
          const tokens = bySlot.get(sequence.slot) ?? 0;
          if (sequence.pendingTokens === 1) expect(tokens).toBe(1);
          else prefill += tokens;
          expect(tokens).toBeLessThanOrEqual(sequence.pendingTokens);
        }
        const wanted = pending.filter(({ pendingTokens }) => pendingTokens > 1);
        const total = wanted.reduce((sum, { pendingTokens }) => sum + pendingTokens, 0);
        expect(prefill).toBe(Math.min(budget, total));
        expect(parts.map(({ slot }) => slot)).toEqual([...bySlot.keys()].sort((a, b) => a - b));
      }),
    );
  });

  test("finishes older prompts first", () => {
    const pending = [
      { slot: 0, pendingTokens: 100, order: 9 },
      { slot: 1, pendingTokens: 100, order: 2 },
    ];
    expect(planStep(pending, 120)).toEqual([
      { slot: 0, tokens: 20 },
      { slot: 1, tokens: 100 },
    ]);
  });
});

describe("the prompt tokens of a step", () => {
  test("stay within their bounds whatever was measured", () => {
    const step = fc.record({ prefillTokens: fc.nat(512), stepMs: fc.double({ min: 0, max: 5000, noNaN: true }) });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 50 }), (steps) => {
        const pace = new PrefillPace();
        for (const measured of steps) {
          pace.note(measured);
          expect(pace.tokens).toBeGreaterThanOrEqual(PREFILL_TOKENS_MIN);
          expect(pace.tokens).toBeLessThanOrEqual(PREFILL_TOKENS_MAX);
        }
      }),
    );
  });

  test("settle where a step takes its target time", () => {
    const pace = new PrefillPace();
    const msPerToken = 0.25;
    for (let round = 0; round < 40; round++)
      pace.note({ prefillTokens: pace.tokens, stepMs: pace.tokens * msPerToken });
    expect(pace.tokens * msPerToken).toBeCloseTo(STEP_TARGET_MS, 0);
  });
});
