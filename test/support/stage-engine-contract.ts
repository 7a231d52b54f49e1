/** What every engine of a stage keeps, scripted or real (src/ports/stage-engine.ts). Each engine's test hands in how stages of one small model come to be. */
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { type SequenceId, sequenceId, type WireFormat } from "../../src/domain/chain.ts";
import { sha256Hex } from "../../src/domain/ids.ts";
import { DEFAULT_SAMPLING } from "../../src/domain/sampling.ts";
import type { GenerateTask } from "../../src/ports/engine.ts";
import type { StageEngine, StageEvent, StagePass } from "../../src/ports/stage-engine.ts";

export interface LoadedStage {
  readonly engine: StageEngine;
  /** All that it reported, in order. */
  readonly events: readonly StageEvent[];
}

export interface StageSubject {
  /** At least 3. */
  readonly layerCount: number;
  /** Ids that the vocabulary has, and that end nothing. */
  readonly promptIds: readonly number[];
  load(options: {
    readonly first: number;
    readonly count: number;
    readonly sequencesMax: number;
    readonly wire: WireFormat;
  }): Promise<LoadedStage>;
  /** The unsplit model's tokens. */
  answer(task: GenerateTask): Promise<readonly number[]>;
  /** Lets time pass until the condition holds; throws when it never does. */
  until(isReached: () => boolean): Promise<void>;
  stop(): Promise<void>;
}

const SEQUENCE = sequenceId("00000000000000aa");
const OTHER = sequenceId("00000000000000bb");
const THIRD = sequenceId("00000000000000cc");
const TOKENS_MAX = 12;

