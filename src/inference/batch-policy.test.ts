import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  type PendingSequence,
  PREFILL_TOKENS_MAX,
  PREFILL_TOKENS_MIN,
  PrefillPace,
  planStep,
  STEP_TARGET_MS,
} from "./batch-policy.ts";

const sequences = fc.uniqueArray(
  fc.record({
    slot: fc.nat(63),
    promptTokens: fc.integer({ min: 0, max: 900 }),
    generatedTokens: fc.integer({ min: 1, max: 300 }),
    order: fc.nat(500),
  }),
  {
    selector: ({ slot }) => slot,
    maxLength: 64,
  },
);
const budgets = fc.record({
  prefillTokens: fc.integer({ min: PREFILL_TOKENS_MIN, max: PREFILL_TOKENS_MAX }),
  replayTokensMax: fc.integer({ min: 1, max: 400 }),
});

describe("a step", () => {
  test("takes one token of every sequence that generates or replays, and prompts only up to the budget", () => {
    fc.assert(
      fc.property(sequences, budgets, (pending, budget) => {
        const parts = planStep(pending, budget).flat();
        const bySlot = new Map(parts.map((part) => [part.slot, part.tokens]));
        expect(bySlot.size).toBe(parts.length);
        let prefill = 0;
        for (const { slot, promptTokens, generatedTokens } of pending) {
          const tokens = bySlot.get(slot) ?? 0;
          const isSingle = promptTokens === 1 || (promptTokens === 0 && generatedTokens <= budget.replayTokensMax);
          if (isSingle) expect(tokens).toBe(1);
          else prefill += tokens;
          expect(tokens).toBeLessThanOrEqual(promptTokens === 0 ? generatedTokens : promptTokens);
        }
        expect(prefill).toBeLessThanOrEqual(budget.prefillTokens);
      }),
    );
  });

  test("law: single tokens are decoded apart, and no piece of a prompt is a single token or leaves one", () => {
    fc.assert(
      fc.property(sequences, budgets, (pending, budget) => {
        const bySlot = new Map(pending.map((sequence) => [sequence.slot, sequence]));
        for (const parts of planStep(pending, budget)) {
          expect(new Set(parts.map(({ tokens }) => tokens)).size).toBe(1);
          expect(parts.map(({ slot }) => slot)).toEqual(parts.map(({ slot }) => slot).sort((a, b) => a - b));
          for (const { slot, tokens } of parts) {
            const promptTokens = bySlot.get(slot)?.promptTokens ?? 0;
            if (promptTokens > 1) expect(tokens).toBeGreaterThan(1);
            if (promptTokens > 1) expect(promptTokens - tokens).not.toBe(1);
          }
        }
      }),
    );
  });

  test("always gets on with the oldest prompt", () => {
    fc.assert(
      fc.property(sequences, budgets, (pending, budget) => {
        const prompts = pending.filter(({ promptTokens }) => promptTokens > 1);
        const [oldest] = prompts.sort((a, b) => a.order - b.order || a.slot - b.slot);
        fc.pre(oldest !== undefined && pending.every(({ promptTokens }) => promptTokens > 1));
        expect(
          planStep(pending, budget)
            .flat()
            .some(({ slot }) => slot === oldest?.slot),
        ).toBe(true);
      }),
    );
  });

  test("finishes older prompts first, and prompts of one length together", () => {
    const prompt = (slot: number, promptTokens: number, order: number) => ({
      slot,
      promptTokens,
      generatedTokens: 0,
      order,
    });
    const budget = { prefillTokens: 220, replayTokensMax: 10 };
    expect(planStep([prompt(0, 100, 9), prompt(1, 100, 2), prompt(2, 100, 1)], budget)).toEqual([
      [
        { slot: 1, tokens: 100 },
        { slot: 2, tokens: 100 },
      ],
      [{ slot: 0, tokens: 20 }],
    ]);
  });

  test("a history that is too long to be decoded token by token is decoded as a prompt", () => {
    const moved = { slot: 3, promptTokens: 0, generatedTokens: 40, order: 1 };
    expect(planStep([moved], { prefillTokens: 64, replayTokensMax: 40 })).toEqual([[{ slot: 3, tokens: 1 }]]);
    expect(planStep([moved], { prefillTokens: 64, replayTokensMax: 39 })).toEqual([[{ slot: 3, tokens: 40 }]]);
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

describe("background", () => {
  const mixed = fc.array(fc.boolean(), { minLength: 64, maxLength: 64 });
  const marked = (pending: readonly PendingSequence[], marks: readonly boolean[]) =>
    pending.map((sequence, at) => ({ ...sequence, isBackground: marks[at] === true }));

  test("law: while anybody else's sequence is there, the step is as if background were not", () => {
    fc.assert(
      fc.property(sequences, mixed, budgets, (pending, marks, budget) => {
        const all = marked(pending, marks);
        const others = all.filter(({ isBackground }) => !isBackground);
        fc.pre(others.length > 0);
        expect(planStep(all, budget)).toEqual(planStep(others, budget));
      }),
    );
  });

  test("law: alone it gets on in every step, with at most a quarter of the prompt tokens", () => {
    fc.assert(
      fc.property(sequences, budgets, (pending, budget) => {
        fc.pre(pending.length > 0);
        const parts = planStep(marked(pending, new Array(64).fill(true)), budget).flat();
        expect(parts.length).toBeGreaterThan(0);
        const prefill = parts.reduce((sum, { tokens }) => sum + (tokens > 1 ? tokens : 0), 0);
        expect(prefill).toBeLessThanOrEqual(Math.max(PREFILL_TOKENS_MIN, budget.prefillTokens / 4));
      }),
    );
  });

  test("where there is room beside others, it generates beside those that generate and stops for prompts", () => {
    const budget = { prefillTokens: 128, replayTokensMax: 8, hasRoomBeside: true };
    const background = { slot: 0, promptTokens: 0, generatedTokens: 1, order: 0, isBackground: true };
    const prompt = { slot: 1, promptTokens: 300, generatedTokens: 0, order: 1, isBackground: true };
    const generating = { slot: 2, promptTokens: 0, generatedTokens: 1, order: 2 };
    const arriving = { slot: 3, promptTokens: 40, generatedTokens: 0, order: 3 };
    const slotsOf = (pending: readonly PendingSequence[]) =>
      planStep(pending, budget)
        .flat()
        .map(({ slot }) => slot);
    expect(slotsOf([background, prompt, generating])).toEqual([0, 2]);
    expect(slotsOf([background, prompt, generating, arriving])).toEqual([2, 3]);
  });
});
