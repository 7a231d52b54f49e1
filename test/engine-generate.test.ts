import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { sha256Hex } from "../src/domain/ids.ts";
import { DEFAULT_SAMPLING, type SamplingOptions } from "../src/domain/sampling.ts";
import type { Engine, GenerateTask } from "../src/ports/engine.ts";
import type { Tokenizer } from "../src/ports/tokenizer.ts";
import { engineHost, generate, loadTiny, PROMPT, taskOf } from "./support/engine-fixture.ts";
import { openTiny } from "./support/tokenizer-fixture.ts";

let engine: Engine;
let tokenizer: Tokenizer;
let closeTokenizer: () => Promise<void>;

beforeAll(async () => {
  engine = await loadTiny(engineHost(), { sequencesMax: 64 });
  ({ tokenizer, close: closeTokenizer } = await openTiny());
});

afterAll(async () => {
  await engine.close();
  await closeTokenizer();
});

const seedOf = (number: number) => sha256Hex(number.toString(16).padStart(64, "0"));
const textOf = (tokenIds: readonly number[]): string =>
  Buffer.concat(tokenIds.map((id) => tokenizer.piece(id))).toString();
const sampling = (options: Partial<SamplingOptions>): SamplingOptions => ({ ...DEFAULT_SAMPLING, ...options });

describe("generation", () => {
  test("64 sequences at once each give the text that they give alone", async () => {
    const prompts = [PROMPT, PROMPT.slice(0, 3), [...PROMPT, 17, 273, 45, 301]];
    const tasks = Array.from(
      { length: 64 },
      (_, index): Partial<GenerateTask> => ({
        tokenIds: prompts[index % prompts.length] ?? PROMPT,
        tokensMax: 20 + (index % 30),
        seed: seedOf(index % 16),
        sampling: sampling({ temperature: index % 4 === 0 ? 0 : 1, topP: index % 3 === 0 ? 0.9 : 1 }),
      }),
    );
    const together = await Promise.all(tasks.map((task) => generate(engine, task)));
    for (const index of [0, 1, 7, 22, 40, 63]) {
      const alone = await generate(engine, tasks[index] ?? {});
      expect(together[index]?.tokenIds, `sequence ${index}`).toEqual(alone.tokenIds);
    }
  });

  test.each([
    ["with defaults", {}],
    [
      "with penalties and bias",
      { sampling: sampling({ frequencyPenalty: 0.8, presencePenalty: 0.5, logitBias: [[17, -2]] }) },
    ],
    ["with top-p", { sampling: sampling({ topP: 0.8, temperature: 1.3 }) }],
    ["with a stop string", { stopStrings: [" shall be"] }],
    ["with a grammar", { grammar: 'root ::= ([a-z] | " ")+ "."' }],
  ] satisfies [string, Partial<GenerateTask>][])("%s goes on after any cut as if undisturbed", async (_, task) => {
    const whole = await generate(engine, { ...task, tokensMax: 40 });
    expect(whole.tokenIds.length).toBeGreaterThan(3);
    for (const cut of [1, 2, Math.floor(whole.tokenIds.length / 2), whole.tokenIds.length - 1]) {
      const done = whole.tokenIds.slice(0, cut);
      const rest = await generate(engine, {
        ...task,
        tokenIds: [...PROMPT, ...done],
        generatedCount: cut,
        tokensMax: 40 - cut,
      });
      expect([...done, ...rest.tokenIds], `cut at ${cut}`).toEqual(whole.tokenIds);
      expect(rest.reason).toBe(whole.reason);
    }
  });

  test("ends at tokensMax, and counts what it gave", async () => {
    const result = await generate(engine, { tokensMax: 5, ignoreStopTokens: true });
    expect(result.reason).toBe("length");
    expect(result.usage).toMatchObject({ promptTokens: PROMPT.length, outputTokens: 5 });
    expect(result.tokenIds).toHaveLength(5);
  });

  test("ends when the context is full", async () => {
    const prompt = Array.from({ length: 1020 }, (_, index) => PROMPT[index % PROMPT.length] ?? 1);
    const result = await generate(engine, { tokenIds: prompt, tokensMax: 100, ignoreStopTokens: true });
    expect(result.reason).toBe("length");
    expect(result.tokenIds).toHaveLength(4);
  });

  test("ends with the model's end token, which is given and counted", async () => {
    const parts = [
      { text: "<|user|>", special: true },
      { text: "Who made the heaven?", special: false },
      { text: "<|end|><|assistant|>", special: true },
    ];
    const tokenIds = await tokenizer.tokenize(parts, { addBos: true });
    const result = await generate(engine, { tokenIds, tokensMax: 300, sampling: sampling({ temperature: 0 }) });
    expect(result.reason).toBe("stop-token");
    expect(tokenizer.stopTokenIds).toContain(result.tokenIds.at(-1));
    expect(result.usage.outputTokens).toBe(result.tokenIds.length);
  });

  test("ends at a stop string that spans tokens", async () => {
    const free = await generate(engine, { tokensMax: 40, sampling: sampling({ temperature: 0 }) });
    const text = textOf(free.tokenIds);
    const stop = text.slice(13, 19);
    const result = await generate(engine, {
      tokensMax: 40,
      sampling: sampling({ temperature: 0 }),
      stopStrings: [stop],
    });
    expect(result.reason).toBe("stop-string");
    const stopped = textOf(result.tokenIds);
    expect(stopped).toContain(stop);
    expect(textOf(result.tokenIds.slice(0, -1))).not.toContain(stop);
    expect(text.startsWith(stopped)).toBe(true);
  });

  test("a bias of 100 forces a token and -100 bans it", async () => {
    const forced = await generate(engine, { tokensMax: 4, sampling: sampling({ logitBias: [[301, 100]] }) });
    expect(forced.tokenIds).toEqual([301, 301, 301, 301]);
    const greedy = await generate(engine, { tokensMax: 1, sampling: sampling({ temperature: 0 }) });
    const first = greedy.tokenIds[0] ?? 0;
    const banned = await generate(engine, {
      tokensMax: 1,
      sampling: sampling({ temperature: 0, logitBias: [[first, -100]] }),
    });
    expect(banned.tokenIds[0]).not.toBe(first);
  });

  test("log-probabilities come with the likeliest alternatives, and are the same without noise", async () => {
    const result = await generate(engine, { tokensMax: 6, topLogprobs: 20, sampling: sampling({ temperature: 0 }) });
    for (const { tokenId, logprob, top } of result.tokens) {
      expect(top).toHaveLength(20);
      expect(top[0]?.tokenId).toBe(tokenId);
      expect(top[0]?.logprob).toBeCloseTo(logprob ?? 1, 10);
      const mass = top.reduce((sum, entry) => sum + Math.exp(entry.logprob), 0);
      expect(mass).toBeGreaterThan(0.1);
      expect(mass).toBeLessThanOrEqual(1 + 1e-9);
    }
    const without = await generate(engine, { tokensMax: 6, sampling: sampling({ temperature: 0 }) });
    expect(without.tokenIds).toEqual(result.tokenIds);
    expect(without.tokens[0]).toEqual({ tokenId: result.tokenIds[0], logprob: null, top: [] });
    const zero = await generate(engine, { tokensMax: 1, topLogprobs: 0 });
    expect(zero.tokens[0]?.top).toEqual([]);
    expect(zero.tokens[0]?.logprob).toBeLessThan(0);
  });
});

