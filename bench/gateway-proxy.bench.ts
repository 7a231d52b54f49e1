/**
 * What a gateway costs between a caller and a cloud provider: ours beside Portkey's (`@portkey-ai/gateway`, from its own lockfile in
 * bench/portkey), both before the same provider, which answers at once. Ours knows its callers by key, holds money before each request,
 * settles on disk and writes a receipt before it says that an answer is over; Portkey's hands on. The same load asks the provider itself, then one
 * and the other, in turns, round after round. Added latency is against the provider itself in the same round.
 *
 *   npm run bench -- gateway-proxy [--smoke] [--rounds 5] [--seconds 3] [--ours]
 *
 * `--ours`: without Portkey's; also in a smoke run where it is not installed.
 */
import { parseArgs } from "node:util";
import { residentBytes } from "../test/support/process-memory.ts";
import { type Bar, openBench } from "./lib/bench-run.ts";
import { cpuMsByPart } from "./lib/process-cpu.ts";
import { startProxyLoad } from "./lib/proxy-load.ts";
import {
  hasPortkey,
  installPortkey,
  MODEL,
  type ProxyTarget,
  startFallow,
  startPortkey,
  startUpstream,
} from "./lib/proxy-targets.ts";
import { median, quantile } from "./lib/quantiles.ts";

const { values: asked } = parseArgs({
  options: {
    smoke: { type: "boolean", default: false },
    ours: { type: "boolean", default: false },
    rounds: { type: "string" },
    seconds: { type: "string" },
  },
});

const TOKENS = 128;
const MEBIBYTE = 1_048_576;
/** A gateway runs for weeks: its code is compiled before anything is measured. */
const WARM_UP_SECONDS = 4;
const ROWS = [
  { name: "requests, 64 connections", connections: 64, isStream: false, weight: 1 },
  { name: "requests, 16 connections", connections: 16, isStream: false, weight: 0.5 },
  { name: "requests, 1 connection", connections: 1, isStream: false, weight: 0.5 },
  { name: "streams, 64", connections: 64, isStream: true, weight: 1 },
  { name: "streams, 1", connections: 1, isStream: true, weight: 0.5 },
] as const;

type Row = (typeof ROWS)[number];
type Name = ProxyTarget["name"];

interface Measured {
  readonly perSecond: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly cpuMsPerRequest: number;
}

const bench = openBench("gateway-proxy");
const rounds = Number(asked.rounds ?? (bench.isSmoke ? 1 : 5));
const seconds = Number(asked.seconds ?? (bench.isSmoke ? 0.3 : 3));
if (!bench.isSmoke && !asked.ours) installPortkey();
const withPortkey = hasPortkey() && !asked.ours;
if (!withPortkey) bench.say("SKIPPED: Portkey's gateway, which only a full run installs; ours alone is asked");

const upstream = await startUpstream(TOKENS);
const targets: ProxyTarget[] = [upstream];
const load = startProxyLoad();
const found = new Map<string, Measured[]>();
try {
  if (withPortkey) targets.push(await startPortkey(upstream));
  targets.push(await startFallow(upstream));
  for (const row of ROWS) {
    for (const target of targets) await measure(target, row, bench.isSmoke ? 0.1 : WARM_UP_SECONDS * row.weight);
  }
  for (let round = 0; round < rounds; round++) {
    for (const row of ROWS) {
      for (const target of targets) {
        const one = await measure(target, row, seconds * row.weight);
        const key = `${target.name} ${row.name}`;
        found.set(key, [...(found.get(key) ?? []), one]);
      }
    }
  }
  const rssMiB = Object.fromEntries(targets.map(({ name, pid }) => [name, Math.round(residentBytes(pid) / MEBIBYTE)]));
  const measured = {
    ...{ tokens: TOKENS, rounds, seconds, rssMiB },
    ...Object.fromEntries(
      ROWS.map((row) => [row.name, Object.fromEntries(targets.map(({ name }) => [name, of(name, row)]))]),
    ),
  };
  bench.say(JSON.stringify(measured, null, 2));
  if (withPortkey) bench.keep({ bars: bars(rssMiB), measured });
} finally {
  load.stop();
  for (const target of targets.reverse()) await target.stop();
}

