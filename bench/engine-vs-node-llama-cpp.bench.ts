/**
 * The engine beside node-llama-cpp's own continuous batching: same file, same library build, same prompts, one thread each,
 * in alternating rounds of one run. Wall time is what counts; CPU time per token, of all processes of a side, is what can be
 * compared on a busy machine. Greedy texts must be equal, or the two would not be doing the same work. A smoke run
 * that finds node-llama-cpp not installed says so and ends: installing it is the full run's business.
 */
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { engineEnvironment } from "../src/adapters/engine-llama/child-environment.ts";
import { LlamaEngineHost } from "../src/adapters/engine-llama/engine-host.ts";
import { modelId, sha256Hex } from "../src/domain/ids.ts";
import { DEFAULT_SAMPLING } from "../src/domain/sampling.ts";
import type { Engine } from "../src/ports/engine.ts";
import { openBench } from "./lib/bench-run.ts";
import { cpuMsOf } from "./lib/cpu-time.ts";
import { runOnEngine, workOf } from "./lib/engine-load.ts";
import { installPeer, type Peer, startPeer } from "./lib/node-llama-cpp.ts";
import { quantile } from "./lib/quantiles.ts";

const bench = openBench("engine-vs-node-llama-cpp");
const weightsPath = fileURLToPath(new URL("../models/tiny-q8_0.gguf", import.meta.url));
const shape = { contextTokens: 512, threads: 1 };
const rounds = bench.isSmoke ? 1 : 5;
const outputTokens = bench.isSmoke ? 20 : 150;

if (bench.isSmoke && !existsSync(new URL("node-llama-cpp/node_modules", import.meta.url))) {
  bench.say("node-llama-cpp is not installed; run this bench without --smoke to install and compare");
  process.exit(0);
}
installPeer();

const host = new LlamaEngineHost({
  variant: "cpu",
  libraryDirectory: null,
  selfTestModelPath: weightsPath,
  environment: engineEnvironment(process.env),
});
const measured: Record<string, unknown> = { rounds, outputTokens };
const bars = [];
for (const sequences of [1, 8, 64]) {
  const spec = {
    modelId: modelId("tiny"),
    weightsPath,
    weightsSha256: sha256Hex("0".repeat(64)),
    gpuLayers: 0,
    ...shape,
  };
  const engine = await host.load({ ...spec, sequencesMax: sequences }, { signal: new AbortController().signal });
  const peer = await startPeer({ weightsPath, ...shape, sequencesMax: sequences });
  for (const temperature of [0, 1]) {
    const name = `${temperature === 0 ? "greedy" : "sampled"}${sequences}`;
    const figure = await compare({ engine, peer, sequences, temperature });
    measured[name] = figure;
    bench.say(`${name}: ${JSON.stringify(figure)}`);
    bars.push({ name: `${name}: ours to theirs`, value: figure.oursToTheirs, wanted: "at-least", limit: 1 } as const);
  }
  peer.stop();
  await engine.close();
}
bench.keep({ bars, measured });

interface Side {
  readonly tokPerSecond: number[];
  readonly cpuUsPerToken: number[];
}

async function compare(sides: { engine: Engine; peer: Peer; sequences: number; temperature: number }) {
  const { engine, peer, sequences, temperature } = sides;
  const ours: Side = { tokPerSecond: [], cpuUsPerToken: [] };
  const theirs: Side = { tokPerSecond: [], cpuUsPerToken: [] };
  const cpuMs = (): number => cpuMsOf(engine.info.processId) + cpuMsOf(process.pid);
  // The first round warms both up and is not counted.
  for (let round = -1; round < rounds; round++) {
    const work = workOf({ sequences, outputTokens, salt: round + (temperature === 0 ? 1 : 101) });
    const ourCpuMs = cpuMs();
    const mine = await runOnEngine(engine, work, { ...DEFAULT_SAMPLING, temperature });
    const ourCpuEndMs = cpuMs();
    const theirCpuMs = cpuMsOf(peer.processId);
    const other = await peer.run({ ...work, temperature });
    const theirCpuEndMs = cpuMsOf(peer.processId);
    if (temperature === 0) requireEqual(mine.outputs, other.outputs);
    if (round < 0) continue;
    const tokens = sequences * outputTokens;
    ours.tokPerSecond.push(mine.tokPerSecond);
    ours.cpuUsPerToken.push(((ourCpuEndMs - ourCpuMs) / tokens) * 1000);
    theirs.tokPerSecond.push((tokens / other.wallMs) * 1000);
    theirs.cpuUsPerToken.push(((theirCpuEndMs - theirCpuMs) / tokens) * 1000);
  }
  return {
    oursTokPerSecond: Math.round(quantile(ours.tokPerSecond, 0.5)),
    theirsTokPerSecond: Math.round(quantile(theirs.tokPerSecond, 0.5)),
    oursToTheirs: medianRatio(ours.tokPerSecond, theirs.tokPerSecond),
    oursCpuUsPerToken: Math.round(quantile(ours.cpuUsPerToken, 0.5)),
    theirsCpuUsPerToken: Math.round(quantile(theirs.cpuUsPerToken, 0.5)),
  };
}

function medianRatio(ours: readonly number[], theirs: readonly number[]): number {
  const ratios = ours.map((value, round) => value / (theirs[round] ?? 1));
  return Number(quantile(ratios, 0.5).toFixed(2));
}

function requireEqual(ours: readonly (readonly number[])[], theirs: readonly (readonly number[])[]): void {
  for (const [at, output] of ours.entries()) {
    const other = theirs[at] ?? [];
    if (output.join() !== other.join()) {
      const first = output.findIndex((token, index) => token !== other[index]);
      throw new Error(
        `sequence ${at} differs from token ${first}: ${output.slice(first, first + 4)} and ${other.slice(first, first + 4)}`,
      );
    }
  }
}
