/** Probes of chains of real stages of the bundled model: who gives plausible garbage is named and replaced, and nobody else is. */
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { SystemClock } from "../src/adapters/clock-system/system-clock.ts";
import { SystemRandom } from "../src/adapters/clock-system/system-random.ts";
import { readHidden, writeHidden } from "../src/adapters/engine-llama/hidden-states.ts";
import type { WireFormat } from "../src/domain/chain.ts";
import { modelId, sha256Hex } from "../src/domain/ids.ts";
import { DEFAULT_SAMPLING } from "../src/domain/sampling.ts";
import { areAlike, FINGERPRINT_DISTANCE_MAX, fingerprintDistance } from "../src/domain/state-fingerprint.ts";
import type { Engine } from "../src/ports/engine.ts";
import type { StageEvent } from "../src/ports/stage-engine.ts";
import { areAnswersAlike } from "../src/scheduler/chains/probe-answer.ts";
import { SeededRandom } from "../src/sim/time/random.ts";
import { engineHost, generate, loadTiny, PROMPT } from "./support/engine-fixture.ts";
import { MemoryNet } from "./support/memory-carrier.ts";
import { ProbedStages } from "./support/probed-stages.ts";
import { type StageFile, StageFolder, stageHost, TINY_LAYERS } from "./support/stage-fixture.ts";
import { type Ask, type StageNode, StageNodes, seedOf } from "./support/stage-nodes.ts";

const ASK: Ask = { request: 3, prompt: PROMPT, tokensMax: 64, sampling: { ...DEFAULT_SAMPLING, temperature: 0.7 } };
const WAIT_MS_MAX = 60_000;
/** Probes at a pace that tests wait for. */
const EVERY_MS = 20;
/** That probes are asked with. */
const PROMPTS = 4;
const VOCAB_SIZE = 2_048;
const THIRDS = [
  { first: 0, count: 1 },
  { first: 1, count: 2 },
  { first: 3, count: 1 },
];

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

const clock = new SystemClock();
const random = new SystemRandom();
const opened: { stop(): unknown }[] = [];
afterEach(async () => {
  for (const one of opened.splice(0).reverse()) await one.stop();
});

async function until(isReached: () => boolean): Promise<void> {
  const endMs = clock.monoMs() + WAIT_MS_MAX;
  while (!isReached()) {
    if (clock.monoMs() > endMs) throw new Error(`not reached within ${WAIT_MS_MAX} ms`);
    await new Promise((resolve) => setImmediate(resolve));
  }
}

function open(wire: WireFormat): StageNodes {
  const after = (delayMs: number, fire: () => void) => void clock.setTimer(delayMs, fire);
  const chain = new StageNodes({
    clock,
    random,
    net: new MemoryNet({ delayMs: () => 1, after }),
    layerCount: TINY_LAYERS,
    wire,
    load: async ({ first, count }, onEvents) => {
      // An engine maps its file: it must not be written again while one runs.
      const name = `${first} ${count}`;
      const file = files.get(name) ?? folder.cut(first, count);
      files.set(name, file);
      const { path, share } = await file;
      const spec = { modelId: modelId("tiny"), stagePath: path, weightsSha256: sha256Hex("ab".repeat(32)), share };
      const room = { contextTokens: 1_024, sequencesMax: 4, threads: 1, gpuLayers: 0, wire };
      return await host.loadStage({ ...spec, ...room }, { signal: new AbortController().signal, onEvents });
    },
    until,
  });
  opened.push(chain);
  return chain;
}

function probed(chain: StageNodes, everyMs: number): ProbedStages {
  const lab = new ProbedStages(chain, { clock, random, vocabSize: VOCAB_SIZE, everyMs });
  opened.push(lab.probes);
  lab.probes.start();
  return lab;
}

/** Numbers of the same kind and mean size as what they stand for, and nothing of its content. */
function plausible(events: readonly StageEvent[]): readonly StageEvent[] {
  return events.map((event) => {
    if (event.kind !== "output") return event;
    const numbers = readHidden(event.data, event.format);
    if (numbers === null) throw new Error("an honest stage gives finite numbers");
    const size = Math.sqrt(numbers.reduce((sum, one) => sum + one * one, 0) / numbers.length);
    // Evenly distributed between -w and w: its mean square is w^2 / 3.
    const noise = numbers.map(() => (random.fraction() * 2 - 1) * size * Math.sqrt(3));
    const written = writeHidden(noise, event.format);
    if (written === null) throw new Error("noise is finite");
    return { ...event, data: written.data };
  });
}