async function measure(target: ProxyTarget, row: Row, forSeconds: number): Promise<Measured> {
  const { connections, isStream } = row;
  const { port, path, headers } = target;
  const body = JSON.stringify({
    model: MODEL,
    messages: [
      { role: "system", content: "You answer in short sentences." },
      { role: "user", content: "What is between a caller and a provider, and what does it cost?" },
    ],
    max_tokens: TOKENS,
    temperature: 0.7,
    ...(isStream ? { stream: true, stream_options: { include_usage: true } } : {}),
  });
  const cpuBefore = cpuMs(target);
  const order = { port, path, headers, body, connections, isStream, durationMs: forSeconds * 1_000, tokens: TOKENS };
  const { latenciesMs, wallMs } = await load.run(order);
  const answers = latenciesMs.length;
  return {
    perSecond: ((answers * (isStream ? TOKENS : 1)) / wallMs) * 1_000,
    p50Ms: median(latenciesMs),
    p99Ms: quantile(latenciesMs, 0.99),
    cpuMsPerRequest: (cpuMs(target) - cpuBefore) / answers,
  };
}

function cpuMs({ pid }: ProxyTarget): number {
  return Object.values(cpuMsByPart(pid)).reduce((sum, ms) => sum + ms, 0);
}

function rowsOf(name: Name, row: Row): readonly Measured[] {
  return found.get(`${name} ${row.name}`) ?? [];
}

function of(name: Name, row: Row): object {
  const rows = rowsOf(name, row);
  const rounded = (pick: (one: Measured) => number) => Number(median(rows.map(pick)).toFixed(3));
  return {
    [row.isStream ? "tokPerSecond" : "requestsPerSecond"]: rounded(({ perSecond }) => perSecond),
    p50Ms: rounded(({ p50Ms }) => p50Ms),
    p99Ms: rounded(({ p99Ms }) => p99Ms),
    addedP50Ms: added(name, row, "p50Ms"),
    addedP99Ms: added(name, row, "p99Ms"),
    cpuMsPerRequest: rounded(({ cpuMsPerRequest }) => cpuMsPerRequest),
  };
}

/** To the provider itself, asked in the same round. */
function added(name: Name, row: Row, which: "p50Ms" | "p99Ms"): number {
  const own = rowsOf("direct", row);
  const differences = rowsOf(name, row).map((one, round) => one[which] - (own[round]?.[which] ?? Number.NaN));
  return Number(median(differences).toFixed(3));
}

/** Ours to Portkey's: medians of the ratios of neighbours, and of what both add. */
function bars(rssMiB: Readonly<Record<string, number>>): Bar[] {
  const ratio = (row: Row) => {
    const theirs = rowsOf("portkey", row);
    return median(rowsOf("fallow", row).map(({ perSecond }, round) => perSecond / (theirs[round]?.perSecond ?? 0)));
  };
  const [many] = ROWS;
  const rates = ROWS.filter((row) => row === many || row.isStream).map((row) => ({
    name: `${row.name}: ${row.isStream ? "tokens" : "requests"}/s of ours to Portkey's`,
    value: Number(ratio(row).toFixed(2)),
    wanted: "at-least" as const,
    limit: 1,
  }));
  const latencies = ROWS.filter((row) => row !== many && !row.isStream).flatMap((row) =>
    (["p50Ms", "p99Ms"] as const).map((which) => ({
      name: `${row.name}: added ${which.slice(0, 3)} ms, ours to Portkey's`,
      value: added("fallow", row, which),
      wanted: "at-most" as const,
      limit: added("portkey", row, which),
    })),
  );
  const memory = {
    name: "resident MiB after the load, ours to Portkey's",
    value: rssMiB["fallow"] ?? Number.NaN,
    wanted: "at-most" as const,
    limit: rssMiB["portkey"] ?? Number.NaN,
  };
  return [...rates, ...latencies, memory];
}
