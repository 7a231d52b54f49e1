/**
 * How much of the engine's speed reaches clients: 64 streams at once on one replica through the whole stack (HTTP, gateway,
 * dispatch, link, agent, engine, and back as server-sent events), against a bare loop over libllama with the same sequences in
 * the same run. The two take turns (A B A B …), so that a slow minute of the machine hits both; the figure is the median of the
 * ratios of neighbours. Every text must equal the text of its request run alone.
 *
 *   npm run bench -- throughput [--smoke] [--streams 64] [--tokens 128] [--rounds 5]
 */
import { parseArgs } from "node:util";
import { z } from "zod";
import { SeededRandom } from "../src/sim/time/random.ts";
import { type Grid, startGrid } from "../test/support/grid.ts";
import { type BareLoop, type BareSequence, startBareLoop } from "./lib/bare-loop.ts";
import { openBench } from "./lib/bench-run.ts";
import { type CpuByPart, cpuMsByPart, cpuSince } from "./lib/process-cpu.ts";
import { median, spreadOf } from "./lib/quantiles.ts";
import { type StreamClient, startStreamClient } from "./lib/stream-client.ts";

const BAR = 0.7;
const MODEL = "tiny";
const PATH = "/v1/completions";
const PROMPT_TOKENS = { least: 8, most: 48 } as const;
/** Ids of ordinary words in the bundled model's vocabulary. */
const WORD_IDS = { least: 300, most: 2_000 } as const;
const WEIGHTS = new URL("../models/tiny-q8_0.gguf", import.meta.url).pathname;

const { values: asked } = parseArgs({
  options: {
    smoke: { type: "boolean", default: false },
    streams: { type: "string" },
    tokens: { type: "string" },
    rounds: { type: "string" },
    threads: { type: "string", default: "1" },
  },
});
const bench = openBench("throughput");
const shape = {
  streams: Number(asked.streams ?? (asked.smoke ? 8 : 64)),
  tokens: Number(asked.tokens ?? (asked.smoke ? 16 : 128)),
  rounds: Number(asked.rounds ?? (asked.smoke ? 1 : 5)),
  threads: Number(asked.threads),
};

interface Way {
  readonly name: "greedy" | "sampled";
  readonly bodies: readonly Readonly<Record<string, unknown>>[];
  /** Text of each request run alone. */
  readonly alone: readonly string[];
  readonly sequences: readonly BareSequence[];
}

interface Round {
  readonly stackTokPerSecond: number;
  readonly bareTokPerSecond: number;
  readonly ratio: number;
  /** The same ratio where nothing else runs and each process has a core: by the CPU time of the one that needs most. */
  readonly cpuRatio: number;
  /** CPU time for 1,000 tokens, by process. */
  readonly cpuMsPerKtok: CpuByPart;
}

const grid = await startGrid({ args: ["--threads", String(shape.threads)] });
const bare = await startBareLoop({
  weightsPath: WEIGHTS,
  contextTokens: 1_024,
  sequencesMax: shape.streams,
  threads: shape.threads,
});
const client = startStreamClient({ url: grid.baseUrl, key: grid.apiKey, path: PATH });
try {
  const ways = [await prepare("greedy", 0), await prepare("sampled", 0.8)];
  const results = new Map<string, Round[]>(ways.map(({ name }) => [name, []]));
  const firstMs: number[] = [];
  for (let round = 0; round < shape.rounds; round++) {
    for (const way of ways) {
      const done = await runRound(way, { client, bare, firstMs });
      results.get(way.name)?.push(done);
      const { stackTokPerSecond: stack, bareTokPerSecond: loop } = done;
      bench.say(
        `${way.name} ${round + 1}: stack ${stack} tok/s, bare loop ${loop} tok/s, ratio ${done.ratio}, by CPU time ${done.cpuRatio}`,
      );
      bench.say(`  CPU ms per 1,000 tokens: ${JSON.stringify(done.cpuMsPerKtok)}`);
    }
  }
  const cpuRatios = Object.fromEntries(
    ways.map(({ name }) => [name, middle(results.get(name) ?? [], ({ cpuRatio }) => cpuRatio)]),
  );
  const ratios = ways.map(({ name }) => ({ name, value: middle(results.get(name) ?? [], ({ ratio }) => ratio) }));
  bench.keep({
    bars: ratios.map(({ name, value }) => ({
      name: `throughput of ${shape.streams} ${name} streams against a bare loop`,
      value,
      wanted: "at-least",
      limit: BAR,
    })),
    measured: {
      ...shape,
      cpuRatios,
      tokPerSecond: Object.fromEntries(
        ways.map(({ name }) => [
          name,
          {
            stack: middle(results.get(name) ?? [], ({ stackTokPerSecond }) => stackTokPerSecond),
            bareLoop: middle(results.get(name) ?? [], ({ bareTokPerSecond }) => bareTokPerSecond),
          },
        ]),
      ),
      firstEventMs: spreadOf(firstMs, 1),
      byRound: Object.fromEntries(results),
    },
  });
} finally {
  client.stop();
  bare.stop();
  await grid.stop();
}

