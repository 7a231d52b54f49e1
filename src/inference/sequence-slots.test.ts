import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { chooseSlot, commonPrefix, type SlotState } from "./sequence-slots.ts";

const MINE = "mine";
const idle = (tokens: readonly number[], lastUse: number): SlotState => ({
  isBusy: false,
  tokens,
  scope: MINE,
  lastUse,
});
const busy = (tokens: readonly number[]): SlotState => ({ isBusy: true, tokens, scope: MINE, lastUse: 99 });
const range = (from: number, count: number): number[] => Array.from({ length: count }, (_, index) => from + index);

describe("the slot of a new sequence", () => {
  test("is the idle one of its own conversation", () => {
    const slots = [idle(range(500, 40), 1), idle(range(0, 50), 5), idle([], 0)];
    expect(chooseSlot(slots, { prompt: range(0, 60), scope: MINE })).toEqual({
      slot: 1,
      reusedTokens: 50,
      copyFrom: null,
    });
  });

  test("is the least recently used one when nothing is shared", () => {
    const slots = [idle(range(500, 40), 7), idle(range(600, 40), 3), busy(range(0, 10))];
    expect(chooseSlot(slots, { prompt: range(900, 5), scope: MINE })).toEqual({
      slot: 1,
      reusedTokens: 0,
      copyFrom: null,
    });
  });

  test("takes a copy of a long beginning that a busy slot holds", () => {
    const slots = [busy(range(0, 300)), idle([], 0)];
    expect(chooseSlot(slots, { prompt: range(0, 200), scope: MINE })).toEqual({
      slot: 1,
      reusedTokens: 199,
      copyFrom: 0,
    });
  });

  test("leaves another conversation's slot alone when only its beginning is shared", () => {
    const slots = [idle([...range(0, 100), ...range(5000, 900)], 4), idle([], 0)];
    const prompt = [...range(0, 100), ...range(7000, 20)];
    expect(chooseSlot(slots, { prompt: prompt, scope: MINE })).toEqual({ slot: 1, reusedTokens: 100, copyFrom: 0 });
  });

  test("shares nothing with a slot of another scope, however alike the tokens are", () => {
    const theirs = { ...idle(range(0, 300), 1), scope: "theirs" };
    const sequence = { prompt: range(0, 300), scope: MINE };
    expect(chooseSlot([theirs], sequence)).toEqual({ slot: 0, reusedTokens: 0, copyFrom: null });
    expect(chooseSlot([{ ...theirs, isBusy: true }, idle([], 0)], sequence)).toEqual({
      slot: 1,
      reusedTokens: 0,
      copyFrom: null,
    });
  });

  test("is none when all are busy", () => {
    expect(chooseSlot([busy([]), busy([])], { prompt: [1], scope: MINE })).toBeNull();
  });

  test("is idle, and reuses only what the source holds, always leaving a token to decode", () => {
    const tokens = fc.array(fc.nat(2), { maxLength: 120 });
    const slot = fc.record({
      isBusy: fc.boolean(),
      tokens,
      scope: fc.constantFrom(MINE, "theirs", null),
      lastUse: fc.nat(50),
    });
    const prompts = fc.array(fc.nat(2), { minLength: 1, maxLength: 120 });
    fc.assert(
      fc.property(fc.array(slot, { minLength: 1, maxLength: 8 }), prompts, (slots, prompt) => {
        const choice = chooseSlot(slots, { prompt: prompt, scope: MINE });
        expect(choice === null).toBe(slots.every(({ isBusy }) => isBusy));
        if (choice === null) return;
        expect(slots[choice.slot]?.isBusy).toBe(false);
        const from = slots[choice.copyFrom ?? choice.slot];
        const source = from?.scope === MINE ? from.tokens : [];
        expect(choice.reusedTokens).toBeLessThanOrEqual(commonPrefix(source, prompt));
        expect(choice.reusedTokens).toBeLessThan(prompt.length);
      }),
    );
  });
});