describe("a grammar", () => {
  test("is obeyed by every text", async () => {
    const grammar = 'root ::= "{\\"name\\": \\"" [A-Z] [a-z]{0,8} "\\", \\"age\\": " [0-9]{1,3} "}"';
    const results = await Promise.all(
      Array.from({ length: 8 }, (_, index) => generate(engine, { grammar, tokensMax: 200, seed: seedOf(index) })),
    );
    for (const { tokenIds, reason } of results) {
      expect(reason).toBe("stop-token");
      expect(textOf(tokenIds)).toMatch(/^\{"name": "[A-Z][a-z]*", "age": [0-9]+\}$/);
    }
  });

  test("that is complete ends the text even when end tokens are ignored", async () => {
    const result = await generate(engine, { grammar: 'root ::= "yes" | "no"', ignoreStopTokens: true });
    expect(["yes", "no"]).toContain(textOf(result.tokenIds));
    expect(result.reason).toBe("grammar-end");
  });

  test.each([
    ["no root", 'start ::= "a"'],
    ["left recursion", 'root ::= root "a"'],
    ["an undefined rule", "root ::= word"],
    ["no grammar at all", "{{{{"],
    ["nothing", ""],
    ["a zero byte", 'root ::= "a\0b"'],
    ["groups nested too deeply", `root ::= ${"(".repeat(5000)}"a"${")".repeat(5000)}`],
  ])("with %s fails its own task only", async (_, grammar) => {
    const healthy = generate(engine, { tokensMax: 30 });
    await expect(generate(engine, { grammar })).rejects.toThrow(/^grammar-invalid: /);
    expect((await healthy).tokenIds.length).toBeGreaterThan(0);
  });

  test("that the tokens so far do not fit is refused", async () => {
    const task = { grammar: "root ::= [0-9]+", tokenIds: [...PROMPT, 301], generatedCount: 1 };
    await expect(generate(engine, task)).rejects.toThrow(/^grammar-invalid: .*so far/);
  });
});

describe("what must not reach native code", () => {
  test.each([
    ["above the vocabulary", [1, 2048]],
    ["negative", [1, -1]],
    ["no integer", [1, 1.5]],
  ])("token ids %s are refused", async (_, tokenIds) => {
    await expect(generate(engine, { tokenIds })).rejects.toThrow(/^token-out-of-vocabulary: /);
  });

  test("prompts that are empty or fill the context are refused", async () => {
    await expect(generate(engine, { tokenIds: [] })).rejects.toThrow(/^context-exceeded: /);
    await expect(generate(engine, { tokenIds: new Array(1024).fill(1) })).rejects.toThrow(/^context-exceeded: .*1024/);
  });

  test("a biased token out of the vocabulary is refused", async () => {
    const task = { sampling: sampling({ logitBias: [[99_999, 1]] }) };
    await expect(generate(engine, task)).rejects.toThrow(/^token-out-of-vocabulary: /);
  });
});

describe("abort", () => {
  test("ends events at once, frees the sequence, and may be called twice", async () => {
    let tokens = 0;
    let isAborted = false;
    await new Promise<void>((resolve) => {
      const sequence = engine.generate(taskOf({ tokensMax: 900, ignoreStopTokens: true }), (event) => {
        expect(isAborted).toBe(false);
        expect(event.kind).toBe("tokens");
        if (++tokens < 5) return;
        sequence.abort();
        sequence.abort();
        isAborted = true;
        resolve();
      });
    });
    await generate(engine, { tokensMax: 3 });
    expect(engine.stats().sequencesRunning).toBe(0);
  });
});
