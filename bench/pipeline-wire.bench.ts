/**
 * What a token costs on its way between two stages: bytes of the frames that carry it, as the stages count them, against its hidden state; processor
 * time of writing and reading those frames, against that of the stage that computes them; and how many texts stay the same when hidden states are
 * rounded to f16. Two stages of a model of width 1,024, as processes on loopback; and of the bundled model, which is trained: random weights make near
 * ties, which rounding decides, far more common than text has them.
 *
 *     npm run bench -- pipeline-wire [--only trained]   with the option only the bundled model's texts, and nothing is kept
 */
import { fileURLToPath } from "node:url";
import type { WireFormat } from "../src/domain/chain.ts";
import { sequenceId } from "../src/domain/chain.ts";
import { decodeStageFrame, encodeStageFrame } from "../src/wire/stage-frame-codec.ts";
import type { StageFrame } from "../src/wire/stage-frames.ts";
import { CHAIN_MODEL_ID, ChainGrid } from "../test/support/chain-grid.ts";
import type { ChainModelShape } from "../test/support/chain-model.ts";
import { streamBodies } from "../test/support/chain-streams.ts";
import { openBench } from "./lib/bench-run.ts";
import { cpuMsByPart, cpuSince } from "./lib/process-cpu.ts";

const bench = openBench("pipeline-wire");
const HEADS = 16;
const WIDTH = 64 * HEADS;
const SHAPE: ChainModelShape = {
  fileBytes: bench.isSmoke ? 60e6 : 160e6,
  layerCount: 10,
  contextTokens: 256,
  heads: HEADS,
};
const TOKENS = bench.isSmoke ? 24 : 160;
const TEXTS = bench.isSmoke ? 4 : 64;
const FRAMES = bench.isSmoke ? 2_000 : 50_000;
const FRAMES_WARM = 2_000;
const EXTRA_BYTES_MAX = 64;
const ELEMENT_BYTES: Readonly<Record<WireFormat, number>> = { f16: 2, f32: 4 };
const US_PER_MS = 1_000;

const TINY = { path: fileURLToPath(new URL("../models/tiny-q8_0.gguf", import.meta.url)), vram: "101MiB" };

if (process.argv.includes("trained")) {
  bench.say(JSON.stringify(await trainedShares(), null, 2));
  process.exit(0);
}
const bodies = streamBodies(TEXTS, { model: CHAIN_MODEL_ID, tokens: TOKENS, temperature: 0.8 });
const trained = await trainedShares();
const formats = { f16: await overChain("f16"), f32: await overChain("f32") };
const framingUs = framingCpuUs();
const stageUs = formats.f16.stageCpuMsPerToken * US_PER_MS;
const extraBytes = formats.f16.bytesPerPosition - WIDTH * ELEMENT_BYTES.f16;
bench.say(JSON.stringify({ formats, framingUs, stageUs }, null, 2));
bench.keep({
  bars: [
    {
      name: "bytes of a token and hop beside its hidden state, f16",
      value: two(extraBytes),
      wanted: "at-most",
      limit: EXTRA_BYTES_MAX,
    },
    {
      name: "CPU of writing and reading a token's frame, of its stage's",
      value: Number((framingUs / stageUs).toFixed(4)),
      wanted: "at-most",
      limit: 0.05,
    },
    {
      name: "share of texts that are the whole model's, f32",
      value: formats.f32.sameShare,
      wanted: "at-least",
      limit: 1,
    },
  ],
  measured: {
    width: WIDTH,
    ...SHAPE,
    tokens: TOKENS,
    texts: TEXTS,
    formats,
    trained,
    framingUs: two(framingUs),
    stageUs: two(stageUs),
  },
});
process.exit(0);