function middle(rounds: readonly Round[], of: (round: Round) => number): number {
  return Number(median(rounds.map(of)).toFixed(3));
}

async function runRound(way: Way, tools: { client: StreamClient; bare: BareLoop; firstMs: number[] }): Promise<Round> {
  const cpuBefore = cpuMsByPart(grid.pid);
  const load = await tools.client.load(way.bodies);
  const cpu = cpuSince(cpuBefore, cpuMsByPart(grid.pid));
  for (const [at, stream] of load.streams.entries()) {
    const alone = way.alone[at];
    if (stream.text !== alone) {
      throw new Error(`${way.name} stream ${at} differs from its run alone:\n${stream.text}\n--- alone:\n${alone}`);
    }
    if (stream.firstMs !== null) tools.firstMs.push(stream.firstMs);
  }
  const tokens = load.streams.reduce((sum, stream) => sum + stream.tokens, 0);
  const loop = await tools.bare.run(way.sequences);
  if (way.name === "greedy" && loop.agreed !== loop.tokens) {
    throw new Error(`the bare loop agrees with ${loop.agreed} of ${loop.tokens} greedy tokens`);
  }
  const stackTokPerSecond = Math.round((tokens / load.wallMs) * 1_000);
  const bareTokPerSecond = Math.round((loop.tokens / loop.wallMs) * 1_000);
  const perKtok = (ms: number, of: number) => Number(((ms / of) * 1_000).toFixed(1));
  const parts = Object.fromEntries(Object.entries(cpu).map(([part, ms]) => [part, perKtok(ms, tokens)]));
  const bareLoop = perKtok(loop.cpuMs, loop.tokens);
  return {
    stackTokPerSecond,
    bareTokPerSecond,
    ratio: Number((stackTokPerSecond / bareTokPerSecond).toFixed(3)),
    cpuRatio: Number((bareLoop / Math.max(...Object.values(parts))).toFixed(3)),
    cpuMsPerKtok: { ...parts, client: perKtok(load.cpuMs, tokens), bareLoop },
  };
}

/** Draws the prompts and runs each request alone, which gives its text and its tokens. */
async function prepare(name: Way["name"], temperature: number): Promise<Way> {
  const random = new SeededRandom(`throughput/${name}`);
  const prompts = Array.from({ length: shape.streams }, () =>
    Array.from({ length: random.between(PROMPT_TOKENS.least, PROMPT_TOKENS.most) }, () =>
      random.between(WORD_IDS.least, WORD_IDS.most),
    ),
  );
  const bodies = prompts.map((prompt, at) => ({
    model: MODEL,
    prompt,
    max_tokens: shape.tokens,
    temperature,
    seed: 1_000 + at,
    ignore_eos: true,
  }));
  const whole: { text: string; tokens: readonly string[] }[] = [];
  for (const body of bodies) whole.push(await askWhole(grid, { ...body, logprobs: 0 }));
  const alone = whole.map(({ text }) => text);
  const outputs = name === "greedy" ? await greedyOutputs(prompts, alone) : namedTokens(whole);
  return {
    name,
    bodies: bodies.map((body) => ({ ...body, stream: true, stream_options: { include_usage: true } })),
    alone,
    sequences: prompts.map((prompt, at) => ({ prompt, output: outputs[at] ?? [] })),
  };
}

/** Tokens that the bare loop itself finds; that their text is the grid's shows that both compute the same. */
async function greedyOutputs(prompts: readonly (readonly number[])[], alone: readonly string[]) {
  const { outputs, texts } = await bare.generate(prompts, shape.tokens);
  for (const [at, text] of texts.entries()) {
    if (text !== alone[at])
      throw new Error(`the bare loop's text ${at} is not the grid's:\n${text}\n---\n${alone[at]}`);
  }
  return outputs;
}

/** Tokens by their text. One that is a part of a character has no text of its own; any token in its place costs the same. */
function namedTokens(answers: readonly { readonly tokens: readonly string[] }[]): readonly (readonly number[])[] {
  const idOf = new Map(bare.pieces.map((piece, id) => [piece, id]));
  return answers.map(({ tokens }) => tokens.map((token) => idOf.get(token) ?? WORD_IDS.least));
}

async function askWhole(from: Grid, body: unknown): Promise<{ text: string; tokens: readonly string[] }> {
  const answer = await fetch(`${from.baseUrl}${PATH}`, {
    method: "POST",
    headers: { authorization: `Bearer ${from.apiKey}`, "content-type": "application/json" },
    body: JSON.stringify(body),
  });
  const text = await answer.text();
  if (!answer.ok) throw new Error(`${answer.status} ${text}`);
  const schema = z.object({
    choices: z.array(z.object({ text: z.string(), logprobs: z.object({ tokens: z.array(z.string()) }) })),
  });
  const [choice] = schema.parse(JSON.parse(text)).choices;
  if (choice === undefined) throw new Error("an answer has a choice");
  return { text: choice.text, tokens: choice.logprobs.tokens };
}
