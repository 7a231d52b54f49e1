/**
 * The published settings as runs of our serving simulator: the data, the cells of the calibration table, and the systems of the
 * comparison. Nothing here is tuned to a cell; the settings are the artefact's (serving-settings.ts).
 */
import { z } from "zod";
import { assert } from "../../src/domain/assert.ts";
import type { Cluster, Layout } from "../../src/domain/cluster.ts";
import {
  type ServingInput,
  type ServingOutcome,
  simulateServing,
  type TraceRequest,
} from "../../src/sim/serving/serving-run.ts";
import { quantile } from "../../src/sim/serving/tally.ts";
import { readRequestTrace } from "../../src/sim/traces/request-trace.ts";
import { parseClusterFile } from "../../src/wire/cluster-file.ts";
import {
  type Cell,
  ONLINE_TOKENS_PER_SECOND,
  pipelineSetup,
  SEPARATE,
  SWARM_OFFLINE_REQUESTS,
} from "./serving-settings.ts";
import { readShared } from "./shared-folder.ts";

export type Mode = "offline" | "online";
export type System = "helix" | "swarm" | "separate";
const SYSTEMS: readonly System[] = ["helix", "swarm", "separate"];
const MODES: readonly Mode[] = ["offline", "online"];
/** Warm-up and window of the published runs, seconds. */
export const WINDOWS = {
  offline: { warmupS: 60, durationS: 600 },
  online: { warmupS: 0, durationS: 1800 },
} as const;
const TRACE = "traces/azure-llm-2023/AzureLLMInferenceTrace_conv.csv.gz";

const figures = z.object({ helix: z.number(), swarm: z.number(), separate: z.number() });
const cellSchema = z.object({
  "70B": z.object({
    offline: figures,
    online: figures,
    promptP50: figures,
    promptP95: figures,
    decodeP50: figures,
    decodeP95: figures,
  }),
});
const publishedSchema = z.object({ single24: cellSchema, geo24: cellSchema });

export interface ServingData {
  readonly clusters: Readonly<Record<Cell, Cluster>>;
  readonly trace: readonly TraceRequest[];
  readonly published: z.infer<typeof publishedSchema>;
}

/** What both the table and the tests look at; seconds. */
export interface Served {
  readonly decodeTokensPerSecond: number;
  readonly promptP50S: number;
  readonly promptP95S: number;
  readonly decodeP50S: number;
  readonly decodeP95S: number;
}

export interface CalibrationCell {
  readonly system: System;
  readonly mode: Mode;
  readonly published: number;
  /** Of the online run; null offline. */
  readonly publishedLatencies: Omit<Served, "decodeTokensPerSecond"> | null;
  run(seed: string): Served;
}

export function openServingData(): ServingData {
  const clusterOf = (cell: Cell): Cluster => {
    const parsed = parseClusterFile(readShared(`helix/${cell}_70b.json`), { name: cell });
    assert(parsed.ok, `the setting ${cell} is a valid cluster file`);
    return parsed.value.cluster;
  };
  const trace = readRequestTrace(readShared(TRACE));
  assert(trace.ok, "the Azure trace is a valid trace");
  return {
    clusters: { single24: clusterOf("single24"), geo24: clusterOf("geo24") },
    trace: trace.value.requests,
    published: publishedSchema.parse(JSON.parse(readShared("helix/published.json"))),
  };
}

export function calibrationCells(data: ServingData, cell: Cell): readonly CalibrationCell[] {
  const published = data.published[cell]["70B"];
  return SYSTEMS.flatMap((system) =>
    MODES.map(
      (mode): CalibrationCell => ({
        system,
        mode,
        published: published[mode][system],
        publishedLatencies:
          mode === "offline"
            ? null
            : {
                promptP50S: published.promptP50[system],
                promptP95S: published.promptP95[system],
                decodeP50S: published.decodeP50[system],
                decodeP95S: published.decodeP95[system],
              },
        run: (seed) => servedOf(runsOf(data, cell, system, mode, seed)),
      }),
    ),
  );
}

/** A stored layout of the cell. */
export function storedLayout(data: ServingData, cell: Cell, name: string): Layout {
  const layout = data.clusters[cell].layouts.get(name);
  assert(layout !== undefined, `the setting ${cell} brings the layout ${name}`);
  return layout;
}

export function serve(input: ServingInput): ServingOutcome {
  const result = simulateServing(input);
  assert(result.ok, "the layout serves");
  return result.outcome;
}

/** One run, or one for each of the separate pipelines, whose tokens add up. */
export function servedOf(outcomes: readonly ServingOutcome[]): Served {
  const prompts = merged(outcomes.map(({ promptLatencySamplesS }) => promptLatencySamplesS));
  const decodes = merged(outcomes.map(({ decodeLatencySamplesS }) => decodeLatencySamplesS));
  return {
    decodeTokensPerSecond: outcomes.reduce((sum, outcome) => sum + outcome.decodeTokensPerSecond, 0),
    promptP50S: quantile(prompts, 0.5) ?? 0,
    promptP95S: quantile(prompts, 0.95) ?? 0,
    decodeP50S: quantile(decodes, 0.5) ?? 0,
    decodeP95S: quantile(decodes, 0.95) ?? 0,
  };
}

function runsOf(data: ServingData, cell: Cell, system: System, mode: Mode, seed: string): readonly ServingOutcome[] {
  const cluster = data.clusters[cell];
  const base = { cluster, trace: data.trace, mode, seed, ...WINDOWS[mode] };
  if (system === "separate") {
    return SEPARATE[cell].map((pipeline) =>
      serve({
        ...base,
        ...pipelineSetup(cluster, pipeline),
        router: "random",
        offlineRequests: pipeline.offlineRequests,
        arrivalTokensPerSecond: pipeline.onlineTokensPerSecond,
      }),
    );
  }
  const layout = storedLayout(data, cell, system === "helix" ? "ilp" : "swarm");
  const arrivalTokensPerSecond = ONLINE_TOKENS_PER_SECOND[cell][system];
  return [serve({ ...base, layout, router: system, offlineRequests: SWARM_OFFLINE_REQUESTS, arrivalTokensPerSecond })];
}

function merged(lists: readonly Float64Array[]): Float64Array {
  const all = new Float64Array(lists.reduce((sum, list) => sum + list.length, 0));
  let at = 0;
  for (const list of lists) {
    all.set(list, at);
    at += list.length;
  }
  return all.sort();
}
