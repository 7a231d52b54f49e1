import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { sha256Hex } from "../src/domain/ids.ts";
import type { Engine } from "../src/ports/engine.ts";
import { engineHost, generate, loadTiny, PROMPT, taskOf } from "./support/engine-fixture.ts";

let engine: Engine;
let other: Engine;

beforeAll(async () => {
  const host = engineHost();
  [engine, other] = await Promise.all([loadTiny(host, { sequencesMax: 3 }), loadTiny(host, { sequencesMax: 3 })]);
});

afterAll(() => Promise.all([engine.close(), other.close()]));

/** A prompt of this length that shares nothing with one of another salt. */
const promptOf = (length: number, salt: number): number[] =>
  Array.from({ length }, (_, index) => (index === 0 ? 1 : 300 + ((index * 37 + salt * 101) % 1500)));

describe("prefix reuse", () => {
  test("a conversation's next turn finds its beginning, and the text is as without it", async () => {
    const prompt = promptOf(120, 1);
    const first = await generate(engine, { tokenIds: prompt, tokensMax: 20, ignoreStopTokens: true });
    const next = [...prompt, ...first.tokenIds, ...promptOf(10, 2).slice(1)];
    const reused = await generate(engine, { tokenIds: next, tokensMax: 20, ignoreStopTokens: true });
    // The last generated token was never decoded.
    expect(reused.usage.cachedTokens).toBe(prompt.length + 19);
    const fresh = await generate(other, { tokenIds: next, tokensMax: 20, ignoreStopTokens: true });
    expect(fresh.usage.cachedTokens).toBe(0);
    expect(reused.tokenIds).toEqual(fresh.tokenIds);
  });

  test("another tenant's beginning is decoded anew: nothing tells what was asked before", async () => {
    const prompt = promptOf(120, 7);
    const task = { tokenIds: prompt, tokensMax: 5, ignoreStopTokens: true };
    const first = await generate(engine, { ...task, cacheScope: "tenant one" });
    const again = await generate(engine, { ...task, cacheScope: "tenant one" });
    expect(again.usage.cachedTokens).toBeGreaterThan(100);
    const theirs = await generate(engine, { ...task, cacheScope: "tenant two" });
    expect(theirs.usage.cachedTokens).toBe(0);
    expect(theirs.tokenIds).toEqual(first.tokenIds);
  });

  test("a beginning that runs elsewhere is copied, and both texts are as alone", async () => {
    const prompt = promptOf(300, 3);
    const task = { tokenIds: prompt, tokensMax: 40, ignoreStopTokens: true };
    const seed = sha256Hex("11".repeat(32));
    const first = generate(engine, task);
    // Starts once the first has left its prompt behind.
    await new Promise<void>((resolve) => {
      const probe = engine.generate(taskOf({ ...task, tokensMax: 1 }), (event) => {
        if (event.kind === "end") resolve();
        expect(event.kind).not.toBe("failed");
      });
      expect(probe).toBeDefined();
    });
    const second = await generate(engine, { ...task, seed });
    // A prompt's last token is decoded with the one before it.
    expect(second.usage.cachedTokens).toBe(prompt.length - 2);
    expect((await first).tokenIds).toEqual((await generate(other, task)).tokenIds);
    expect(second.tokenIds).toEqual((await generate(other, { ...task, seed })).tokenIds);
  });

  test("an aborted sequence leaves a beginning that can be used", async () => {
    const prompt = promptOf(200, 5);
    await new Promise<void>((resolve) => {
      const sequence = engine.generate(taskOf({ tokenIds: prompt, tokensMax: 500, ignoreStopTokens: true }), () => {
        sequence.abort();
        resolve();
      });
    });
    const after = await generate(engine, { tokenIds: prompt, tokensMax: 12, ignoreStopTokens: true });
    expect(after.usage.cachedTokens).toBe(prompt.length - 2);
    const fresh = await generate(other, { tokenIds: prompt, tokensMax: 12, ignoreStopTokens: true });
    expect(after.tokenIds).toEqual(fresh.tokenIds);
  });
});

