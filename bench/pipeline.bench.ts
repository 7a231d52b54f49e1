/**
 * How fast a model over several machines answers: chains of 1, 2, 3 and 5 stages of real processes in the lab (needs root), with 1 and 16 sequences,
 * without delay and at 20, 40 and 80 ms round trip between any two hosts; beside what their stages and ways take at least,
 * 1 / (sum of stage times + ways x round trip / 2), the way from the last stage back to the first included. Two models of random weights: a toy, whose
 * stages take half a millisecond, and a wide one, whose stages take 4 ms and more as real ones do. Then drafts on and off, for text of the bundled
 * model that repeats and that does not.
 *
 *     npm run bench -- pipeline [--only cells|drafts] [--model toy|wide] [--stages 3,5] [--rtt 0] [--sequences 1] [--tokens N] [--rounds N]
 *     npm run bench -- pipeline --only cells --rtt 0 --against DIR   takes turns with the chains of another checkout, which has its own node_modules
 *
 * What was left out by an option is not kept as a result.
 */
import { resolve } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { netlabAbsent } from "../test/netlab/netlab.ts";
import { type StreamBody, streamBodies } from "../test/support/chain-streams.ts";
import { type Bar, openBench } from "./lib/bench-run.ts";
import { LAB_MODEL_ID, LabChain } from "./lib/lab-chain.ts";
import { type Comparison, compareCell, measureCell, type PipelineCell, rateOf, rounded } from "./lib/pipeline-cells.ts";
import { type PipelineModel, pipelineOptions } from "./lib/pipeline-options.ts";
import { median } from "./lib/quantiles.ts";

const bench = openBench("pipeline");
const options = pipelineOptions(process.argv.slice(2));
const { tokens: TOKENS, rounds: ROUNDS } = options;
/** Of the bars on many sequences and on drafts. */
const BAR_RTT_MS = 40;
/** The bundled model has four layers; on a node with this limit there is room for half of them. */
const DRAFT_MODEL = { path: fileURLToPath(new URL("../models/tiny-q8_0.gguf", import.meta.url)), vram: "101MiB" };
const DRAFT_STAGES = 2;
const DRAFT_TOKENS = bench.isSmoke ? 24 : 160;
const DRAFT_ROUNDS = bench.isSmoke ? 1 : 5;
const NO_DRAFTS = ["--no-speculation"];

const absent = netlabAbsent();
if (absent !== null) {
  bench.say(`left out: ${absent}`);
  process.exit(0);
}
if (options.against !== null) {
  await compareWith(options.against);
  process.exit(0);
}
const cells = options.only === "drafts" ? [] : await allCells();
const drafts = options.only === "cells" ? null : await draftRates();
const bars = [...options.models.flatMap(cellBars), ...(drafts === null ? [] : draftBars(drafts))];
const keep = options.isWhole ? bench.keep : bench.tell;
keep({ bars, measured: { tokens: TOKENS, rounds: ROUNDS, cells, drafts } });
process.exit(0);

async function allCells(): Promise<readonly PipelineCell[]> {
  const found: PipelineCell[] = [];
  for (const { name: model, shape } of options.models) {
    for (const stages of options.stages) {
      await using chain = await startOf(LabChain, { stages, shape });
      for (const rttMs of options.rttsMs) {
        await warmUp(chain, rttMs);
        for (const sequences of options.sequences) {
          const how = { model, stages, sequences, rttMs };
          const cell = await measureCell(chain, how, { tokens: TOKENS, rounds: ROUNDS });
          bench.say(cellLine(cell));
          found.push(cell);
        }
      }
    }
  }
  return found;
}

function startOf(
  from: Pick<typeof LabChain, "start">,
  { stages, shape }: { readonly stages: number; readonly shape: PipelineModel["shape"] },
): Promise<LabChain> {
  return from.start({ stages, rttMs: 0, shape, agentArgs: stages === 1 ? [] : NO_DRAFTS });
}

/** Ways are measured anew, and every stage has computed. */
async function warmUp(chain: LabChain, rttMs: number): Promise<void> {
  await chain.shape({ rttMs });
  await rateOf(chain, streamBodies(2, { model: LAB_MODEL_ID, tokens: TOKENS }));
}

async function compareWith(folder: string): Promise<void> {
  const file = pathToFileURL(resolve(folder, "bench/lib/lab-chain.ts")).href;
  // The same bench of another commit: what it exports has the shape that it has here, or this fails at once.
  const { LabChain: Theirs } = (await import(file)) as { readonly LabChain: typeof LabChain };
  for (const { name: model, shape } of options.models) {
    for (const stages of options.stages) {
      await using ours = await startOf(LabChain, { stages, shape });
      await using theirs = await startOf(Theirs, { stages, shape });
      for (const rttMs of options.rttsMs) {
        for (const chain of [ours, theirs]) await warmUp(chain, rttMs);
        for (const sequences of options.sequences) {
          const how = { model, stages, sequences, rttMs };
          bench.say(comparisonLine(await compareCell({ ours, theirs }, how, { tokens: TOKENS, rounds: ROUNDS })));
        }
      }
    }
  }
}

