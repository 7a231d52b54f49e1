/**
 * What mid-stream failover rests on: an engine that gets a prompt and the tokens so far goes on exactly as the first one would
 * have, wherever the stream was cut and whatever else runs. The real engine on this machine's CPU.
 */
import { afterAll, beforeAll, expect, test } from "vitest";
import { sha256Hex } from "../src/domain/ids.ts";
import type { Engine } from "../src/ports/engine.ts";
import { engineHost, generate, loadTiny } from "./support/engine-fixture.ts";

const SEEDS = 12;
const TOKENS = 160;
/** An odd length, so that pieces of a prompt do not come out even. */
const PROMPT = [1, 301, 392, 393, 325, 692, 400, 500, 601, 333, 222, 111, 999];

const seedOf = (index: number) => sha256Hex(index.toString(16).padStart(64, "0"));
const task = (index: number) => ({ tokenIds: PROMPT, seed: seedOf(index), tokensMax: TOKENS, ignoreStopTokens: true });
const host = engineHost();
const engines: Engine[] = [];

async function freshEngine(): Promise<Engine> {
  const engine = await loadTiny(host, { sequencesMax: 16 });
  engines.push(engine);
  return engine;
}

let alone: readonly (readonly number[])[];
beforeAll(async () => {
  const engine = await freshEngine();
  const texts: (readonly number[])[] = [];
  for (let index = 0; index < SEEDS; index++) texts.push((await generate(engine, task(index))).tokenIds);
  alone = texts;
}, 120_000);
afterAll(() => Promise.all(engines.map((engine) => engine.close())));

/** From its first `cut` tokens on. */
async function continued(engine: Engine, index: number, cut: number): Promise<readonly number[]> {
  const before = alone[index]?.slice(0, cut) ?? [];
  const rest = await generate(engine, {
    ...task(index),
    tokenIds: [...PROMPT, ...before],
    generatedCount: cut,
    tokensMax: TOKENS - cut,
  });
  return [...before, ...rest.tokenIds];
}

test("streams that run together are what they are alone", async () => {
  const engine = await freshEngine();
  const together = await Promise.all(alone.map((_, index) => generate(engine, task(index))));
  expect(together.map(({ tokenIds }) => tokenIds)).toEqual(alone);
});

test("the same request again, with its prompt in memory, is the same", async () => {
  const engine = await freshEngine();
  for (const index of [0, 0, 1, 0]) expect((await generate(engine, task(index))).tokenIds).toEqual(alone[index]);
});

test.each([1, 20, 50, 90])(
  "streams cut at about token %i and continued together elsewhere are the same",
  async (at) => {
    const engine = await freshEngine();
    const texts = await Promise.all(alone.map((_, index) => continued(engine, index, at + index)));
    expect(texts).toEqual(alone);
  },
);

test("a stream that moves twice, to engines that are busy with others, is the same", async () => {
  const [first, second] = [await freshEngine(), await freshEngine()];
  const others = (engine: Engine) => [3, 4, 5].map((index) => generate(engine, task(index)));
  const busy = [...others(first), ...others(second)];
  for (const [engine, cut] of [
    [first, 33],
    [second, 101],
  ] as const) {
    expect(await continued(engine, 2, cut)).toEqual(alone[2]);
  }
  await Promise.all(busy);
});
