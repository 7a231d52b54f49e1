import { writeFile } from "node:fs/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type SequenceId, sequenceId } from "../src/domain/chain.ts";
import { DEFAULT_SAMPLING } from "../src/domain/sampling.ts";
import type { Engine } from "../src/ports/engine.ts";
import { architectureModel, specNamed } from "./support/architecture-model.ts";
import { engineHost, generate, loadTiny, PROMPT, TINY_PATH, taskOf } from "./support/engine-fixture.ts";
import { DRAW, feed, generateRows, passOn, tokenPass, until } from "./support/stage-chain.ts";
import {
  type HeardStage,
  loadStage,
  type StageFile,
  StageFolder,
  stageHost,
  TINY_LAYERS,
} from "./support/stage-fixture.ts";

const host = stageHost();
/** Longer than the pieces that it is cut into. */
const LONG = Array.from({ length: 97 }, (_, at) => 300 + ((at * 37) % 1500));
const ARGMAX = { ...DEFAULT_SAMPLING, temperature: 0 };
const opened: HeardStage[] = [];
let folder: StageFolder;
let unsplit: Engine;

beforeAll(async () => {
  folder = await StageFolder.of();
  unsplit = await loadTiny(engineHost());
});

afterAll(async () => {
  await Promise.all([unsplit.close(), ...opened.map(({ engine }) => engine.close())]);
  await folder.remove();
});

const named = (index: number): SequenceId => sequenceId((0xabc000 + index).toString(16).padStart(16, "0"));

async function load(...args: Parameters<typeof loadStage>): Promise<HeardStage> {
  const stage = await loadStage(...args);
  opened.push(stage);
  return stage;
}

async function chainOf(
  cuts: readonly number[],
  spec: Parameters<typeof loadStage>[2] = {},
): Promise<readonly HeardStage[]> {
  const edges = [0, ...cuts, TINY_LAYERS];
  const ranges = cuts.map((_, at) => [edges[at] ?? 0, edges[at + 1] ?? 0]).concat([[edges.at(-2) ?? 0, TINY_LAYERS]]);
  return Promise.all(ranges.map(async ([first = 0, to = 0]) => load(host, await folder.cut(first, to - first), spec)));
}

/** The model as it is, in one process: a chain of one stage. */
const whole = (spec: Parameters<typeof loadStage>[2] = {}): Promise<HeardStage> => {
  const share = { first: 0, count: TINY_LAYERS, hasEmbedding: true, hasOutput: true };
  const file: StageFile = { path: TINY_PATH, share };
  return load(host, file, spec);
};

function open(stages: readonly HeardStage[], sequence: SequenceId, task: Parameters<typeof taskOf>[0] = {}): void {
  for (const { engine } of stages) expect(engine.open(sequence)).toBe(true);
  stages
    .at(-1)
    ?.engine.setSampling(sequence, taskOf({ sampling: ARGMAX, ignoreStopTokens: true, tokensMax: 200, ...task }));
}

function largestDifference(left: readonly Float32Array[], right: readonly Float32Array[]): number {
  expect(left.length).toBe(right.length);
  return Math.max(
    ...left.flatMap((row, at) => Array.from(row, (value, id) => Math.abs(value - (right[at]?.[id] ?? Number.NaN)))),
  );
}

