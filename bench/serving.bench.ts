/**
 * The serving simulator against published figures, then our layouts and router against the others in it.
 *
 * 1. Calibration: Helix's, Swarm's and separate pipelines' layouts with their own routers and the artefact's settings, mean of five
 *    seeds beside what the authors printed.
 * 2. Comparison: the same clusters, trace and windows; Petals and Parallax are our implementations of their rules. Online all
 *    systems get the load that the authors gave Helix. The rows "our layout, Helix's router" and the reverse tell what each brings.
 * 3. The same offline in a steady window (600 s + 1800 s): a run of 660 s measures how fast a system fills, in the paper as well.
 */
import { assert } from "../src/domain/assert.ts";
import type { Cluster, Layout } from "../src/domain/cluster.ts";
import { parallaxLayout } from "../src/scheduler/layout/baselines/parallax.ts";
import { petalsLayout } from "../src/scheduler/layout/baselines/petals.ts";
import { planLayout } from "../src/scheduler/layout/plan-layout.ts";
import type { RouterName } from "../src/scheduler/routing/router.ts";
import type { ServingInput } from "../src/sim/serving/serving-run.ts";
import { type Bar, openBench } from "./lib/bench-run.ts";
import {
  calibrationCells,
  type Mode,
  openServingData,
  type Served,
  serve,
  servedOf,
  storedLayout,
  WINDOWS,
} from "./lib/serving-cells.ts";
import { CELLS, type Cell, ONLINE_TOKENS_PER_SECOND } from "./lib/serving-settings.ts";
import { hasShared } from "./lib/shared-folder.ts";

const bench = openBench("serving");
if (!hasShared()) {
  bench.say(
    "left out: ../shared/helix and ../shared/traces are not on this machine (docs/serving-simulator.md names the sources)",
  );
  process.exit(0);
}
const data = openServingData();
const seeds = bench.isSmoke ? ["1"] : ["1", "2", "3", "4", "5"];
const cells: readonly Cell[] = bench.isSmoke ? ["geo24"] : CELLS;
const modes: readonly Mode[] = bench.isSmoke ? ["offline"] : ["offline", "online"];
const STEADY = { warmupS: 600, durationS: 1800 };
const CALIBRATION_SHARE_MAX = 0.05;
const PLANNING_CPU_S_MAX = 10;
const OFFLINE_RATIO_MIN = { geo24: 1.3, single24: 1.15 } as const;

interface Row extends Served {
  readonly name: string;
  /** Least and most of the seeds. */
  readonly least: number;
  readonly most: number;
}

const plans = planned();
const calibration = cells.flatMap(calibrate);
const comparison = cells.flatMap((cell) =>
  modes.map((mode) => ({ cell, mode, rows: compare(cell, mode, WINDOWS[mode]) })),
);
const steady = bench.isSmoke ? [] : cells.map((cell) => ({ cell, rows: compare(cell, "offline", STEADY) }));

bench.say(
  "\ncalibration: tokens/s ours (published), error; online latencies p50/p95 s, prompt and decode, ours (published)",
);
for (const row of calibration) bench.say(row.line);
for (const { cell, mode, rows } of comparison) sayRows(`${cell} ${mode}`, rows);
for (const { cell, rows } of steady) sayRows(`${cell} offline, steady window of 600 + 1800 s`, rows);
for (const cell of cells) bench.say(`planning ${cell}: ${plans[cell].cpuS.toFixed(2)} CPU-s at most`);

bench.keep({
  bars: [
    ...calibration.map(({ name, error }) =>
      atMost(`calibration of ${name}: error`, rounded(Math.abs(error), 3), CALIBRATION_SHARE_MAX),
    ),
    ...comparison.flatMap(({ cell, mode, rows }) => barsOf(cell, mode, rows)),
    ...cells.map((cell) => atMost(`CPU-seconds of planning ${cell}`, rounded(plans[cell].cpuS, 2), PLANNING_CPU_S_MAX)),
  ],
  measured: {
    seeds: seeds.length,
    calibration: calibration.map(({ line: _line, ...rest }) => rest),
    comparison,
    steady,
  },
});

/** Our plan for each seed; the planner's seed is the run's. */
function planned() {
  const planOf = (cell: Cell) => {
    const layouts = new Map<string, Layout>();
    let cpuS = 0;
    for (const seed of seeds) {
      const before = process.cpuUsage();
      const plan = planLayout({ cluster: data.clusters[cell], seed: Number(seed) });
      const used = process.cpuUsage(before);
      assert(plan.ok, `there is a plan for ${cell}`);
      layouts.set(seed, plan.value.layout);
      cpuS = Math.max(cpuS, (used.user + used.system) / 1e6);
    }
    return { layouts, cpuS };
  };
  return { single24: planOf("single24"), geo24: planOf("geo24") } as const;
}

