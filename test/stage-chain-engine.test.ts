/** Chains of real stages of the bundled model over peer links: the unsplit engine's text token for token, also when stages are lost on the way. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { SystemClock } from "../src/adapters/clock-system/system-clock.ts";
import { SystemRandom } from "../src/adapters/clock-system/system-random.ts";
import { modelId, sha256Hex } from "../src/domain/ids.ts";
import { DEFAULT_SAMPLING } from "../src/domain/sampling.ts";
import type { Engine } from "../src/ports/engine.ts";
import { engineHost, generate, loadTiny, PROMPT } from "./support/engine-fixture.ts";
import { MemoryNet } from "./support/memory-carrier.ts";
import { type StageFile, StageFolder, stageHost, TINY_LAYERS } from "./support/stage-fixture.ts";
import { type Answer, type Ask, StageNodes, seedOf } from "./support/stage-nodes.ts";

const ASK: Ask = { request: 3, prompt: PROMPT, tokensMax: 64, sampling: { ...DEFAULT_SAMPLING, temperature: 0.7 } };
const WAIT_MS_MAX = 30_000;

let folder: StageFolder;
let whole: Engine;
const files = new Map<string, Promise<StageFile>>();
const host = stageHost();
beforeAll(async () => {
  folder = await StageFolder.of();
  whole = await loadTiny(engineHost());
});
afterAll(async () => {
  await whole.close();
  await folder.remove();
});

let chain: StageNodes;
beforeEach(() => {
  const clock = new SystemClock();
  const after = (delayMs: number, fire: () => void) => void clock.setTimer(delayMs, fire);
  chain = new StageNodes({
    clock,
    random: new SystemRandom(),
    net: new MemoryNet({ delayMs: () => 1, after }),
    layerCount: TINY_LAYERS,
    load: async ({ first, count }, onEvents) => {
      // An engine maps its file: it must not be written again while one runs.
      const name = `${first} ${count}`;
      const file = files.get(name) ?? folder.cut(first, count);
      files.set(name, file);
      const { path, share } = await file;
      return await host.loadStage(
        {
          modelId: modelId("tiny"),
          stagePath: path,
          weightsSha256: sha256Hex("ab".repeat(32)),
          share,
          contextTokens: 1_024,
          sequencesMax: 4,
          threads: 1,
          gpuLayers: 0,
          wire: "f32",
        },
        { signal: new AbortController().signal, onEvents },
      );
    },
    until: async (isReached) => {
      const endMs = clock.monoMs() + WAIT_MS_MAX;
      while (!isReached()) {
        if (clock.monoMs() > endMs) throw new Error(`not reached within ${WAIT_MS_MAX} ms`);
        await new Promise((resolve) => setImmediate(resolve));
      }
    },
  });
});
afterEach(() => chain.stop());

async function expected(ask: Ask): Promise<readonly number[]> {
  const { prompt, request, tokensMax, sampling = DEFAULT_SAMPLING, isEndless = false } = ask;
  const seed = sha256Hex(seedOf(request));
  const task = { tokenIds: prompt, tokensMax, sampling, seed, ignoreStopTokens: isEndless };
  return (await generate(whole, task)).tokenIds;
}

async function link(cuts: readonly number[]): Promise<void> {
  const edges = [0, ...cuts, TINY_LAYERS];
  const nodes = [];
  for (const [at, first] of edges.slice(0, -1).entries()) {
    nodes.push(await chain.add({ first, count: (edges[at + 1] ?? TINY_LAYERS) - first }));
  }
  await chain.link(nodes);
}

async function underway(tokens: number): Promise<Answer> {
  await link([1, 3]);
  const answer = chain.start(ASK);
  await chain.until(() => answer.tokenIds.length >= tokens);
  return answer;
}

describe("a chain of real stages", () => {
  test.each([[[2]], [[1, 3]], [[1, 2, 3]]])("cut at %j gives the unsplit model's text", async (cuts) => {
    await link(cuts);
    const asks = [3, 4, 5].map((request) => ({ ...ASK, request }));
    const answers = asks.map((ask) => chain.start(ask));
    await chain.until(() => answers.every(({ end }) => end !== null));
    const whole = [];
    for (const ask of asks) whole.push(await expected(ask));
    expect(answers.map(({ tokenIds }) => tokenIds)).toEqual(whole);
    expect(answers[0]?.usage).toMatchObject({ promptTokens: PROMPT.length, outputTokens: whole[0]?.length });
  });

  test.each([
    ["first", [0]],
    ["middle", [1]],
    ["last", [2]],
    ["first and last", [0, 2]],
  ])("goes on with the same text when the %s are replaced", async (_, places) => {
    const answer = await underway(10);
    const before = answer.tokenIds.length;
    const members = [...chain.members];
    for (const place of places) {
      const lost = members[place];
      if (lost === undefined) throw new Error(`no stage ${place}`);
      await lost.stop();
      members[place] = await chain.add(lost.layers);
    }
    await chain.link(members);
    chain.start(ASK);
    await chain.until(() => answer.end !== null || answer.failed !== null);
    expect(answer.tokenIds).toEqual(await expected(ASK));
    expect(before).toBeLessThan(answer.tokenIds.length);
  });

  test("hands keys and values over in a planned move", async () => {
    const answer = await underway(10);
    const [, middle] = chain.members;
    if (middle === undefined) throw new Error("three stages");
    const to = await chain.add(middle.layers);
    await chain.move(middle, to);
    const positions = PROMPT.length + 10;
    if (answer.end === null) chain.start(ASK);
    await chain.until(() => answer.end !== null);
    expect(answer.tokenIds).toEqual(await expected(ASK));
    const sent = to.came("activations").flatMap(({ entries }) => entries);
    expect(Math.min(...sent.map(({ start }) => start))).toBeGreaterThanOrEqual(positions - 2);
  });

  test("goes on with the same text when a stage is replaced while drafts are on their way", async () => {
    // Without chance this model repeats itself, so that the text's own repetitions draft it.
    const greedy: Ask = { ...ASK, tokensMax: 160, isEndless: true, sampling: { ...DEFAULT_SAMPLING, temperature: 0 } };
    await link([1, 3]);
    const answer = chain.start(greedy);
    await chain.until(() => answer.tokenIds.length >= 60);
    const [head, middle, tail] = chain.members;
    if (head === undefined || middle === undefined || tail === undefined) throw new Error("three stages");
    const drafted = middle.came("activations").some(({ entries }) => {
      return entries.some(({ draw }) => (draw?.draftIds.length ?? 0) > 0);
    });
    await middle.stop();
    await chain.link([head, await chain.add(middle.layers), tail]);
    if (answer.end === null) chain.start(greedy);
    await chain.until(() => answer.end !== null || answer.failed !== null);
    expect(answer.tokenIds).toEqual(await expected(greedy));
    expect(drafted).toBe(true);
  });
});
