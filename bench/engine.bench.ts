/**
 * What the engine costs on top of libllama: the same sequences through the engine (its process, its messages, its sampler)
 * and through the bare loop, in alternating rounds of one run, so that a busy machine slows both. Greedy shows what
 * scheduling and messages cost; sampled adds 40 keyed draws per token. Beside it: how long a start takes.
 */
import { fileURLToPath } from "node:url";
import { engineEnvironment } from "../src/adapters/engine-llama/child-environment.ts";
import { LlamaEngineHost } from "../src/adapters/engine-llama/engine-host.ts";
import { modelId, sha256Hex } from "../src/domain/ids.ts";
import { DEFAULT_SAMPLING } from "../src/domain/sampling.ts";
import type { Engine } from "../src/ports/engine.ts";
import { startBareLoop } from "./lib/bare-loop.ts";
import { openBench } from "./lib/bench-run.ts";
import { type EngineRun, runOnEngine, workOf } from "./lib/engine-load.ts";
import { quantile } from "./lib/quantiles.ts";

const bench = openBench("engine");
const weightsPath = fileURLToPath(new URL("../models/tiny-q8_0.gguf", import.meta.url));
const shape = { contextTokens: 512, sequencesMax: 64, threads: 1 };
const rounds = bench.isSmoke ? 1 : 7;
const outputTokens = bench.isSmoke ? 20 : 200;

const host = new LlamaEngineHost({
  variant: "cpu",
  libraryDirectory: null,
  selfTestModelPath: weightsPath,
  environment: engineEnvironment(process.env),
});

async function load(): Promise<{ engine: Engine; ms: number }> {
  const startMs = performance.now();
  const spec = {
    modelId: modelId("tiny"),
    weightsPath,
    weightsSha256: sha256Hex("0".repeat(64)),
    gpuLayers: 0,
    ...shape,
  };
  const engine = await host.load(spec, { signal: new AbortController().signal });
  return { engine, ms: performance.now() - startMs };
}

const first = await load();
await first.engine.close();
const startsMs: number[] = [];
for (let round = 1; round < rounds; round++) {
  const next = await load();
  startsMs.push(next.ms);
  await next.engine.close();
}
const { engine } = await load();
const bare = await startBareLoop({ weightsPath, ...shape });

const figures: Record<string, unknown> = {};
const ratios: Record<string, number> = {};
for (const sequences of [1, 8, 64]) {
  const rates = { greedy: [] as number[], sampled: [] as number[], bare: [] as number[] };
  // The first round warms both up and is not counted.
  for (let round = -1; round < rounds; round++) {
    const work = workOf({ sequences, outputTokens, salt: round + 1 });
    const greedy: EngineRun = await runOnEngine(engine, work, { ...DEFAULT_SAMPLING, temperature: 0 });
    const sampled = await runOnEngine(engine, workOf({ sequences, outputTokens, salt: round + 101 }), DEFAULT_SAMPLING);
    const yardstick = await bare.run(work.prompts.map((prompt, at) => ({ prompt, output: greedy.outputs[at] ?? [] })));
    if (yardstick.agreed !== yardstick.tokens) throw new Error("the bare loop's argmax is the greedy engine's token");
    if (round < 0) continue;
    rates.greedy.push(greedy.tokPerSecond);
    rates.sampled.push(sampled.tokPerSecond);
    rates.bare.push((yardstick.tokens / yardstick.wallMs) * 1000);
  }
  const middle = (values: readonly number[]): number => Math.round(quantile(values, 0.5));
  const paired = (values: readonly number[]): number =>
    Number(
      quantile(
        values.map((value, round) => value / (rates.bare[round] ?? 1)),
        0.5,
      ).toFixed(3),
    );
  ratios[`greedy${sequences}`] = paired(rates.greedy);
  ratios[`sampled${sequences}`] = paired(rates.sampled);
  figures[`sequences${sequences}`] = {
    bareTokPerSecond: middle(rates.bare),
    greedyTokPerSecond: middle(rates.greedy),
    sampledTokPerSecond: middle(rates.sampled),
    greedyToBare: ratios[`greedy${sequences}`],
    sampledToBare: ratios[`sampled${sequences}`],
  };
  bench.say(`${sequences} sequences: ${JSON.stringify(figures[`sequences${sequences}`])}`);
}
bare.stop();
await engine.close();

const firstStartMs = Math.round(first.ms);
const laterStartMs = startsMs.length === 0 ? firstStartMs : Math.round(quantile(startsMs, 0.5));
bench.keep({
  bars: [
    { name: "greedy, 64 sequences, to the bare loop", value: ratios["greedy64"] ?? 0, wanted: "at-least", limit: 0.9 },
    {
      name: "sampled, 64 sequences, to the bare loop",
      value: ratios["sampled64"] ?? 0,
      wanted: "at-least",
      limit: 0.8,
    },
    { name: "ms from load to ready, with self-test", value: firstStartMs, wanted: "at-most", limit: 500 },
  ],
  measured: { rounds, outputTokens, ...figures, firstStartMs, laterStartMs },
});