function comparisonLine({ model, stages, sequences, rttMs, ours, theirs, quotient }: Comparison): string {
  const where = `${model}, ${stages} stages, ${sequences} sequences, ${rttMs} ms`;
  return `${where}: ${ours} tok/s here, ${theirs} there, ${quotient} times in the median of ${ROUNDS} rounds`;
}

function cellLine(cell: PipelineCell): string {
  const { model, stages, sequences, rttMs, tokPerSecond, modelTokPerSecond, ratio, stageMs, measuredRttMs } = cell;
  const beside = stages === 1 || sequences > 1 ? "" : `, of ${modelTokPerSecond} that can be: ${ratio}`;
  const times = stageMs.length === 0 ? "" : ` (stages ${stageMs.join(" + ")} ms, ways ${measuredRttMs.join(" + ")} ms)`;
  return `${model}, ${stages} stages, ${sequences} sequences, ${rttMs} ms: ${tokPerSecond} tok/s${beside}${times}`;
}

function cellBars({ name }: PipelineModel): readonly Bar[] {
  const own = cells.filter(({ model, stages }) => model === name && stages > 1);
  const alone = own.filter(({ sequences }) => sequences === 1);
  const worst = options.rttsMs.flatMap((rttMs) => {
    const ratios = alone.filter((cell) => cell.rttMs === rttMs).map(({ ratio }) => ratio);
    const what = `${name}: one sequence at ${rttMs} ms round trip, of what stages and ways allow, worst chain`;
    return ratios.length === 0 ? [] : [atLeast(what, Math.min(...ratios), 0.85)];
  });
  const many = own
    .filter(({ rttMs, sequences }) => rttMs === BAR_RTT_MS && sequences === 16)
    .flatMap((together) => {
      const one = alone.find(({ stages, rttMs }) => stages === together.stages && rttMs === BAR_RTT_MS);
      const what = `${name}: 16 sequences to one at ${BAR_RTT_MS} ms, ${together.stages} stages`;
      return one === undefined ? [] : [atLeast(what, rounded(together.tokPerSecond / one.tokPerSecond), 6)];
    });
  return [...worst, ...many];
}

interface DraftRates {
  readonly stages: number;
  readonly rttMs: number;
  /** Tokens a second, each round's. */
  readonly repeating: { readonly on: readonly number[]; readonly off: readonly number[] };
  readonly other: { readonly on: readonly number[]; readonly off: readonly number[] };
  readonly drafted: number;
  readonly accepted: number;
}

/** Two chains take turns, one that drafts and one that does not. */
async function draftRates(): Promise<DraftRates> {
  const start = (agentArgs: readonly string[]) =>
    LabChain.start({ stages: DRAFT_STAGES, rttMs: BAR_RTT_MS, agentArgs, model: DRAFT_MODEL });
  await using on = await start([]);
  await using off = await start(NO_DRAFTS);
  const rates = { repeating: { on: [0].slice(1), off: [0].slice(1) }, other: { on: [0].slice(1), off: [0].slice(1) } };
  for (const chain of [on, off]) await rateOf(chain, [...bodyOf("other", 0)]);
  for (let round = 0; round < DRAFT_ROUNDS; round++) {
    for (const kind of ["repeating", "other"] as const) {
      rates[kind].on.push(rounded(await rateOf(on, bodyOf(kind, round))));
      rates[kind].off.push(rounded(await rateOf(off, bodyOf(kind, round))));
    }
  }
  const [row] = await on.chains();
  const { drafted = 0, accepted = 0 } = row ?? {};
  bench.say(`drafts: ${JSON.stringify({ ...rates, drafted, accepted })}`);
  return { stages: DRAFT_STAGES, rttMs: BAR_RTT_MS, ...rates, drafted, accepted };
}

/** Greedy, the bundled model soon says the same again and again; sampled, it never does. */
function bodyOf(kind: "repeating" | "other", round: number): readonly StreamBody[] {
  const temperature = kind === "repeating" ? 0 : 1;
  return streamBodies(1, { model: LAB_MODEL_ID, tokens: DRAFT_TOKENS, temperature, seed: round }).map((body) => ({
    ...body,
    prompt: `${body.prompt} ${round}`,
  }));
}

function draftBars({ repeating, other }: DraftRates): readonly Bar[] {
  const gain = ({ on, off }: DraftRates["other"]) =>
    rounded(median(on.map((rate, round) => rate / (off[round] ?? Number.NaN))));
  return [
    atLeast(`text that repeats, with drafts to without, at ${BAR_RTT_MS} ms`, gain(repeating), 1.8),
    atLeast(`text that does not repeat, with drafts to without, at ${BAR_RTT_MS} ms`, gain(other), 0.95),
  ];
}

function atLeast(name: string, value: number, limit: number): Bar {
  return { name, value, wanted: "at-least", limit };
}
