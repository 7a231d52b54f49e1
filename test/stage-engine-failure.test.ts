import { createHash } from "node:crypto";
import { readFile, writeFile } from "node:fs/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { sequenceId } from "../src/domain/chain.ts";
import { sha256Hex } from "../src/domain/ids.ts";
import { DEFAULT_SAMPLING } from "../src/domain/sampling.ts";
import type { StageInput, StageState } from "../src/ports/stage-engine.ts";
import { byteSourceOf } from "../src/weights/byte-source.ts";
import { readGgufHeader } from "../src/weights/gguf-reader.ts";
import { PROMPT, TINY_PATH, taskOf } from "./support/engine-fixture.ts";
import { DRAW, feed, tokenPass, until } from "./support/stage-chain.ts";
import { type HeardStage, loadStage, type StageFile, StageFolder, stageHost } from "./support/stage-fixture.ts";

const host = stageHost();
const SEQUENCE = sequenceId("00000000000000aa");
const OTHER = sequenceId("00000000000000bb");
const ARGMAX = taskOf({ sampling: { ...DEFAULT_SAMPLING, temperature: 0 } });
const opened: HeardStage[] = [];
let folder: StageFolder;
let head: StageFile;
let middle: StageFile;
let tail: StageFile;

beforeAll(async () => {
  folder = await StageFolder.of();
  head = await folder.cut(0, 2);
  middle = await folder.cut(1, 2);
  tail = await folder.cut(2, 2);
});

afterAll(async () => {
  await Promise.all(opened.map(({ engine }) => engine.close()));
  await folder.remove();
});

async function load(...args: Parameters<typeof loadStage>): Promise<HeardStage> {
  const stage = await loadStage(...args);
  opened.push(stage);
  return stage;
}

/** Hidden states of so many positions, small but for what `change` does to them. */
function hidden(
  stage: HeardStage,
  count: number,
  change: (numbers: Float32Array) => void = () => undefined,
): StageInput {
  const numbers = Float32Array.from(
    { length: count * stage.engine.info.embeddingLength },
    (_, at) => Math.sin(at) / 10,
  );
  change(numbers);
  return { kind: "hidden", format: "f32", data: new Uint8Array(numbers.buffer) };
}

const passOf = (input: StageInput, count: number, start = 0) => ({
  ...tokenPass(SEQUENCE, { start, tokenIds: new Array<number>(count).fill(0) }),
  input,
});

const isAlive = (processId: number): boolean => {
  try {
    process.kill(processId, 0);
    return true;
  } catch {
    return false;
  }
};

describe("a stage whose process", () => {
  test("is killed fails its sequences, rejects what was asked of it, and exits as crashed", async () => {
    const stage = await load(host, head, { contextTokens: 4096 });
    stage.engine.open(SEQUENCE);
    stage.engine.submit(tokenPass(SEQUENCE, { start: 0, tokenIds: new Array<number>(4000).fill(301) }));
    const asked = stage.engine.exportState(SEQUENCE, 4000);
    process.kill(stage.engine.info.processId, "SIGKILL");
    await expect(asked).rejects.toMatchObject({ code: "engine-crashed" });
    expect(await stage.engine.exited).toMatchObject({ cause: "crashed", detail: expect.stringContaining("SIGKILL") });
    await until(() => stage.events.length > 0);
    expect(stage.events).toMatchObject([{ kind: "failed", sequence: SEQUENCE, code: "engine-crashed" }]);
    expect(stage.engine.open(OTHER)).toBe(false);
    expect([stage.engine.held(SEQUENCE), stage.engine.holdings()]).toEqual([0, []]);
    await expect(stage.engine.exportState(SEQUENCE, 1)).resolves.toBeNull();
    await stage.engine.close();
  });

  test("is silent while a pass waits is killed, and says that it hung", async () => {
    const stage = await load(stageHost({ silenceMsMax: 300 }), head);
    stage.engine.open(SEQUENCE);
    process.kill(stage.engine.info.processId, "SIGSTOP");
    stage.engine.submit(tokenPass(SEQUENCE, { start: 0, tokenIds: PROMPT }));
    expect((await stage.engine.exited).cause).toBe("hung");
    expect(isAlive(stage.engine.info.processId)).toBe(false);
    expect(stage.events).toMatchObject([{ kind: "failed", code: "engine-hung" }]);
  });

  test("is closed drops what waits without a word, and is gone", async () => {
    const stage = await load(host, head);
    stage.engine.open(SEQUENCE);
    stage.engine.submit(tokenPass(SEQUENCE, { start: 0, tokenIds: PROMPT }));
    await Promise.all([stage.engine.close(), stage.engine.close()]);
    expect(stage.events).toEqual([]);
    expect(isAlive(stage.engine.info.processId)).toBe(false);
  });
});