export function stageEngineContract(name: string, open: () => Promise<StageSubject>): void {
  describe(`the stage engine ${name}`, () => {
    let subject: StageSubject;

    beforeEach(async () => {
      subject = await open();
    });
    afterEach(() => subject.stop());

    const chainOf = async (cuts: readonly number[], sequencesMax = 2): Promise<Chain> => {
      const edges = [0, ...cuts, subject.layerCount];
      const stages: LoadedStage[] = [];
      for (const [at, first] of edges.slice(0, -1).entries()) {
        const count = (edges[at + 1] ?? subject.layerCount) - first;
        stages.push(await subject.load({ first, count, sequencesMax, wire: "f32" }));
      }
      return new Chain(subject, stages);
    };
    const task = (change: Partial<GenerateTask> = {}): GenerateTask => ({
      ...TASK,
      tokenIds: subject.promptIds,
      ...change,
    });

    for (const stages of [2, 3]) {
      test(`a chain of ${stages} gives the unsplit model's text`, async () => {
        const chain = await chainOf(stages === 2 ? [1] : [1, 2]);
        chain.open(SEQUENCE, task());
        const drawn = await chain.generate(SEQUENCE, subject.promptIds, TOKENS_MAX);
        expect(drawn).toEqual(await subject.answer(task()));
        const ends = chain.last.events.flatMap((event) => (event.kind === "tokens" ? [event.end] : []));
        expect(ends.at(-1)).toBe("length");
      });
    }

    test("a prompt in pieces, submitted without waiting, comes out in order and gives the same text", async () => {
      const chain = await chainOf([1]);
      chain.open(SEQUENCE, task());
      const { promptIds } = subject;
      const half = Math.floor(promptIds.length / 2);
      const first = chain.at(0);
      first.engine.submit(pass({ start: 0, tokenIds: promptIds.slice(0, half), tag: 1 }));
      first.engine.submit(pass({ start: half, tokenIds: promptIds.slice(half), tag: 2, isDrawn: true }));
      expect(first.engine.held(SEQUENCE)).toBe(promptIds.length);
      await subject.until(() => first.events.length === 2);
      expect(first.events.map((event) => event.kind === "output" && [event.tag, event.start, event.count])).toEqual([
        [1, 0, half],
        [2, half, promptIds.length - half],
      ]);
      for (const event of first.events) if (event.kind === "output") chain.at(1).engine.submit(passOn(event));
      await subject.until(() => tokensOf(chain.last).length > 0);
      expect(tokensOf(chain.last)).toEqual((await subject.answer(task())).slice(0, 1));
    });

    test("drafts that come true are all taken in one pass; the first that does not ends it", async () => {
      const wanted = await subject.answer(task());
      const chain = await chainOf([1]);
      chain.open(SEQUENCE, task());
      await chain.feed(pass({ start: 0, tokenIds: subject.promptIds, isDrawn: true }));
      const at = subject.promptIds.length;
      const wrong = subject.promptIds.find((id) => id !== wanted[3]) ?? 0;
      const drafts = [wanted[1] ?? 0, wanted[2] ?? 0, wrong, 1];
      const drawn = await chain.feed(singles({ start: at, tokenIds: [wanted[0] ?? 0, ...drafts], draftIds: drafts }));
      expect(drawn).toMatchObject({ kind: "tokens", position: at + 1, end: null });
      expect(tokensOf(chain.last)).toEqual(wanted.slice(0, 4));
      // The positions of rejected drafts go when the next pass begins below them.
      const rest = await chain.generate(SEQUENCE, [...subject.promptIds, ...wanted.slice(0, 4)], 8, at + 3);
      expect([...wanted.slice(0, 4), ...rest]).toEqual(wanted);
    });

    test("a pass that begins below what is held drops what lies beyond", async () => {
      const chain = await chainOf([1]);
      chain.open(SEQUENCE, task());
      const { promptIds } = subject;
      await chain.feed(pass({ start: 0, tokenIds: promptIds }));
      await chain.feed(singles({ start: promptIds.length, tokenIds: promptIds.slice(0, 3) }));
      expect(chain.at(0).engine.held(SEQUENCE)).toBe(promptIds.length + 3);
      const drawn = await chain.generate(SEQUENCE, promptIds, TOKENS_MAX, promptIds.length - 2);
      expect(drawn).toEqual(await subject.answer(task()));
    });

    test("what was released is still held, and a sequence goes on from it", async () => {
      const wanted = await subject.answer(task());
      const chain = await chainOf([1]);
      chain.open(SEQUENCE, task());
      await chain.generate(SEQUENCE, subject.promptIds, 4);
      for (const { engine } of chain.stages) engine.release(SEQUENCE);
      const held = subject.promptIds.length + 3;
      expect(chain.stages.map(({ engine }) => engine.held(SEQUENCE))).toEqual([held, held]);
      expect(chain.at(0).engine.holdings()).toEqual([{ sequence: SEQUENCE, held }]);
      const soFar = [...subject.promptIds, ...wanted.slice(0, 4)];
      chain.open(SEQUENCE, task({ tokenIds: soFar, generatedCount: 4, tokensMax: TOKENS_MAX - 4 }));
      expect(await chain.generate(SEQUENCE, soFar, TOKENS_MAX - 4, held)).toEqual(wanted.slice(4));
    });

    test("the slot released longest ago is emptied for another sequence; running ones are not", async () => {
      const { engine } = (await chainOf([1], 2)).at(0);
      expect([engine.open(SEQUENCE), engine.open(OTHER)]).toEqual([true, true]);
      expect(engine.open(THIRD)).toBe(false);
      const one = (sequence: SequenceId) =>
        engine.submit({ ...pass({ start: 0, tokenIds: subject.promptIds }), sequence });
      one(SEQUENCE);
      one(OTHER);
      await subject.until(() => engine.stats().passesQueued === 0 && engine.held(OTHER) > 0);
      engine.release(OTHER);
      engine.release(SEQUENCE);
      expect(engine.open(THIRD)).toBe(true);
      expect([engine.held(SEQUENCE), engine.held(OTHER)]).toEqual([subject.promptIds.length, 0]);
      engine.forget(SEQUENCE);
      expect(engine.held(SEQUENCE)).toBe(0);
    });

    test("sequences beside each other do not touch each other", async () => {
      const chain = await chainOf([1]);
      const { promptIds } = subject;
      const other = { seed: sha256Hex("cd".repeat(32)), tokenIds: [...promptIds].reverse() };
      chain.open(SEQUENCE, task());
      chain.open(OTHER, task(other));
      const both = await Promise.all([
        chain.generate(SEQUENCE, promptIds, TOKENS_MAX),
        chain.generate(OTHER, other.tokenIds, TOKENS_MAX),
      ]);
      expect(both).toEqual([await subject.answer(task()), await subject.answer(task(other))]);
    });

    test("hidden states that hold no numbers fail the sequence by name, and empty its slot", async () => {
      const chain = await chainOf([1]);
      chain.open(SEQUENCE, task());
      const data = new Float32Array(2 * chain.last.engine.info.embeddingLength).fill(Number.NaN);
      const input = { kind: "hidden", format: "f32", data: new Uint8Array(data.buffer) } as const;
      chain.last.engine.submit({ ...pass({ start: 0, tokenIds: [1, 1] }), input });
      await subject.until(() => chain.last.events.length > 0);
      expect(chain.last.events[0]).toMatchObject({ kind: "failed", sequence: SEQUENCE, code: "activations-broken" });
      expect(chain.last.engine.held(SEQUENCE)).toBe(0);
    });

    test("keys and values go to another engine, which continues the text", async () => {
      const wanted = await subject.answer(task());
      const chain = await chainOf([1]);
      chain.open(SEQUENCE, task());
      await chain.generate(SEQUENCE, subject.promptIds, 5);
      const positions = subject.promptIds.length + 4;
      expect(await chain.last.engine.exportState(SEQUENCE, positions + 1)).toBeNull();
      const state = await chain.last.engine.exportState(SEQUENCE, positions);
      if (state === null) throw new Error(`${positions} positions are held`);
      const { first, count } = chain.last.engine.info.share;
      const heir = await subject.load({ first, count, sequencesMax: 2, wire: "f32" });
      expect(await heir.engine.importState(state)).toBe(true);
      expect(heir.engine.held(SEQUENCE)).toBe(positions);
      const next = new Chain(subject, [chain.at(0), heir]);
      const soFar = [...subject.promptIds, ...wanted.slice(0, 5)];
      next.open(SEQUENCE, task({ tokenIds: soFar, generatedCount: 5, tokensMax: TOKENS_MAX - 5 }));
      expect(await next.generate(SEQUENCE, soFar, TOKENS_MAX - 5, positions)).toEqual(wanted.slice(5));
    });

    test("one that is closed says so, and may be closed twice", async () => {
      const { engine } = await subject.load({ first: 0, count: 1, sequencesMax: 1, wire: "f16" });
      await engine.close();
      await engine.close();
      expect((await engine.exited).cause).toBe("closed");
    });
  });
}

