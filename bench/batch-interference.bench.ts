/**
 * What a batch that would take everything does to others, and what it gets. One node serves priority requests, one every quarter of a second, in blocks that
 * take turns: with the batch paused, and with it running, in the order of a round and the other way in the next. From both come the times to the first
 * token. The batch's share of the idle capacity is what it did beside the priority requests, over that and what was left lying: its lines alone times the
 * part of the time in which no priority request runs, less its lines beside them. Where it did more than that reckoning leaves it, nothing was left lying:
 * the share is at most 1.
 *
 *   npm run bench -- batch-interference [--smoke] [--rounds 6]
 */
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { createBatch, uploadLines } from "../test/support/batch-drill.ts";
import { exchange, field, parsed } from "../test/support/exchange.ts";
import { type Grid, startGrid } from "../test/support/grid.ts";
import { openBench } from "./lib/bench-run.ts";
import { quantile } from "./lib/quantiles.ts";
import { machineMs, startTimedClient, type TimedClient } from "./lib/timed-client.ts";

const { values: asked } = parseArgs({
  options: { smoke: { type: "boolean", default: false }, rounds: { type: "string" } },
});
const bench = openBench("batch-interference");
const ROUNDS = Number(asked.rounds ?? (bench.isSmoke ? 1 : 6));
const REQUESTS = bench.isSmoke ? 5 : 20;
const GAP_MS = 250;
const ALONE_MS = bench.isSmoke ? 2_000 : 5_000;
/** More than any run of this bench gets through. */
const LINES = bench.isSmoke ? 2_000 : 60_000;
const TOKENS = 32;
const BARS = { firstToken: 1.2, share: 0.9 } as const;

interface Block {
  readonly firstTokenMs: readonly number[];
  /** While a priority request ran. */
  readonly busyMs: number;
  readonly tookMs: number;
  /** Of the batch. */
  readonly lines: number;
}

const grid = await startGrid({ args: ["--warm", "1", "--threads", "1", "--no-lan", "--no-udp"] });
const client = startTimedClient({
  port: Number(new URL(grid.baseUrl).port),
  key: grid.apiKey,
  path: "/v1/completions",
});
let seed = 0;

async function linesDone(id: string): Promise<number> {
  const answer = await exchange({ url: `${grid.apiUrl}/batches/${id}`, key: grid.apiKey });
  return Number(field(field(parsed(answer.body), "request_counts"), "completed"));
}

async function tell(grids: Grid, id: string, what: "pause" | "resume"): Promise<void> {
  await exchange({ url: `${grids.apiUrl}/batches/${id}/${what}`, key: grids.apiKey, method: "POST" });
  for (;;) {
    const shown = parsed((await exchange({ url: `${grids.apiUrl}/batches/${id}`, key: grids.apiKey })).body);
    const inFlight = Number(field(field(shown, "grid"), "lines_in_flight"));
    if (what === "pause" ? inFlight === 0 : inFlight > 0) return;
    await sleep(20);
  }
}

async function block(timed: TimedClient, id: string): Promise<Block> {
  const startMs = machineMs();
  const before = await linesDone(id);
  const firstTokenMs: number[] = [];
  let busyMs = 0;
  for (let at = 0; at < REQUESTS; at++) {
    const dueMs = startMs + at * GAP_MS;
    const waitMs = dueMs - machineMs();
    if (waitMs > 0) await sleep(waitMs);
    seed += 1;
    const more = { max_tokens: 16, ignore_eos: true, stream: true, service_tier: "priority", seed };
    const { requests } = await timed.run([[{ model: "tiny", prompt: `Question ${seed}: what was said`, ...more }]]);
    const [request] = requests;
    const first = request?.arrivals.find(({ textBytes }) => textBytes > 0);
    if (request === undefined || first === undefined) throw new Error("a priority request had no answer");
    firstTokenMs.push(first.atMs - request.sentMs);
    busyMs += request.doneMs - request.sentMs;
  }
  const lines = (await linesDone(id)) - before;
  return { firstTokenMs, busyMs, tookMs: machineMs() - startMs, lines };
}

const id = await createBatch(grid, await uploadLines(grid, LINES, TOKENS));
await tell(grid, id, "resume");
// Warm caches and learnt times.
await block(client, id);
const without: Block[] = [];
const beside: Block[] = [];
const alone: number[] = [];
for (let round = 0; round < ROUNDS; round++) {
  for (const isPaused of round % 2 === 0 ? [true, false] : [false, true]) {
    await tell(grid, id, isPaused ? "pause" : "resume");
    (isPaused ? without : beside).push(await block(client, id));
  }
  await tell(grid, id, "resume");
  const before = await linesDone(id);
  const startMs = machineMs();
  await sleep(ALONE_MS);
  alone.push((((await linesDone(id)) - before) * 1_000) / (machineMs() - startMs));
  bench.say(`round ${round + 1} of ${ROUNDS}`);
}
client.stop();
await grid.stop();

const p95 = (blocks: readonly Block[]) =>
  quantile(
    blocks.flatMap(({ firstTokenMs }) => firstTokenMs),
    0.95,
  );
const p50 = (blocks: readonly Block[]) =>
  quantile(
    blocks.flatMap(({ firstTokenMs }) => firstTokenMs),
    0.5,
  );
const sum = (of: (block: Block) => number) => beside.reduce((total, one) => total + of(one), 0);
const aloneRate = alone.reduce((total, rate) => total + rate, 0) / alone.length;
const tookMs = sum((one) => one.tookMs);
const idleShare = 1 - sum((one) => one.busyMs) / tookMs;
const besideRate = (sum((one) => one.lines) * 1_000) / tookMs;
const unusedRate = Math.max(0, aloneRate * idleShare - besideRate);
const share = besideRate / (besideRate + unusedRate);
const ratio = p95(beside) / p95(without);
const round = (value: number) => Number(value.toFixed(3));
bench.keep({
  bars: [
    {
      name: "p95 of priority's first token, with the batch over without",
      value: round(ratio),
      wanted: "at-most",
      limit: BARS.firstToken,
    },
    {
      name: "the batch's share of otherwise idle capacity",
      value: round(share),
      wanted: "at-least",
      limit: BARS.share,
    },
  ],
  measured: {
    priorityRequests: ROUNDS * REQUESTS,
    tokensPerLine: TOKENS,
    firstTokenMs: {
      without: { p50: round(p50(without)), p95: round(p95(without)) },
      beside: { p50: round(p50(beside)), p95: round(p95(beside)) },
    },
    linesPerSecond: { alone: round(aloneRate), beside: round(besideRate) },
    ratioOfRounds: without.map((one, at) => round(p95(beside.slice(at, at + 1)) / p95([one]))),
    ratioOfMedians: round(p50(beside) / p50(without)),
    idleShare: round(idleShare),
  },
});
process.exit(0);