/** A last stage that answers with tokens of its own. */
function invented(events: readonly StageEvent[]): readonly StageEvent[] {
  return events.map((event) => {
    if (event.kind !== "tokens") return event;
    const other = (tokenId: number) => (tokenId * 7 + 11) % VOCAB_SIZE;
    const tokens = event.tokens.map((token) => ({
      ...token,
      tokenId: other(token.tokenId),
      top: token.top.map((one) => ({ ...one, tokenId: other(one.tokenId) })),
    }));
    return { ...event, tokens };
  });
}

async function expected(ask: Ask): Promise<readonly number[]> {
  const { prompt, request, tokensMax, sampling = DEFAULT_SAMPLING } = ask;
  return (await generate(whole, { tokenIds: prompt, tokensMax, sampling, seed: sha256Hex(seedOf(request)) })).tokenIds;
}

async function thirds(chain: StageNodes): Promise<StageNode[]> {
  const nodes = [];
  for (const layers of THIRDS) nodes.push(await chain.add(layers));
  await chain.link(nodes);
  return nodes;
}

describe("probes of a chain of real stages", () => {
  test.each([
    ["the first", 0, plausible],
    ["the middle", 1, plausible],
    ["the last", 2, invented],
  ] as const)(
    "name %s stage when it gives plausible garbage; it is replaced, and the text is the unsplit model's",
    async (_, place, spoil) => {
      const chain = open("f32");
      await thirds(chain);
      const lab = probed(chain, EVERY_MS);
      const judged = (more: number) => {
        const from = lab.probes.judged;
        return until(() => lab.probes.judged >= from + more);
      };
      // Two sets of nodes have given the same to each of the prompts.
      await judged(PROMPTS);
      const others = [];
      for (const layers of THIRDS) others.push(await chain.add(layers));
      await chain.link(others);
      await judged(PROMPTS);
      expect(lab.found).toEqual([]);

      const liar = await chain.add(THIRDS[place] ?? { first: 0, count: 0 });
      liar.spoil = spoil;
      await chain.link(others.with(place, liar));
      await until(() => lab.found.length > 0);
      expect(lab.found.map(({ nodeId, isSure }) => [nodeId, isSure])).toEqual([[liar.nodeId, true]]);

      await chain.link(others);
      const answer = chain.start(ASK);
      await until(() => answer.end !== null);
      expect(answer.tokenIds).toEqual(await expected(ASK));
      expect(lab.found).toHaveLength(1);
    },
  );

  test("name nobody where hidden states travel as f16 and as f32, and see a stage that skips its layers' work", async () => {
    const labs: ProbedStages[] = [];
    for (const wire of ["f32", "f16"] as const) {
      const chain = open(wire);
      await thirds(chain);
      // The same seed: the same prompts.
      const lab = new ProbedStages(chain, {
        clock,
        random: new SeededRandom("prompts"),
        vocabSize: VOCAB_SIZE,
        everyMs: EVERY_MS,
      });
      opened.push(lab.probes);
      lab.probes.start();
      labs.push(lab);
    }
    await until(() => labs.every(({ probed: done }) => done.length >= PROMPTS));
    const [full, half] = labs;
    for (const [at, one] of full?.probed.slice(0, PROMPTS).entries() ?? []) {
      const other = half?.probed[at];
      const [before, behind] = one.fingerprints;
      if (other === undefined || before == null || behind == null) throw new Error("each was probed");
      for (const [boundary, fingerprint] of one.fingerprints.entries()) {
        const same = other.fingerprints[boundary];
        if (fingerprint === null || same == null) throw new Error("each boundary was told of");
        expect(fingerprintDistance(fingerprint, same)).toBeLessThan(FINGERPRINT_DISTANCE_MAX / 10);
      }
      expect(areAnswersAlike(one.tokens, other.tokens)).toBe(true);
      expect(areAlike(before, behind)).toBe(false);
    }
  });
});
