/**
 * What drafts are worth: two stages of the bundled model, each in a process of its own, with ways of 20 ms between them and back (40 ms round trip) and
 * with none; text that repeats (a penalty of -2 makes it) and text that does not; no drafts, drafts by lookup, and by the one-layer model of the folder
 * `shared` beside the checkout where there is one. Each answer is compared with the unsplit model's.
 *
 *     npm run bench -- speculation
 */
import { join } from "node:path";
import { sha256Hex } from "../src/domain/ids.ts";
import { DEFAULT_SAMPLING } from "../src/domain/sampling.ts";
import type { Engine, GenerateTask } from "../src/ports/engine.ts";
import { engineHost, generate, loadTiny, taskOf } from "../test/support/engine-fixture.ts";
import { RealHeadChain } from "../test/support/real-head-chain.ts";
import { findSharedData } from "../test/support/shared-data.ts";
import { type Bar, openBench } from "./lib/bench-run.ts";
import { median } from "./lib/quantiles.ts";

const bench = openBench("speculation");
const TOKENS = bench.isSmoke ? 24 : 128;
const seedsAt = (hopMs: number) => (bench.isSmoke ? 1 : hopMs === 0 ? 15 : 5);
const HOPS_MS = bench.isSmoke ? [5] : [20, 0];
const WARM_SEED = 99;
const TEXTS = [
  { text: "repeats", sampling: { ...DEFAULT_SAMPLING, temperature: 0.7, frequencyPenalty: -2 } },
  { text: "ordinary", sampling: { ...DEFAULT_SAMPLING, temperature: 0.7 } },
  { text: "does not repeat", sampling: { ...DEFAULT_SAMPLING, temperature: 1, frequencyPenalty: 1 } },
] as const;
const MODES = ["off", "lookup", "model"] as const;
type Mode = (typeof MODES)[number];

interface Cell {
  readonly hopMs: number;
  readonly text: string;
  readonly mode: Mode;
  readonly msPerToken: number;
  /** Of the same texts without drafts, text by text: the middle one. */
  readonly speedup: number;
  readonly drafted: number;
  readonly accepted: number;
  readonly sameTexts: number;
  readonly texts: number;
}

const shared = findSharedData();
const unsplit = await loadTiny(engineHost());
const draft =
  shared === null ? null : await loadTiny(engineHost(), { weightsPath: join(shared, "models/tiny-draft-q8_0.gguf") });
const cells: Cell[] = [];
for (const hopMs of HOPS_MS) cells.push(...(await measure(hopMs)));
await unsplit.close();
await draft?.close();
bench.keep({ bars: barsOf(), measured: { tokens: TOKENS, cells } });
process.exit(0);

/** All modes take turns, so that what else the machine does meets them alike. */
async function measure(hopMs: number): Promise<readonly Cell[]> {
  const modes = MODES.filter((mode) => mode !== "model" || draft !== null);
  const chains = new Map<Mode, RealHeadChain>();
  for (const mode of modes) chains.set(mode, await startChain(hopMs, mode));
  const found: Cell[] = [];
  for (const { text, sampling } of TEXTS) {
    const runs = modes.map((mode) => ({ mode, msPerToken: [0].slice(1), drafted: 0, accepted: 0, same: 0 }));
    const seeds = seedsAt(hopMs);
    for (let seed = 0; seed < seeds; seed++) {
      const task = taskOf({ sampling, seed: seedOf(seed), tokensMax: TOKENS, ignoreStopTokens: true });
      const { tokenIds } = await generate(unsplit, task);
      for (const run of seed % 2 === 0 ? runs : [...runs].reverse()) {
        const chain = chains.get(run.mode);
        if (chain === undefined) continue;
        const before = chain.desk.stats();
        const answer = await chain.answer(task);
        const after = chain.desk.stats();
        run.msPerToken.push(answer.decodeMs / (answer.tokenIds.length - 1));
        run.drafted += after.drafted - before.drafted;
        run.accepted += after.accepted - before.accepted;
        if (answer.tokenIds.join() === tokenIds.join()) run.same += 1;
      }
    }
    const off = runs[0]?.msPerToken ?? [];
    for (const { mode, msPerToken, drafted, accepted, same } of runs) {
      const speedup = rounded(median(msPerToken.map((ms, index) => (off[index] ?? ms) / ms)));
      const cell = { hopMs, text, mode, msPerToken: rounded(median(msPerToken)), speedup, drafted, accepted };
      found.push({ ...cell, sameTexts: same, texts: seeds });
      bench.say(
        `${2 * hopMs} ms, ${text}, ${mode}: ${cell.msPerToken} ms a token, ${speedup} x, ${accepted} of ${drafted} drafts came true, ${same} of ${seeds} texts are the unsplit model's`,
      );
    }
  }
  for (const chain of chains.values()) await chain.close();
  return found;
}

async function startChain(hopMs: number, mode: Mode): Promise<RealHeadChain> {
  const drafting: Engine | null = mode === "model" ? draft : null;
  const chain = await RealHeadChain.start({
    cuts: [2],
    wire: "f32",
    hopMs,
    sequencesMax: 4,
    draft: drafting,
    speculates: mode !== "off",
  });
  const warm: GenerateTask = taskOf({ seed: seedOf(WARM_SEED), tokensMax: TOKENS, ignoreStopTokens: true });
  await chain.answer(warm);
  return chain;
}

function barsOf(): readonly Bar[] {
  const speedups = (hopMs: number, texts: readonly string[], mode: Mode) =>
    cells.filter((cell) => cell.hopMs === hopMs && texts.includes(cell.text) && cell.mode === mode);
  const different = cells.reduce((sum, { texts, sameTexts }) => sum + texts - sameTexts, 0);
  const bars: Bar[] = [{ name: "texts that drafts changed", value: different, wanted: "at-most", limit: 0 }];
  for (const hopMs of HOPS_MS) {
    for (const mode of ["lookup", "model"] as const) {
      const rtt = `${2 * hopMs} ms round trip, drafts by ${mode}`;
      for (const { text, speedup } of speedups(hopMs, ["repeats", "ordinary", "does not repeat"], mode)) {
        const isFast = text === "repeats" && hopMs === 20;
        const limit = isFast ? 1.8 : 0.95;
        bars.push({ name: `speed against none, text ${text}, ${rtt}`, value: speedup, wanted: "at-least", limit });
      }
    }
  }
  return bars;
}

function seedOf(seed: number): ReturnType<typeof sha256Hex> {
  return sha256Hex(seed.toString(16).padStart(2, "0").repeat(32));
}

function rounded(value: number): number {
  return Math.round(value * 100) / 100;
}
