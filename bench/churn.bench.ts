/**
 * What churn costs each policy: ours, Petals' rules, ours without the survival forecast, and ours that plans anew each time, over
 * the same drawn grids. Spot churn replays measured series (the folder `shared` beside the checkout); owners are SYNTHETIC; speeds are
 * MODELLED. Seeds 11 and up: the weights of the simulated grid were chosen on seeds 1 and 2.
 */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import {
  CHURN_KINDS,
  CHURN_METRIC_INFO,
  CHURN_METRICS,
  CHURN_POLICIES,
  type ChurnDifference,
  type ChurnReport,
  type Interval,
} from "../src/sim/churn/churn-report.ts";
import { runChurn } from "../src/sim/churn/churn-run.ts";
import type { ChurnTraces } from "../src/sim/churn/scenario/churn-traces.ts";
import { readChurnTraces } from "../src/sim/churn/scenario/read-churn-traces.ts";
import { type Bar, openBench } from "./lib/bench-run.ts";

const FIRST_SEED = 11;
const bench = openBench("churn");
const traces = readTraces();
const kinds = CHURN_KINDS.filter((kind) => kind !== "spot" || traces !== null);
if (traces === null) bench.say("no ../shared/traces: spot churn is left out, and the load is synthetic");
const report = runChurn({
  seeds: Array.from({ length: bench.isSmoke ? 2 : 10 }, (_, at) => FIRST_SEED + at),
  policies: CHURN_POLICIES,
  kinds,
  hours: bench.isSmoke ? 0.5 : 8,
  nodes: bench.isSmoke ? 16 : 40,
  requestsPerHour: null,
  traces,
  onProgress: ({ done, of, run }) => {
    const { goodputTokPerSecond, sloAttainment } = run.metrics;
    bench.say(
      `${done}/${of} ${run.kind} seed ${run.seed} ${run.policy}: ${goodputTokPerSecond.toFixed(1)} tok/s, ${(100 * sloAttainment).toFixed(1)} % within bounds, ${(run.cpuMs / 1_000).toFixed(1)} CPU-s`,
    );
  },
});
for (const line of tableOf(report)) bench.say(line);
bench.keep({ bars: report.differences.map(barOf), measured: figuresOf(report) });

function readTraces(): ChurnTraces | null {
  const folder = fileURLToPath(new URL("../../shared/traces/", import.meta.url));
  if (!existsSync(folder)) return null;
  return readChurnTraces({
    list: (path) => (existsSync(join(folder, path)) ? readdirSync(join(folder, path)) : []),
    read: (path) => readFileSync(join(folder, path)),
  });
}

/** Ours must not be worse than what it is compared with. */
function barOf({ kind, against, metrics }: ChurnDifference): Bar {
  const { mean } = metrics.goodputTokPerSecond;
  return {
    name: `${kind}: goodput of ours above ${against}, tok/s`,
    value: rounded(mean),
    wanted: "at-least",
    limit: 0,
  };
}

function tableOf({ cells, differences }: ChurnReport): readonly string[] {
  const rows = CHURN_METRICS.flatMap((metric) =>
    kinds.map((kind) => {
      const of = cells.filter((cell) => cell.kind === kind);
      const shown = of.map(({ policy, metrics }) => `${policy} ${range(metrics[metric])}`);
      const found = differences
        .filter((one) => one.kind === kind)
        .map(({ against, verdicts }) => `${verdicts[metric]} than ${against}`);
      return `${kind} | ${CHURN_METRIC_INFO[metric].label} | ${shown.join(" | ")} | ours ${found.join(", ")}`;
    }),
  );
  return rows;
}

function range({ mean, low, high }: Interval): string {
  return `${rounded(mean)} [${rounded(low)}, ${rounded(high)}]`;
}

/** Without the curves over time, which are for plots. */
function figuresOf(report: ChurnReport) {
  return {
    ...report,
    runs: report.runs.map((run) => ({
      ...run,
      series: undefined,
      cpuMs: Math.round(run.cpuMs),
      planCpuMs: Math.round(run.planCpuMs),
    })),
  };
}

function rounded(value: number): number {
  return Number(value.toPrecision(4));
}
