/**
 * What weights on the node's disk save of a cold start: a request for a model that no node runs, over the product's own processes in the lab, with
 * the node behind a 100 Mbit/s line. Cold: the weights lie at the source only. Staged: the coordinator's own forecast had ordered a copy (its
 * staging desk, no order by hand), because the model was asked for before, when the grid had no node to run it. Both take turns.
 */
import { stat } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { modelAnswerSchema } from "../src/coordinator/admin/admin-schemas.ts";
import { weightsListSchema } from "../src/coordinator/admin/weights-schema.ts";
import { netlabAbsent, startNetlab } from "../test/netlab/netlab.ts";
import { writeRandomModel } from "../test/support/random-model.ts";
import { openBench } from "./lib/bench-run.ts";
import { LabGrid } from "./lib/lab-grid.ts";
import { quantile } from "./lib/quantiles.ts";

const bench = openBench("cold-start");
const rounds = bench.isSmoke ? 1 : 5;
const modelBytes = bench.isSmoke ? 12e6 : 100e6;
const LAYERS = bench.isSmoke ? 4 : 16;
const RATE_MBIT = 100;
const DELAY_MS = { coordinator: 5, router: 10 } as const;
/** One copy is on its way at a time, and the plan is made every 30 s. */
const STAGED_MS_MAX = 60_000 + rounds * 60_000;
const LOOK_MS = 500;
/** Requests that came in vain, of all models in turn: the forecast learns from each what it knew 45 requests before, one every 5 ms at most. */
const ASKED_BEFORE = 400;
const ASKED_EVERY_MS = 15;

const absent = netlabAbsent();
if (absent !== null) {
  bench.say(`left out: ${absent}`);
  process.exit(0);
}
const net = await startNetlab({
  hosts: { coordinator: {}, ann: { lan: "home" } },
  nats: { router: { lan: "home", kind: "cone" } },
  links: { coordinator: { delayMs: DELAY_MS.coordinator }, router: { delayMs: DELAY_MS.router, rateMbit: RATE_MBIT } },
  lifeMs: 1_800_000,
});
const grid = await LabGrid.start(net.host("coordinator"));
const cold: number[] = [];
const staged: number[] = [];
let figures: { fileBytes: number; stagedBytes: number; avoided: number };
try {
  figures = await run();
} finally {
  await grid.stop();
  await net.stop();
}
const ratios = staged.map((ms, round) => ms / (cold[round] ?? Number.NaN));
bench.keep({
  bars: [
    {
      name: "time to the first token with staged weights, of that without, median",
      value: Number(quantile(ratios, 0.5).toFixed(3)),
      wanted: "at-most",
      limit: 0.5,
    },
  ],
  measured: {
    line: { rateMbit: RATE_MBIT, rttMs: 2 * (DELAY_MS.coordinator + DELAY_MS.router) },
    rounds,
    ...figures,
    coldFirstTokenMs: cold.map(Math.round),
    stagedFirstTokenMs: staged.map(Math.round),
    medians: { coldMs: Math.round(quantile(cold, 0.5)), stagedMs: Math.round(quantile(staged, 0.5)) },
  },
});
process.exit(0);

async function run() {
  const stagedIds = Array.from({ length: rounds }, (_, round) => `staged-${round}`);
  let fileBytes = 0;
  for (const [at, id] of stagedIds.entries()) fileBytes = await addRandom(id, 100 + at);
  for (let at = 0; at < ASKED_BEFORE; at++) {
    await firstToken(stagedIds[at % rounds] ?? "", 503);
    await sleep(ASKED_EVERY_MS);
  }
  await grid.join(net.host("ann"));
  const startMs = performance.now();
  for (const id of stagedIds) bench.say(`${id} lies on the node's disk after ${await untilStaged(id, startMs)} ms`);
  for (const [round, id] of stagedIds.entries()) {
    const coldId = `cold-${round}`;
    await addRandom(coldId, 200 + round);
    for (const [name, into] of round % 2 === 0
      ? ([
          [coldId, cold],
          [id, staged],
        ] as const)
      : ([
          [id, staged],
          [coldId, cold],
        ] as const)) {
      into.push(await firstToken(name, 200));
      await grid.ask(`/admin/v1/models/${name}`, { method: "DELETE" });
    }
    bench.say(`round ${round}: cold ${cold.at(-1)?.toFixed(0)} ms, staged ${staged.at(-1)?.toFixed(0)} ms`);
  }
  const stagedBytes = await grid.metric("fallow_staged_bytes");
  const avoided = await grid.metric("fallow_cold_starts_avoided");
  return { fileBytes, stagedBytes, avoided };
}

async function addRandom(id: string, seed: number): Promise<number> {
  const path = join(grid.folder, `${id}.gguf`);
  await writeRandomModel(path, { fileBytes: modelBytes, layerCount: LAYERS, seed });
  await grid.json("/admin/v1/models", modelAnswerSchema, { body: { path, id, warmReplicas: 0 } });
  return (await stat(path)).size;
}

/** Of a chat request; the coordinator holds it until a replica is there. */
async function firstToken(id: string, expected: number): Promise<number> {
  const body = { model: id, stream: true, max_tokens: 4, messages: [{ role: "user", content: "hello" }] };
  const answer = await grid.ask("/v1/chat/completions", { body });
  if (answer.status !== expected)
    throw new Error(`${id} was answered with ${answer.status}: ${answer.body.slice(0, 400)}`);
  if (expected !== 200) return answer.totalMs;
  if (answer.firstTokenMs === null) throw new Error(`${id} was answered without a token: ${answer.body.slice(0, 400)}`);
  return answer.firstTokenMs;
}

async function untilStaged(id: string, startMs: number): Promise<number> {
  while (performance.now() - startMs < STAGED_MS_MAX) {
    const { weights } = await grid.json("/grid/v1/weights", weightsListSchema);
    const row = weights.find(({ modelId }) => modelId === id);
    if (row?.nodes.some(({ share }) => share === 1)) return Math.round(performance.now() - startMs);
    await sleep(LOOK_MS);
  }
  throw new Error(`${id} was not staged in ${STAGED_MS_MAX} ms`);
}