describe("hidden states that come in", () => {
  test.each([
    ["NaN", Number.NaN],
    ["infinity", Number.POSITIVE_INFINITY],
  ])("with %s fail their sequence by name; the others go on", async (_name, value) => {
    const stage = await load(host, middle);
    stage.engine.open(SEQUENCE);
    stage.engine.open(OTHER);
    const broken = hidden(stage, 3, (numbers) => numbers.fill(value, 700, 701));
    stage.engine.submit({ ...passOf(broken, 3), tag: 7 });
    stage.engine.submit({ ...passOf(hidden(stage, 3), 3), sequence: OTHER });
    await until(() => stage.events.length === 2);
    expect(stage.events[0]).toMatchObject({ kind: "failed", sequence: SEQUENCE, code: "activations-broken", tag: 7 });
    expect(stage.events[1]).toMatchObject({ kind: "output", sequence: OTHER });
    expect([stage.engine.held(SEQUENCE), stage.engine.held(OTHER)]).toEqual([0, 3]);
  });

  test("in f16 with all exponent bits set fail, too", async () => {
    const stage = await load(host, middle);
    stage.engine.open(SEQUENCE);
    const data = new Uint8Array(2 * 2 * stage.engine.info.embeddingLength);
    data[11] = 0x7c;
    stage.engine.submit(passOf({ kind: "hidden", format: "f16", data }, 2));
    await until(() => stage.events.length > 0);
    expect(stage.events[0]).toMatchObject({ kind: "failed", code: "activations-broken" });
  });

  test("of the wrong width, token ids for a middle stage, and unknown tokens never reach the library", async () => {
    const stage = await load(host, middle);
    const first = await load(host, head);
    const refused = async (at: HeardStage, input: StageInput, count: number, start = 0) => {
      at.engine.open(SEQUENCE);
      const before = at.events.length;
      at.engine.submit(passOf(input, count, start));
      await until(() => at.events.length > before);
      const event = at.events.at(-1);
      return event?.kind === "failed" ? event.code : event?.kind;
    };
    const narrow = hidden(stage, 2);
    if (narrow.kind !== "hidden") throw new Error("hidden states");
    expect(await refused(stage, { ...narrow, data: narrow.data.subarray(4) }, 2)).toBe("activations-broken");
    expect(await refused(stage, { ...narrow, format: "f16" }, 2)).toBe("activations-broken");
    expect(await refused(stage, { kind: "tokens", tokenIds: [1, 2] }, 2)).toBe("position-wrong");
    expect(await refused(stage, narrow, 2, 1)).toBe("position-wrong");
    expect(await refused(first, { kind: "tokens", tokenIds: [1, 2048] }, 2)).toBe("token-out-of-vocabulary");
    expect(await refused(first, { kind: "tokens", tokenIds: new Array<number>(1025).fill(1) }, 1025)).toBe(
      "position-wrong",
    );
    expect(await refused(first, hidden(stage, 2), 2)).toBe("activations-broken");
    expect(await refused(first, { kind: "tokens", tokenIds: [1, 2] }, 2)).toBe("output");
  });
});

