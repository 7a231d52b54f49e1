/**
 * How fast a model over several machines answers: chains of 1, 2, 3 and 5 stages of real processes in the lab (needs root), with 1 and 16 sequences,
 * without delay and at 20, 40 and 80 ms round trip between any two hosts; beside what their stages and ways take at least,
 * 1 / (sum of stage times + ways x round trip / 2), the way from the last stage back to the first included. Then drafts on and off, for text of the
 * bundled model that repeats and that does not.
 *
 *     npm run bench -- pipeline [--only cells|drafts]
 */
import { fileURLToPath } from "node:url";
import { netlabAbsent } from "../test/netlab/netlab.ts";
import { type StreamBody, streamBodies } from "../test/support/chain-streams.ts";
import { type Bar, openBench } from "./lib/bench-run.ts";
import { LAB_MODEL_ID, LabChain } from "./lib/lab-chain.ts";
import { measureCell, type PipelineCell, rateOf, rounded } from "./lib/pipeline-cells.ts";
import { median } from "./lib/quantiles.ts";

const bench = openBench("pipeline");
const only = process.argv[process.argv.indexOf("--only") + 1];
const CHAINS = bench.isSmoke ? [2] : [1, 2, 3, 5];
const RTTS_MS = bench.isSmoke ? [20] : [0, 20, 40, 80];
const SEQUENCES = [1, 16];
const TOKENS = bench.isSmoke ? 16 : 64;
const ROUNDS = bench.isSmoke ? 1 : 3;
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
const cells = only === "drafts" ? [] : await allCells();
const drafts = only === "cells" ? null : await draftRates();
bench.keep({
  bars: [...(cells.length === 0 ? [] : cellBars()), ...(drafts === null ? [] : draftBars(drafts))],
  measured: { tokens: TOKENS, rounds: ROUNDS, cells, drafts },
});
process.exit(0);

async function allCells(): Promise<readonly PipelineCell[]> {
  const found: PipelineCell[] = [];
  for (const stages of CHAINS) {
    await using chain = await LabChain.start({ stages, rttMs: 0, agentArgs: stages === 1 ? [] : NO_DRAFTS });
    for (const rttMs of RTTS_MS) {
      await chain.shape({ rttMs });
      // Ways are measured anew, and every stage has computed.
      await rateOf(chain, streamBodies(2, { model: LAB_MODEL_ID, tokens: TOKENS }));
      for (const sequences of SEQUENCES) {
        const cell = await measureCell(chain, { stages, sequences, rttMs }, { tokens: TOKENS, rounds: ROUNDS });
        bench.say(cellLine(cell));
        found.push(cell);
      }
    }
  }
  return found;
}

function cellLine({ stages, sequences, rttMs, tokPerSecond, modelTokPerSecond, ratio, stageMs }: PipelineCell): string {
  const beside = stages === 1 || sequences > 1 ? "" : `, of ${modelTokPerSecond} that can be: ${ratio}`;
  const times = stageMs.length === 0 ? "" : ` (stages ${stageMs.join(" + ")} ms)`;
  return `${stages} stages, ${sequences} sequences, ${rttMs} ms: ${tokPerSecond} tok/s${beside}${times}`;
}

function cellBars(): readonly Bar[] {
  const alone = cells.filter(({ stages, sequences }) => stages > 1 && sequences === 1);
  const atRtt = (rttMs: number) => alone.filter((cell) => cell.rttMs === rttMs);
  const worst = RTTS_MS.map((rttMs) => {
    const value = Math.min(...atRtt(rttMs).map(({ ratio }) => ratio));
    return atLeast(`one sequence at ${rttMs} ms round trip, of what stages and ways allow, worst chain`, value, 0.85);
  });
  const many = alone
    .filter(({ rttMs }) => rttMs === BAR_RTT_MS)
    .map((one) => {
      const together = cells.find(
        ({ stages, rttMs, sequences }) => stages === one.stages && rttMs === one.rttMs && sequences === 16,
      );
      const value = rounded((together?.tokPerSecond ?? Number.NaN) / one.tokPerSecond);
      return atLeast(`16 sequences to one at ${BAR_RTT_MS} ms, ${one.stages} stages`, value, 6);
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