/** Of texts of the bundled model over two stages with f16 between them, by temperature. */
async function trainedShares() {
  const at = (temperature: number) => streamBodies(TEXTS, { model: CHAIN_MODEL_ID, tokens: TOKENS, temperature });
  const asked = { greedy: at(0), sampled: at(0.8) };
  const askWhole = [...asked.greedy, ...asked.sampled];
  await using chains = await ChainGrid.start({
    stages: 2,
    wire: "f16",
    modelPath: TINY.path,
    agentArgs: ["--max-vram", TINY.vram],
    askWhole,
  });
  const split = await chains.streams(askWhole);
  const shares = (from: number) => {
    const pairs = split.slice(from, from + TEXTS).map(({ text }, at) => [text, chains.whole[from + at]?.text ?? ""]);
    const shared = pairs.map(([one = "", other = ""]) => sharedStart(one, other));
    const same = pairs.filter(([one, other]) => one === other).length / TEXTS;
    return {
      sameShare: Number(same.toFixed(4)),
      sharedStartMean: two(shared.reduce((sum, share) => sum + share, 0) / TEXTS),
    };
  };
  return { texts: TEXTS, tokens: TOKENS, greedy: shares(0), sampled: shares(TEXTS) };
}

async function overChain(wire: WireFormat) {
  await using chains = await ChainGrid.start({ stages: 2, wire, shape: SHAPE, askWhole: bodies });
  const { whole } = chains;
  const [one] = bodies;
  if (one === undefined) throw new Error("there is a text");
  await chains.streams([one]);
  const { stages } = await chains.chain();
  const agents = stages.map(({ nodeId }) => chains.agent(nodeId));
  const cpuBefore = agents.map(({ pid }) => cpuMsByPart(pid));
  const before = await counted(chains);
  const alone = await chains.streams([{ ...one, seed: 77_777 }]);
  const cpu = agents.map(({ pid }, at) => cpuSince(cpuBefore[at] ?? {}, cpuMsByPart(pid)));
  const after = await counted(chains, before.positions);
  const together = await chains.streams(bodies);
  const same = together.filter(({ text }, at) => text === whole[at]?.text).length;
  const firstTokensSame = together.map(({ text }, at) => sharedStart(text, whole[at]?.text ?? ""));
  const tokens = alone[0]?.completionTokens ?? 0;
  return {
    sameShare: Number((same / TEXTS).toFixed(4)),
    /** Of the texts that differ: the share of the characters before the first difference. */
    sharedStartMean: two(firstTokensSame.reduce((sum, share) => sum + share, 0) / TEXTS),
    bytesPerPosition: two((after.bytes - before.bytes) / (after.positions - before.positions)),
    stageCpuMsPerToken: two((cpu[0]?.["stage"] ?? Number.NaN) / tokens),
    /** The agent's own process: links, TLS, framing and all else that it does meanwhile. */
    agentCpuMsPerToken: two((cpu[0]?.["coordinator"] ?? Number.NaN) / tokens),
  };
}

/** What the first stage sent, once it has told more than `above` positions. */
async function counted(chains: ChainGrid, above = 0): Promise<{ readonly bytes: number; readonly positions: number }> {
  const [row] = await chains.chains();
  const [first] = row?.stages ?? [];
  const counts = { bytes: first?.bytesSent ?? 0, positions: first?.positionsSent ?? 0 };
  if (counts.positions > above) return counts;
  await new Promise((resolve) => setTimeout(resolve, 200));
  return counted(chains, above);
}

/** Of one frame with one token, written by one stage and read by the next. */
function framingCpuUs(): number {
  const data = new Uint8Array(WIDTH * ELEMENT_BYTES.f16).map((_, at) => at & 0xff);
  const roundTrip = (count: number) => {
    for (let frame = 0; frame < count; frame++) {
      const read = decodeStageFrame(encodeStageFrame(frameOf(frame, data)));
      if (!read.ok) throw new Error(read.message);
    }
  };
  roundTrip(FRAMES_WARM);
  const before = process.cpuUsage();
  roundTrip(FRAMES);
  const { user, system } = process.cpuUsage(before);
  return (user + system) / FRAMES;
}

function frameOf(frame: number, data: Uint8Array): StageFrame {
  const entry = {
    sequence: sequenceId("00112233aabbccdd"),
    leaseEpoch: 3,
    start: frame,
    count: 1,
    how: "singly" as const,
    draw: { draftIds: [] },
    promptLength: 12,
    isRebuild: false,
  };
  return { type: "activations", channel: 1, chainEpoch: 7, frame, format: "f16", entries: [entry], data };
}

function sharedStart(one: string, other: string): number {
  let at = 0;
  while (at < one.length && one[at] === other[at]) at++;
  return other.length === 0 ? 1 : at / other.length;
}

function two(value: number): number {
  return Number(value.toFixed(2));
}