describe("KV state", () => {
  test("moves to another engine, where the text goes on identically and nothing is prefilled again", async () => {
    const prompt = promptOf(90, 7);
    const first = await generate(engine, { tokenIds: prompt, tokensMax: 15, ignoreStopTokens: true });
    const held = [...prompt, ...first.tokenIds.slice(0, -1)];
    const state = await engine.exportState(held);
    if (state === null) throw new Error("a slot holds the sequence");
    expect(state.tokenIds).toEqual(held);
    expect(await other.importState(state)).toBe(true);
    const tokenIds = [...prompt, ...first.tokenIds];
    const task = { tokenIds, generatedCount: first.tokenIds.length, tokensMax: 15, ignoreStopTokens: true };
    const there = await generate(other, task);
    expect(there.usage.cachedTokens).toBe(held.length);
    const here = await generate(engine, task);
    expect(there.tokenIds).toEqual(here.tokenIds);
  });

  test("of another's longer conversation is cut to what was asked for", async () => {
    const prompt = promptOf(50, 8);
    await generate(engine, { tokenIds: prompt, tokensMax: 30, ignoreStopTokens: true });
    expect((await engine.exportState(prompt.slice(0, 40)))?.tokenIds).toEqual(prompt.slice(0, 40));
  });

  test("that no slot holds is null", async () => {
    expect(await engine.exportState(promptOf(10, 99))).toBeNull();
  });

  test("with a wrong digest, wrong tokens or foreign bytes is not taken", async () => {
    const prompt = promptOf(60, 9);
    await generate(engine, { tokenIds: prompt, tokensMax: 2, ignoreStopTokens: true });
    const state = await engine.exportState(prompt);
    if (state === null) throw new Error("a slot holds the prompt");
    const flipped = Uint8Array.from(state.data, (byte, index) => (index === 100 ? byte ^ 1 : byte));
    expect(await other.importState({ ...state, data: flipped })).toBe(false);
    expect(await other.importState({ ...state, tokenIds: state.tokenIds.slice(1) })).toBe(false);
    expect(await other.importState({ ...state, tokenIds: [...state.tokenIds, 2048] })).toBe(false);
    const after = await generate(other, { tokenIds: PROMPT, tokensMax: 3 });
    expect(after.tokenIds).toHaveLength(3);
  });
});

describe("embeddings", () => {
  const norm = (vector: Float32Array): number => Math.hypot(...vector);
  const cosine = (a: Float32Array, b: Float32Array): number =>
    a.reduce((sum, value, at) => sum + value * (b[at] ?? 0), 0);
  const never = new AbortController().signal;

  test("have length one, and do not depend on what they are computed with", async () => {
    const inputs = [
      PROMPT,
      promptOf(500, 1),
      promptOf(3, 2),
      promptOf(129, 3),
      [1],
      promptOf(40, 4),
      PROMPT,
      promptOf(9, 5),
    ];
    const together = await engine.embed([...inputs, ...inputs], never);
    expect(together).toHaveLength(16);
    for (const [index, input] of inputs.entries()) {
      const vector = together[index] ?? new Float32Array();
      expect(vector).toHaveLength(256);
      expect(norm(vector)).toBeCloseTo(1, 5);
      const [alone] = await other.embed([input], never);
      expect(alone, `input ${index}`).toEqual(vector);
      expect(together[index + 8]).toEqual(vector);
    }
  });

  test("of like texts are nearer than of unlike ones", async () => {
    const [a, b, c] = await engine.embed([promptOf(50, 1), promptOf(51, 1), promptOf(50, 6)], never);
    const none = new Float32Array();
    expect(cosine(a ?? none, b ?? none)).toBeGreaterThan(cosine(a ?? none, c ?? none));
  });

  test("run beside generation without changing it", async () => {
    const alone = await generate(other, { tokensMax: 40, ignoreStopTokens: true });
    const [beside] = await Promise.all([
      generate(engine, { tokensMax: 40, ignoreStopTokens: true }),
      engine.embed([promptOf(700, 1), promptOf(300, 2)], never),
    ]);
    expect(beside.tokenIds).toEqual(alone.tokenIds);
  });

  test("that are aborted reject, and the next are served", async () => {
    const controller = new AbortController();
    const long = engine.embed(
      Array.from({ length: 12 }, (_, index) => promptOf(900, index)),
      controller.signal,
    );
    controller.abort();
    await expect(long).rejects.toMatchObject({ code: "aborted" });
    expect(await engine.embed([PROMPT], never)).toHaveLength(1);
  });

  test("of tokens out of the vocabulary or beyond the context are refused", async () => {
    await expect(engine.embed([[2048]], never)).rejects.toMatchObject({ code: "token-out-of-vocabulary" });
    await expect(engine.embed([promptOf(1025, 1)], never)).rejects.toMatchObject({ code: "context-exceeded" });
  });
});

test("tasks beyond the sequences wait, and beyond the queue are refused at once", async () => {
  const host = engineHost({ queueMax: 4 });
  const small = await loadTiny(host, { sequencesMax: 2 });
  const results = await Promise.allSettled(
    Array.from({ length: 9 }, () => generate(small, { tokensMax: 10, ignoreStopTokens: true })),
  );
  expect(results.filter(({ status }) => status === "fulfilled")).toHaveLength(6);
  const refused = results.flatMap((result) => (result.status === "rejected" ? [String(result.reason)] : []));
  expect(refused).toHaveLength(3);
  for (const reason of refused) expect(reason).toContain("engine-overloaded");
  await small.close();
});
