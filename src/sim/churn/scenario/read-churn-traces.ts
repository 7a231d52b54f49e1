/**
 * Reads what a churn run replays out of a trace folder (its README says where each file is from). Whoever opens the files hands a way
 * to read them, so that this room stays without a file system of its own; the formats are those of sim/traces.
 */
import { gunzipSync } from "node:zlib";
import { describeFault, FallowError } from "../../../domain/fault.ts";
import type { Outcome } from "../../../domain/refusal.ts";
import type { FileRefusal } from "../../../wire/file-problems.ts";
import { readLatencyTable } from "../../traces/latency-table.ts";
import { type ModelRequest, readModelTrace } from "../../traces/model-trace.ts";
import { readAzureTrace } from "../../traces/request-trace.ts";
import { readSpotSeries } from "../../traces/spot-series.ts";
import type { ChurnTraces, PopularityTrace, SpotSeries } from "./churn-traces.ts";

/** A folder of files, with paths relative to it and `/` between their parts. */
export interface TraceFolder {
  /** Names of the files straight in a folder; empty when there is none. */
  list(path: string): readonly string[];
  /** Throws when there is no such file. */
  read(path: string): Uint8Array;
}

const SPOT_FOLDERS = [
  "spot-traces/availability/1-node/aws-10-26-2022",
  "spot-traces/availability/1-node/aws-02-15-2023",
  "spot-traces/preemption/1-node/aws-04-19-2023",
  "spot-traces/preemption/1-node/aws-04-22-2023",
] as const;
const LENGTHS_FILE = "azure-llm-2023/AzureLLMInferenceTrace_conv.csv.gz";
const POPULARITY_FILE = "alibaba-genai-2026/lora_request_trace.csv.gz";
const REGIONS_FILE = "latency/ibm-vpc-rtt-ms-2026-08.json";
const ENDING = ".json.gz";
/** A trace file may not unpack to more: the largest of the known ones takes 3 MB. */
const UNPACKED_BYTES_MAX = 64 * 1024 * 1024;
const HOUR_MS = 3_600_000;

/** Throws `trace-unreadable` naming the file and what was wrong with it. */
export function readChurnTraces(folder: TraceFolder): ChurnTraces {
  const spot = SPOT_FOLDERS.flatMap((path) => readSpot(folder, path));
  if (spot.length === 0) throw unreadable(SPOT_FOLDERS[0], `no ${ENDING} series is there`);
  const { requests } = taken(LENGTHS_FILE, readAzureTrace(textOf(folder, LENGTHS_FILE)));
  const asked = taken(POPULARITY_FILE, readModelTrace(textOf(folder, POPULARITY_FILE)));
  const { regions, rttMs } = taken(REGIONS_FILE, readLatencyTable(textOf(folder, REGIONS_FILE)));
  const gapsMs = requests.slice(1).map(({ atSeconds }, at) => 1_000 * (atSeconds - (requests[at]?.atSeconds ?? 0)));
  return {
    spot,
    lengths: requests.map(({ promptTokens, outputTokens }) => ({ promptTokens, outputTokens })),
    gapsMs,
    popularity: popularityOf(asked.requests),
    regions: { names: regions, rttMs },
  };
}

function readSpot(folder: TraceFolder, path: string): readonly SpotSeries[] {
  const names = folder.list(path).filter((name) => name.endsWith(ENDING));
  return [...names].sort().map((file) => {
    const name = `${path.slice(path.lastIndexOf("/") + 1)}/${file.slice(0, -ENDING.length)}`;
    const series = taken(`${path}/${file}`, readSpotSeries(textOf(folder, `${path}/${file}`), { name }));
    return { name, gapMs: series.gapSeconds * 1_000, isUp: series.available.map((count) => count > 0) };
  });
}

function popularityOf(requests: readonly ModelRequest[]): PopularityTrace {
  const counts = new Map<string, number>();
  for (const { modelId } of requests) counts.set(modelId, (counts.get(modelId) ?? 0) + 1);
  const byCount = [...counts].sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1));
  const rankOf = new Map(byCount.map(([model], rank) => [model, rank]));
  const startMs = requests[0]?.atMs ?? 0;
  const endMs = requests.at(-1)?.atMs ?? startMs;
  const hours = Math.floor((endMs - startMs) / HOUR_MS) + 1;
  const countsByHour = Array.from({ length: hours }, () => byCount.map(() => 0));
  for (const { atMs, modelId } of requests) {
    const row = countsByHour[Math.floor((atMs - startMs) / HOUR_MS)];
    const rank = rankOf.get(modelId) ?? 0;
    if (row !== undefined) row[rank] = (row[rank] ?? 0) + 1;
  }
  return { countsByHour };
}

function textOf(folder: TraceFolder, file: string): string {
  try {
    const bytes = folder.read(file);
    const plain = file.endsWith(".gz") ? gunzipSync(bytes, { maxOutputLength: UNPACKED_BYTES_MAX }) : bytes;
    return new TextDecoder().decode(plain);
  } catch (cause) {
    throw unreadable(file, describeFault(cause));
  }
}

function taken<T>(file: string, outcome: Outcome<T, FileRefusal>): T {
  if (outcome.ok) return outcome.value;
  throw unreadable(file, outcome.reason.message);
}

function unreadable(file: string, why: string): FallowError {
  return new FallowError("trace-unreadable", `${file} cannot be read: ${why}`, { data: { file } });
}