describe("logits of a chain with f32 between its stages", () => {
  const sequence = named(0);
  for (const [cuts, pieceTokens] of [
    [[2], 97],
    [[1, 3], 97],
    [[1, 2], 33],
  ] as const) {
    test(`of ${cuts.length + 1} stages, prompt in pieces of ${pieceTokens}, are the unsplit model's, bit by bit`, async () => {
      const stages = await chainOf(cuts);
      const one = [await whole()];
      open(stages, sequence);
      open(one, sequence);
      const run = { sequence, tokenIds: LONG, count: 40 };
      const split = await generateRows(stages, { ...run, pieceTokens });
      const unsplitRows = await generateRows(one, run);
      expect(split.tokenIds).toEqual(unsplitRows.tokenIds);
      expect(largestDifference(split.rows, unsplitRows.rows)).toBe(0);
      const { tokenIds } = await generate(unsplit, {
        tokenIds: LONG,
        tokensMax: 40,
        sampling: ARGMAX,
        ignoreStopTokens: true,
      });
      expect(split.tokenIds).toEqual(tokenIds);
    });
  }

  test("of a prompt longer than a decode takes, in one pass, are the unsplit model's", async () => {
    const tokenIds = Array.from({ length: 1025 }, (_, at) => 300 + ((at * 37) % 1500));
    const spec = { contextTokens: 1280 };
    const stages = await chainOf([2], spec);
    const one = [await whole(spec)];
    open(stages, sequence);
    open(one, sequence);
    const run = { sequence, tokenIds, count: 4 };
    const split = await generateRows(stages, run);
    // Pieces of another length, none of them of one position.
    const unsplitRows = await generateRows(one, { ...run, pieceTokens: 205 });
    expect(largestDifference(split.rows, unsplitRows.rows)).toBe(0);
  });

  test("do not depend on the seven other sequences that are computed beside one", async () => {
    const stages = await chainOf([1, 3], { sequencesMax: 8 });
    const prompts = Array.from({ length: 8 }, (_, at) => LONG.slice(at, at + 20 + 5 * (at % 3)));
    const alone = [];
    for (const [at, tokenIds] of prompts.entries()) {
      open(stages, named(at));
      alone.push(await generateRows(stages, { sequence: named(at), tokenIds, count: 12 }));
      for (const { engine } of stages) engine.forget(named(at));
    }
    for (const { reports } of stages) reports.length = 0;
    for (const at of prompts.keys()) open(stages, named(at));
    const together = await Promise.all(
      prompts.map((tokenIds, at) => generateRows(stages, { sequence: named(at), tokenIds, count: 12 })),
    );
    for (const [at, one] of together.entries()) {
      expect(one.tokenIds).toEqual(alone[at]?.tokenIds);
      expect(largestDifference(one.rows, alone[at]?.rows ?? [])).toBe(0);
    }
    const shared = Math.max(...(stages[1]?.reports.map((events) => events.length) ?? []));
    expect(shared).toBeGreaterThan(1);
  });

  test("stay what they are when drafts are verified, right ones and wrong ones", async () => {
    const plain = await chainOf([2]);
    open(plain, sequence);
    const wanted = await generateRows(plain, { sequence, tokenIds: PROMPT, count: 12 });
    const verified = await chainOf([2]);
    open(verified, sequence);
    const got = await generateRows(verified, { sequence, tokenIds: PROMPT, count: 1 });
    const rounds = [
      { drafts: wanted.tokenIds.slice(1, 4), isRight: 3 },
      { drafts: [wanted.tokenIds[5] ?? 0, 7, 7], isRight: 1 },
      { drafts: [5, wanted.tokenIds[8] ?? 0], isRight: 0 },
    ];
    for (const { drafts, isRight } of rounds) {
      const start = PROMPT.length + got.tokenIds.length - 1;
      const tokenIds = [got.tokenIds.at(-1) ?? 0, ...drafts];
      const event = await feed(
        verified,
        tokenPass(sequence, { start, tokenIds, how: "singly", draw: { draftIds: drafts }, wantsLogits: true }),
      );
      expect(event).toMatchObject({ position: start + 1, end: null });
      expect(event?.tokens).toHaveLength(isRight + 1);
      expect(verified[1]?.engine.held(sequence)).toBe(start + isRight + 1);
      got.tokenIds.push(...(event?.tokens.map(({ tokenId }) => tokenId) ?? []));
      got.rows.push(...(event?.logits ?? []));
    }
    expect(got.tokenIds).toEqual(wanted.tokenIds.slice(0, got.tokenIds.length));
    expect(largestDifference(got.rows, wanted.rows.slice(0, got.rows.length))).toBe(0);
    const after = PROMPT.length + got.tokenIds.length - 1;
    const next = tokenPass(sequence, { start: after, tokenIds: [got.tokenIds.at(-1) ?? 0], draw: DRAW });
    expect((await feed(verified, next))?.tokens[0]?.tokenId).toBe(wanted.tokenIds[got.tokenIds.length]);
  });

  test("stay a model's own when drafts are verified together, in one decode", async () => {
    const plain = await chainOf([2]);
    open(plain, sequence);
    const wanted = await generateRows(plain, { sequence, tokenIds: PROMPT, count: 6 });
    const verified = await chainOf([2]);
    open(verified, sequence);
    await generateRows(verified, { sequence, tokenIds: PROMPT, count: 1 });
    const draftIds = [...wanted.tokenIds.slice(1, 3), 7];
    const pass = { start: PROMPT.length, tokenIds: [wanted.tokenIds[0] ?? 0, ...draftIds], draw: { draftIds } };
    const event = await feed(verified, tokenPass(sequence, { ...pass, how: "together", wantsLogits: true }));
    expect(event?.tokens.map(({ tokenId }) => tokenId)).toEqual(wanted.tokenIds.slice(1, 4));
    // Rounded as a piece is: near, and not equal.
    expect(largestDifference(event?.logits ?? [], wanted.rows.slice(1, 4))).toBeLessThan(0.1);
    expect(verified.map(({ engine }) => engine.held(sequence))).toEqual([PROMPT.length + 4, PROMPT.length + 3]);
  });

  test("are the same after another branch was dropped", async () => {
    const stages = await chainOf([1, 2]);
    open(stages, sequence);
    const first = await generateRows(stages, { sequence, tokenIds: LONG, count: 6 });
    for (const { engine } of stages) engine.release(sequence);
    open(stages, sequence);
    const again = await generateRows(stages, { sequence, tokenIds: LONG, count: 6, start: 40 });
    expect(largestDifference(again.rows, first.rows)).toBe(0);
  });

  test("go on bit by bit in a process that took keys and values over, at every stage", async () => {
    const stages = await chainOf([1, 3]);
    open(stages, sequence);
    const wanted = await generateRows(stages, { sequence, tokenIds: LONG, count: 9 });
    const heirs = await chainOf([1, 3]);
    const positions = LONG.length + 4;
    for (const [at, { engine }] of stages.entries()) {
      const state = await engine.exportState(sequence, positions);
      if (state === null) throw new Error(`${positions} positions are held`);
      expect(await heirs[at]?.engine.importState(state)).toBe(true);
      expect(heirs[at]?.engine.holdings()).toEqual([{ sequence, held: positions }]);
    }
    open(heirs, sequence);
    const tokenIds = [...LONG, ...wanted.tokenIds.slice(0, 5)];
    const next = await generateRows(heirs, { sequence, tokenIds, count: 4, start: positions });
    expect(next.tokenIds).toEqual(wanted.tokenIds.slice(5));
    expect(largestDifference(next.rows, wanted.rows.slice(5))).toBe(0);
  });
});

