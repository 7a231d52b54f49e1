/**
 * Architectures x quantisations x chains of 2 and 3 stages: how far the logits of a chain are from the unsplit model's, with hidden states that travel
 * as f32 and as f16. The models are small and of random weights (test/support/architecture-specs.ts); each is quantised by the engine's own quantiser
 * and runs in a process of its own.
 */
import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { specName } from "../test/support/architecture-model.ts";
import { ARCHITECTURE_SPECS } from "../test/support/architecture-specs.ts";
import { QUANTISATION_NAMES } from "../test/support/quantise.ts";
import { openBench } from "./lib/bench-run.ts";
import type { GoldenChain } from "./lib/golden-chain.ts";

interface Cell {
  readonly model: string;
  readonly quantisation: string;
  readonly chains: readonly GoldenChain[];
}

const PROCESS = fileURLToPath(new URL("./lib/golden-stages-process.ts", import.meta.url));
/** Each takes some seconds. */
const MODEL_MS_MAX = 300_000;
const bench = openBench("golden-stages");
const models = bench.isSmoke ? ["llama", "gemma2"] : ARCHITECTURE_SPECS.map(specName);
const quantisations = bench.isSmoke ? ["F32", "Q4_K_M"] : QUANTISATION_NAMES;

const cells: Cell[] = [];
const broken: string[] = [];
for (const model of models) {
  const run = spawnSync(process.execPath, [PROCESS, model, ...quantisations], {
    encoding: "utf8",
    timeout: MODEL_MS_MAX,
    maxBuffer: 64 * 1024 * 1024,
  });
  const lines = run.stdout.split("\n").filter((line) => line.startsWith("{"));
  const own: Cell[] = lines.map((line) => JSON.parse(line));
  cells.push(...own);
  if (own.length !== quantisations.length) broken.push(`${model}: ${run.stderr.slice(-400)}`);
  const [f32, f16] = [of(own, "f32"), of(own, "f16")];
  bench.say(`${model}: f32 ${most(f32)}, f16 ${most(f16).toFixed(3)}, same argmax ${(100 * agreed(f16)).toFixed(1)} %`);
}
for (const line of broken) bench.say(`BROKEN ${line}`);

const [f32, f16] = [of(cells, "f32"), of(cells, "f16")];
bench.keep({
  bars: [
    { name: "largest difference of a logit, f32 wire", value: most(f32), wanted: "at-most", limit: 0 },
    {
      name: "cells that gave no result",
      value: models.length * quantisations.length - cells.length,
      wanted: "at-most",
      limit: 0,
    },
  ],
  measured: {
    cells: cells.length,
    f32: { chains: f32.length, maxDifference: most(f32), argmaxEqual: agreed(f32) },
    f16: { chains: f16.length, maxDifference: most(f16), argmaxEqual: agreed(f16) },
    byQuantisation: quantisations.map((name) => ({
      name,
      ...summary(cells.filter((cell) => cell.quantisation === name)),
    })),
    byModel: models.map((name) => ({ name, ...summary(cells.filter((cell) => cell.model === name)) })),
    // Of chains of two stages, of three stages: largest difference of a logit, and rows with the unsplit model's argmax.
    table: Object.fromEntries(models.map((name) => [name, rowsOf(cells.filter((cell) => cell.model === name))])),
  },
});
if (broken.length > 0 || most(f32) !== 0) process.exitCode = 1;

function of(some: readonly Cell[], wire: GoldenChain["wire"]): readonly GoldenChain[] {
  return some.flatMap(({ chains }) => chains.filter((chain) => chain.wire === wire));
}
function most(chains: readonly GoldenChain[]): number {
  return chains.reduce((sum, { maxDifference }) => Math.max(sum, maxDifference), 0);
}
function agreed(chains: readonly GoldenChain[]): number {
  const rows = chains.reduce((sum, chain) => sum + chain.rows, 0);
  return chains.reduce((sum, { argmaxEqual }) => sum + argmaxEqual, 0) / Math.max(1, rows);
}
function summary(some: readonly Cell[]) {
  const [exact, half] = [of(some, "f32"), of(some, "f16")];
  return {
    f32MaxDifference: most(exact),
    f16MaxDifference: Math.round(1e4 * most(half)) / 1e4,
    f16ArgmaxEqual: Math.round(1e4 * agreed(half)) / 1e4,
  };
}
function rowsOf(some: readonly Cell[]): Readonly<Record<string, string>> {
  const shown = ({ maxDifference, argmaxEqual, rows }: GoldenChain): string =>
    `${Math.round(1e6 * maxDifference) / 1e6} ${argmaxEqual}/${rows}`;
  const wire = (cell: Cell, name: GoldenChain["wire"]): string => `${name}: ${of([cell], name).map(shown).join(", ")}`;
  return Object.fromEntries(some.map((cell) => [cell.quantisation, `${wire(cell, "f32")}; ${wire(cell, "f16")}`]));
}