function calibrate(cell: Cell) {
  return calibrationCells(data, cell)
    .filter(({ mode }) => modes.includes(mode))
    .map(({ system, mode, published, publishedLatencies, run }) => {
      const row = rowOf(`${cell} ${mode} ${system}`, seeds.map(run));
      const error = row.decodeTokensPerSecond / published - 1;
      const latencies = publishedLatencies === null ? "" : `  ${latenciesOf(row)} (${latenciesOf(publishedLatencies)})`;
      const rates = `${row.decodeTokensPerSecond.toFixed(1)} [${row.least.toFixed(1)}-${row.most.toFixed(1)}] (${published})`;
      const line = `${row.name.padEnd(26)} ${rates} ${(100 * error).toFixed(1)} %${latencies}`;
      return { ...row, published, publishedLatencies, error, line };
    });
}

function compare(cell: Cell, mode: Mode, window: { readonly warmupS: number; readonly durationS: number }): Row[] {
  const cluster = data.clusters[cell];
  const ilp = storedLayout(data, cell, "ilp");
  const ours = (seed: string): Layout => plans[cell].layouts.get(seed) ?? ilp;
  const systems: [string, (seed: string) => Layout, RouterName, Partial<ServingInput>?][] = [
    ["ours", ours, "ours"],
    ["Helix", () => ilp, "helix"],
    ["our layout, Helix's router", ours, "helix"],
    ["Helix's layout, our router", () => ilp, "ours"],
    ["Swarm", () => storedLayout(data, cell, "swarm"), "swarm"],
    ["Petals (ours by its rules)", () => petalsLayout(cluster), "petals", { isPartialAllowed: true }],
    ["Parallax (ours by its rules)", () => parallaxLayout(cluster), "parallax"],
  ];
  return systems.map(([name, layoutOf, router, more]) =>
    rowOf(
      name,
      seeds.map((seed) =>
        servedOf([serve({ ...baseOf(cluster, cell), mode, seed, ...window, layout: layoutOf(seed), router, ...more })]),
      ),
    ),
  );
}

function baseOf(cluster: Cluster, cell: Cell) {
  return { cluster, trace: data.trace, arrivalTokensPerSecond: ONLINE_TOKENS_PER_SECOND[cell].helix };
}

function rowOf(name: string, runs: readonly Served[]): Row {
  const mean = (of: (run: Served) => number): number => runs.reduce((sum, run) => sum + of(run), 0) / runs.length;
  const rates = runs.map(({ decodeTokensPerSecond }) => decodeTokensPerSecond);
  return {
    name,
    decodeTokensPerSecond: rounded(
      mean((run) => run.decodeTokensPerSecond),
      2,
    ),
    least: rounded(Math.min(...rates), 2),
    most: rounded(Math.max(...rates), 2),
    promptP50S: rounded(
      mean((run) => run.promptP50S),
      3,
    ),
    promptP95S: rounded(
      mean((run) => run.promptP95S),
      3,
    ),
    decodeP50S: rounded(
      mean((run) => run.decodeP50S),
      3,
    ),
    decodeP95S: rounded(
      mean((run) => run.decodeP95S),
      3,
    ),
  };
}

/** The bars: 1.3x and 1.15x Helix offline, latencies no worse online. */
function barsOf(cell: Cell, mode: Mode, rows: readonly Row[]): readonly Bar[] {
  const of = (name: string): Row => {
    const row = rows.find((each) => each.name === name);
    assert(row !== undefined, `the comparison has a row ${name}`);
    return row;
  };
  const [ours, helix] = [of("ours"), of("Helix")];
  const ratio = (part: number, whole: number): number => rounded(part / whole, 3);
  if (mode === "offline") {
    const value = ratio(ours.decodeTokensPerSecond, helix.decodeTokensPerSecond);
    return [
      { name: `${cell} offline: tokens/s over Helix's`, value, wanted: "at-least", limit: OFFLINE_RATIO_MIN[cell] },
    ];
  }
  return [
    atMost(`${cell} online: prompt p95 over Helix's`, ratio(ours.promptP95S, helix.promptP95S), 1),
    atMost(`${cell} online: decode p95 over Helix's`, ratio(ours.decodeP95S, helix.decodeP95S), 1),
  ];
}

function atMost(name: string, value: number, limit: number): Bar {
  return { name, value, wanted: "at-most", limit };
}

function sayRows(title: string, rows: readonly Row[]): void {
  const helix = rows.find(({ name }) => name === "Helix")?.decodeTokensPerSecond ?? 0;
  bench.say(`\n${title}: tokens/s [least-most], over Helix's; latencies p50/p95 s, prompt and decode`);
  for (const row of rows) {
    const rates = `${row.decodeTokensPerSecond.toFixed(1)} [${row.least.toFixed(1)}-${row.most.toFixed(1)}]`;
    const times = (row.decodeTokensPerSecond / helix).toFixed(2);
    bench.say(`${row.name.padEnd(30)} ${rates.padEnd(24)} ${times}x  ${latenciesOf(row)}`);
  }
}

function latenciesOf(of: Omit<Served, "decodeTokensPerSecond">): string {
  return `${of.promptP50S.toFixed(2)}/${of.promptP95S.toFixed(2)}, ${of.decodeP50S.toFixed(2)}/${of.decodeP95S.toFixed(2)}`;
}

function rounded(value: number, digits: number): number {
  return Number(value.toFixed(digits));
}