/** Stages driven by hand: each output goes to the next stage, and what is drawn comes back. */
class Chain {
  readonly stages: readonly LoadedStage[];
  readonly #subject: StageSubject;
  #tag = 1_000;

  constructor(subject: StageSubject, stages: readonly LoadedStage[]) {
    this.#subject = subject;
    this.stages = stages;
  }

  get last(): LoadedStage {
    return this.at(this.stages.length - 1);
  }

  at(index: number): LoadedStage {
    const stage = this.stages[index];
    if (stage === undefined) throw new Error(`the chain has ${this.stages.length} stages`);
    return stage;
  }

  open(sequence: SequenceId, task: GenerateTask): void {
    for (const { engine } of this.stages) expect(engine.open(sequence)).toBe(true);
    this.last.engine.setSampling(sequence, task);
  }

  /** Through all stages; what the last one told of it, null when nothing is drawn. */
  async feed(first: StagePass): Promise<StageEvent | null> {
    let next = { ...first, tag: ++this.#tag };
    for (const { engine, events } of this.stages) {
      const before = events.length;
      engine.submit(next);
      const { tag } = next;
      const told = () => events.slice(before).find((event) => event.kind !== "end" && event.tag === tag);
      await this.#subject.until(() => told() !== undefined);
      const event = told();
      if (event === undefined || event.kind !== "output") return event ?? null;
      next = passOn(event);
    }
    return null;
  }

  /** Feeds the tokens from `start` on and then what is drawn, until so many are. */
  async generate(
    sequence: SequenceId,
    tokenIds: readonly number[],
    count: number,
    start = 0,
  ): Promise<readonly number[]> {
    const drawn: number[] = [];
    const begun = tokenIds.slice(start);
    let next =
      begun.length > 1
        ? pass({ start, tokenIds: begun, isDrawn: true })
        : singles({ start, tokenIds: begun, draftIds: [] });
    for (let position = tokenIds.length; drawn.length < count; position++) {
      const event = await this.feed({ ...next, sequence });
      if (event?.kind !== "tokens") throw new Error(`no token at ${position}: ${JSON.stringify(event)}`);
      const { tokenId = 0 } = event.tokens[0] ?? {};
      drawn.push(tokenId);
      if (event.end !== null) break;
      next = singles({ start: position, tokenIds: [tokenId], draftIds: [] });
    }
    return drawn;
  }
}

const TASK: Omit<GenerateTask, "tokenIds"> = {
  generatedCount: 0,
  tokensMax: TOKENS_MAX,
  sampling: { ...DEFAULT_SAMPLING, topK: 8 },
  seed: sha256Hex("ab".repeat(32)),
  choice: 0,
  stopStrings: [],
  grammar: null,
  cacheScope: "contract",
  ignoreStopTokens: true,
  topLogprobs: null,
};

function pass(of: { start: number; tokenIds: readonly number[]; tag?: number; isDrawn?: boolean }): StagePass {
  const { start, tokenIds, tag = 0, isDrawn = false } = of;
  return {
    sequence: SEQUENCE,
    start,
    count: tokenIds.length,
    how: "together",
    input: { kind: "tokens", tokenIds },
    draw: isDrawn ? { draftIds: [] } : null,
    tag,
  };
}

/** One decode for each; drawn after when there are drafts, also none of them. */
function singles(of: { start: number; tokenIds: readonly number[]; draftIds?: readonly number[] }): StagePass {
  const { draftIds } = of;
  return { ...pass(of), how: "singly", draw: draftIds === undefined ? null : { draftIds } };
}

function passOn(event: Extract<StageEvent, { kind: "output" }>): StagePass {
  const { sequence, start, count, how, draw, tag, format, data } = event;
  return { sequence, start, count, how, draw, tag, input: { kind: "hidden", format, data } };
}

function tokensOf({ events }: LoadedStage): readonly number[] {
  return events.flatMap((event) => (event.kind === "tokens" ? event.tokens.map(({ tokenId }) => tokenId) : []));
}