describe("weights that give no numbers", () => {
  /** The bundled model with one row of a tensor set to NaN: `float32` values, or the scales of Q8_0 blocks. */
  async function broken(tensorName: string, row: number): Promise<StageFolder> {
    const bytes = await readFile(TINY_PATH);
    const header = await readGgufHeader(byteSourceOf(bytes));
    const tensor = header.ok ? header.value.tensors.find(({ name }) => name === tensorName) : undefined;
    if (tensor === undefined) throw new Error(`the bundled model has ${tensorName}`);
    const rowBytes = tensor.sizeBytes / (tensor.dimensions[1] ?? 1);
    bytes.writeUInt16LE(0x7e00, tensor.offset + row * rowBytes);
    const path = folder.at(`${tensorName}-${row}.gguf`);
    await writeFile(path, bytes);
    return StageFolder.of(path);
  }

  test("in the embedding of one token fail a sequence with that token as this stage's own fault", async () => {
    const files = await broken("token_embd.weight", 900);
    const stage = await load(host, await files.cut(0, 2));
    stage.engine.open(SEQUENCE);
    stage.engine.submit(tokenPass(SEQUENCE, { start: 0, tokenIds: [1, 301, 392] }));
    stage.engine.submit(tokenPass(SEQUENCE, { start: 3, tokenIds: [301, 900] }));
    await until(() => stage.events.length === 2);
    expect(stage.events).toMatchObject([{ kind: "output" }, { kind: "failed", code: "output-broken" }]);
    expect(stage.engine.held(SEQUENCE)).toBe(0);
    await files.remove();
  });

  test("in every layer are found before the stage serves", async () => {
    const files = await broken("blk.1.attn_q.weight", 0);
    await expect(loadStage(host, await files.cut(0, 2))).rejects.toMatchObject({
      code: "engine-self-test-failed",
      message: expect.stringContaining("NaN"),
    });
    await files.remove();
  });
});

describe("a stage that is not what the plan says", () => {
  test("in its number of layers is refused", async () => {
    const share = { ...head.share, count: 3 };
    await expect(loadStage(host, { ...head, share })).rejects.toMatchObject({
      code: "stage-refused",
      message: expect.stringContaining("2 layers"),
    });
  });

  test("in where its layers stand, or in its ends, is refused", async () => {
    const wrongPlace = { ...middle.share, first: 0, hasEmbedding: true };
    await expect(loadStage(host, { ...middle, share: wrongPlace })).rejects.toMatchObject({
      code: "stage-refused",
      message: expect.stringContaining("a stage from layer 1 on of a model of 4"),
    });
    const noHead = { ...tail.share, hasOutput: false };
    await expect(loadStage(host, { ...tail, share: noHead })).rejects.toMatchObject({ code: "stage-refused" });
  });

  test("but a whole model is refused", async () => {
    const share = { first: 0, count: 4, hasEmbedding: true, hasOutput: false };
    await expect(loadStage(host, { path: TINY_PATH, share })).rejects.toMatchObject({
      code: "stage-refused",
      message: expect.stringContaining("does not say that it is a stage"),
    });
  });

  test("or no model at all does not load, and leaves no process", async () => {
    const path = folder.at("text.gguf");
    await writeFile(path, "this is no model");
    await expect(loadStage(host, { ...head, path })).rejects.toMatchObject({ code: "engine-load-failed" });
  });
});

describe("what is released or forgotten", () => {
  test("is heard of no more, and the next opening goes on from what is held for certain", async () => {
    const stage = await load(host, head);
    stage.engine.open(SEQUENCE);
    stage.engine.submit(tokenPass(SEQUENCE, { start: 0, tokenIds: PROMPT }));
    await until(() => stage.events.length === 1);
    stage.engine.submit(tokenPass(SEQUENCE, { start: 4, tokenIds: [301] }));
    stage.engine.release(SEQUENCE);
    expect(stage.engine.held(SEQUENCE)).toBe(4);
    stage.engine.open(SEQUENCE);
    stage.engine.submit(tokenPass(SEQUENCE, { start: 4, tokenIds: [301, 302], tag: 9 }));
    await until(() => stage.events.length === 2);
    expect(stage.events[1]).toMatchObject({ kind: "output", start: 4, count: 2, tag: 9 });
    stage.engine.forget(SEQUENCE);
    expect([stage.engine.held(SEQUENCE), stage.engine.stats().sequencesOpen]).toEqual([0, 0]);
  });

  test("leaves no count of passes behind, and stats tell what was decoded", async () => {
    const stage = await load(host, head);
    stage.engine.open(SEQUENCE);
    for (let start = 0; start < 5; start++) stage.engine.submit(tokenPass(SEQUENCE, { start, tokenIds: [301] }));
    stage.engine.submit(tokenPass(SEQUENCE, { start: 5, tokenIds: PROMPT }));
    expect(stage.engine.stats()).toMatchObject({ sequencesOpen: 1, passesQueued: 6 });
    await until(() => stage.events.length === 6);
    const stats = stage.engine.stats();
    expect(stats).toMatchObject({ passesQueued: 0, positionsDecoded: 11 });
    // One sequence alone.
    expect(stats.singlesMean).toBe(1);
    for (const measured of [stats.singleMs, stats.promptMsPerPosition, stats.cpuMs])
      expect(measured).toBeGreaterThan(0);
    expect(stats.memoryBytes).toBeGreaterThan(10_000_000);
  });
});