describe("the last stage", () => {
  const sequence = named(100);

  test("draws with seed, penalties, grammar, stop strings and logprobs as an unsplit engine does", async () => {
    const stages = await chainOf([2]);
    const tasks = [
      { sampling: { ...DEFAULT_SAMPLING, topP: 0.9, frequencyPenalty: 0.5 }, topLogprobs: 3, ignoreStopTokens: true },
      { grammar: 'root ::= "the " [a-z]+ "."', tokensMax: 20 },
      { stopStrings: ["the"], tokensMax: 60 },
    ];
    for (const change of tasks) {
      const task = taskOf({ tokensMax: 24, ...change });
      const wanted = await generate(unsplit, task);
      for (const { engine } of stages) engine.open(sequence);
      stages[1]?.engine.setSampling(sequence, task);
      const tokens = [];
      let pass = tokenPass(sequence, { start: 0, tokenIds: PROMPT, draw: DRAW });
      let end: string | null = null;
      while (end === null) {
        const event = await feed(stages, pass);
        tokens.push(...(event?.tokens ?? []));
        end = event?.end ?? null;
        pass = tokenPass(sequence, {
          start: pass.start + pass.count,
          tokenIds: [tokens.at(-1)?.tokenId ?? 0],
          draw: DRAW,
        });
      }
      expect(tokens).toEqual(wanted.tokens);
      expect(end).toBe(wanted.reason);
      for (const { engine } of stages) engine.forget(sequence);
    }
  });

  test("ends an answer that was over before its first token, and draws no more", async () => {
    const last = (await chainOf([2]))[1];
    if (last === undefined) throw new Error("a chain of two has a last stage");
    last.engine.open(sequence);
    const { tokenIds } = await generate(unsplit, { tokensMax: 8 });
    const soFar = { tokenIds: [...PROMPT, ...tokenIds], generatedCount: tokenIds.length };
    last.engine.setSampling(sequence, taskOf({ ...soFar, stopStrings: ["e"] }));
    await until(() => last.events.length > 0);
    expect(last.events).toEqual([{ kind: "end", sequence, reason: "stop-string" }]);
  });

  test("fails a sequence whose grammar it cannot parse, and one that draws without sampling", async () => {
    const [first, last] = await chainOf([2]);
    if (first === undefined || last === undefined) throw new Error("a chain of two");
    last.engine.open(sequence);
    last.engine.setSampling(sequence, taskOf({ grammar: "root ::= nothing" }));
    await until(() => last.events.length > 0);
    expect(last.events[0]).toMatchObject({ kind: "failed", code: "grammar-invalid" });
    expect(last.engine.held(sequence)).toBe(0);
    for (const { engine } of [first, last]) engine.open(sequence);
    await expect(feed([first, last], tokenPass(sequence, { start: 0, tokenIds: PROMPT, draw: DRAW }))).rejects.toThrow(
      /before it is known what the sequence samples by/,
    );
  });
});