describe("a state from elsewhere", () => {
  const resigned = (state: StageState, data: Uint8Array): StageState => ({
    ...state,
    data,
    sha256: sha256Hex(createHash("sha256").update(data).digest("hex")),
  });

  test("that is damaged, of another stage, or garbage under a digest of its own is refused, and the stage serves on", async () => {
    const stage = await load(host, tail, { contextTokens: 256 });
    stage.engine.open(SEQUENCE);
    stage.engine.setSampling(SEQUENCE, ARGMAX);
    stage.engine.submit({ ...passOf(hidden(stage, 9), 9), draw: DRAW });
    await until(() => stage.events.length === 1);
    const state = await stage.engine.exportState(SEQUENCE, 9);
    if (state === null) throw new Error("9 positions are held");
    const mine: StageState = { ...state, sequence: OTHER };
    expect(await stage.engine.importState({ ...mine, data: mine.data.subarray(1) })).toBe(false);
    expect(await stage.engine.importState(resigned(mine, mine.data.subarray(0, -7)))).toBe(false);
    expect(await stage.engine.importState({ ...mine, positions: 10 })).toBe(false);
    expect(await stage.engine.importState({ ...mine, positions: 1000 })).toBe(false);
    expect(await stage.engine.importState(resigned(mine, new Uint8Array(0)))).toBe(false);
    let random = 12_345;
    for (let round = 0; round < 200; round++) {
      const data = mine.data.slice();
      for (let flip = 0; flip < 8; flip++) {
        random = (Math.imul(random, 1_664_525) + 1_013_904_223) >>> 0;
        // Most of the counts and sizes stand in front.
        data[random % (round % 2 === 0 ? 200 : data.length)] = random >>> 24;
      }
      await stage.engine.importState(resigned(mine, data));
      stage.engine.forget(OTHER);
    }
    const other = await load(host, await folder.cut(0, 3), { contextTokens: 256 });
    other.engine.open(SEQUENCE);
    other.engine.submit(tokenPass(SEQUENCE, { start: 0, tokenIds: PROMPT }));
    const foreign = await other.engine.exportState(SEQUENCE, PROMPT.length);
    if (foreign === null) throw new Error("the prompt is held");
    expect(await stage.engine.importState({ ...foreign, sequence: OTHER })).toBe(false);
    expect(await stage.engine.importState(mine)).toBe(true);
    stage.engine.open(OTHER);
    stage.engine.setSampling(OTHER, ARGMAX);
    const next = { ...passOf(hidden(stage, 1), 1, 9), draw: DRAW };
    stage.engine.submit({ ...next, sequence: OTHER });
    stage.engine.submit(next);
    await until(() => stage.events.length === 3);
    const drawn = stage.events.slice(1).map((event) => event.kind === "tokens" && event.tokens[0]?.tokenId);
    expect(drawn[0]).toBe(drawn[1]);
  });

  test("that is being taken over is nobody's until it is there", async () => {
    const [first, last] = [await load(host, head), await load(host, tail)];
    for (const { engine } of [first, last]) engine.open(SEQUENCE);
    last.engine.setSampling(SEQUENCE, taskOf());
    await feed([first, last], tokenPass(SEQUENCE, { start: 0, tokenIds: PROMPT, draw: DRAW }));
    const state = await last.engine.exportState(SEQUENCE, PROMPT.length);
    if (state === null) throw new Error("the prompt is held");
    expect(await last.engine.importState(state)).toBe(false);
    const heir = await load(host, tail, { sequencesMax: 2 });
    const taking = heir.engine.importState(state);
    expect(heir.engine.open(SEQUENCE)).toBe(false);
    expect(heir.engine.held(SEQUENCE)).toBe(0);
    expect(await taking).toBe(true);
    expect(heir.engine.open(SEQUENCE)).toBe(true);
    expect(heir.engine.held(SEQUENCE)).toBe(PROMPT.length);
  });
});