describe("f16 between stages", () => {
  const sequence = named(200);

  test("takes two bytes for each element, and says so in the numeric class", async () => {
    const stages = await chainOf([2], { wire: "f16" });
    const [first] = stages;
    open(stages, sequence);
    const { rows } = await generateRows(stages, { sequence, tokenIds: LONG, count: 3 });
    expect(first?.events[0]).toMatchObject({ kind: "output", format: "f16", count: 97 });
    const sizes = first?.events.map((event) => event.kind === "output" && event.data.length / event.count);
    expect(sizes).toEqual([512, 512, 512]);
    expect(first?.engine.info.numericClass).toMatch(/\/Q8_0\/f16-wire$/);
    const one = [await whole()];
    open(one, sequence);
    const exact = await generateRows(one, { sequence, tokenIds: LONG, count: 3 });
    const difference = largestDifference(rows, exact.rows);
    expect(difference).toBeGreaterThan(0);
    expect(difference).toBeLessThan(0.2);
  });

  test("gives f32 where a value is beyond its range", async () => {
    const middle = await load(host, await folder.cut(1, 2), { wire: "f16" });
    const width = middle.engine.info.embeddingLength;
    const states = new Float32Array(2 * width).fill(0.1);
    states[5] = 70_000;
    middle.engine.open(sequence);
    const input = { kind: "hidden", format: "f32", data: new Uint8Array(states.buffer) } as const;
    middle.engine.submit({ ...tokenPass(sequence, { start: 0, tokenIds: [0, 0] }), input });
    await until(() => middle.events.length > 0);
    const [event] = middle.events;
    if (event?.kind !== "output") throw new Error("the pass gives hidden states");
    expect(event.format).toBe("f32");
    expect(event.data.length).toBe(2 * width * 4);
    expect(passOn(event).input).toMatchObject({ format: "f32" });
  });
});

describe("a model with windows", () => {
  const sequence = named(300);
  const layers = 6;
  let files: StageFolder;

  beforeAll(async () => {
    const path = folder.at("gemma2.gguf");
    await writeFile(path, await architectureModel(specNamed("gemma2")));
    files = await StageFolder.of(path, layers);
  });
  afterAll(() => files.remove());

  test("hands over what its next position sees, which goes on bit by bit and cannot be cut", async () => {
    const spec = { contextTokens: 256 };
    const chain = async () => [
      await load(host, await files.cut(0, 2), spec),
      await load(host, await files.cut(2, 4), spec),
    ];
    const [stages, heirs] = [await chain(), await chain()];
    open(stages, sequence);
    const tokenIds = LONG.slice(0, 40);
    const begun = await generateRows(stages, { sequence, tokenIds, count: 5 });
    const positions = tokenIds.length + 4;
    for (const [at, { engine }] of stages.entries()) {
      expect(await engine.exportState(sequence, positions - 1)).toBeNull();
      const state = await engine.exportState(sequence, positions);
      expect(state !== null && (await heirs[at]?.engine.importState(state))).toBe(true);
    }
    open(heirs, sequence);
    const run = { sequence, tokenIds: [...tokenIds, ...begun.tokenIds], start: positions, count: 5 };
    const [here, there] = [await generateRows(stages, run), await generateRows(heirs, run)];
    expect(largestDifference(there.rows, here.rows)).toBe(0);
    const [heir] = heirs;
    heir?.engine.submit(tokenPass(sequence, { start: positions - 2, tokenIds: [301] }));
    await until(() => heir?.events.at(-1)?.kind === "failed");
    expect(heir?.events.at(-1)).toMatchObject({ code: "position-wrong" });
    expect(heir?.engine.held(sequence)).toBe(0);
  });
});
