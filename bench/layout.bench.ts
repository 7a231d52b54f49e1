/**
 * The layout planner: how fast it looks at layouts and plans, how fast it repairs, how near its search comes to the best of all
 * layouts where these can be tried, and whether its score ranks layouts as the serving simulator does on clusters that nothing was
 * tuned on (frozen seeds; machines and trace of the shared data).
 */
import { assert } from "../src/domain/assert.ts";
import type { Cluster, Layout } from "../src/domain/cluster.ts";
import { inCanonicalOrder } from "../src/scheduler/layout/canonical-order.ts";
import { clusterTables } from "../src/scheduler/layout/cluster-tables.ts";
import { layoutOf } from "../src/scheduler/layout/draft.ts";
import { forEachLayout } from "../src/scheduler/layout/enumerate-layouts.ts";
import { denseIntervals, FlowNetwork } from "../src/scheduler/layout/flow.ts";
import { LayoutScore } from "../src/scheduler/layout/layout-score.ts";
import { DEFAULT_GOALS, DEFAULT_RULES, type PlanGoals } from "../src/scheduler/layout/plan-goals.ts";
import { planLayout } from "../src/scheduler/layout/plan-layout.ts";
import { constructions } from "../src/scheduler/layout/portfolio.ts";
import { regionGroupings } from "../src/scheduler/layout/regions.ts";
import { repairLayout } from "../src/scheduler/layout/repair-layout.ts";
import { SearchRandom } from "../src/scheduler/layout/search-random.ts";
import { simulateServing } from "../src/sim/serving/serving-run.ts";
import { type Bar, openBench } from "./lib/bench-run.ts";
import { randomCluster } from "./lib/random-cluster.ts";
import { openServingData } from "./lib/serving-cells.ts";
import { hasShared } from "./lib/shared-folder.ts";
import { tinyInstance } from "./lib/tiny-instances.ts";

const bench = openBench("layout");
if (!hasShared()) {
  bench.say("left out: ../shared/helix and ../shared/traces are not on this machine (docs/planner.md)");
  process.exit(0);
}
const data = openServingData();
const PLAN_SEEDS = bench.isSmoke ? [1] : [1, 2, 3, 4, 5];
const TINY = bench.isSmoke ? 20 : 200;
/** Far under the default, so that the search and not the trying of all layouts is measured. */
const TINY_EVALUATIONS = 1_200;
/** Seeds 1 to 6 were looked at while the score was made; these were not. */
const HELD_OUT = bench.isSmoke ? [101] : [101, 102, 103, 104, 105, 106, 107, 108, 109, 110];
const CANDIDATES = 12;
const FLOW_LOOKS = 20_000;

const speed = { single24: speedOf(data.clusters.single24), geo24: speedOf(data.clusters.geo24) };
const tiny = (["flow", "latency", "throughput"] as const).map(tinyGaps);
const ranking = HELD_OUT.map(rankOn);
const mean = (of: (row: (typeof ranking)[number]) => number): number =>
  ranking.reduce((sum, row) => sum + of(row), 0) / ranking.length;
const overall = {
  tau: mean(({ tau }) => tau),
  regret: mean(({ regret }) => regret),
  logError: mean((row) => row.logError),
};
for (const row of ranking) bench.say(JSON.stringify(row));
bench.say(
  `ranking: tau ${overall.tau.toFixed(2)}, regret ${(100 * overall.regret).toFixed(1)} %, error ${overall.logError.toFixed(2)}`,
);

bench.keep({
  bars: [
    bar("CPU-seconds of a plan, worst", Math.max(speed.single24.planCpuS, speed.geo24.planCpuS), 10),
    bar("CPU-ms of a repair, worst", Math.max(speed.single24.repairCpuMs, speed.geo24.repairCpuMs), 50),
    bar("regret of the score's choice on clusters nothing was tuned on, mean share", overall.regret, 0.1),
  ],
  measured: { speed, tiny, ranking, overall },
});

function bar(name: string, value: number, limit: number): Bar {
  return { name, value: Math.round(value * 1000) / 1000, wanted: "at-most", limit };
}

function cpuS(work: () => void): number {
  const before = process.cpuUsage();
  work();
  const used = process.cpuUsage(before);
  return (used.user + used.system) / 1e6;
}

function speedOf(cluster: Cluster) {
  let planCpuS = 0;
  let repairCpuMs = 0;
  let evaluations = 0;
  for (const seed of PLAN_SEEDS) {
    let plan = planLayout({ cluster, seed, evaluationsMax: 1 });
    planCpuS = Math.max(
      planCpuS,
      cpuS(() => (plan = planLayout({ cluster, seed }))),
    );
    assert(plan.ok, `there is a plan for ${cluster.name}`);
    const { layout } = plan.value;
    evaluations = plan.value.evaluations;
    for (const lost of layout.keys()) {
      repairCpuMs = Math.max(repairCpuMs, 1000 * cpuS(() => repairLayout({ layout, lostNodes: [lost], cluster })));
    }
  }
  const network = new FlowNetwork(clusterTables(cluster));
  const draft = denseIntervals(network.tables, cluster.layouts.get("ilp") ?? new Map());
  const flowCpuS = cpuS(() => {
    for (let look = 0; look < FLOW_LOOKS; look++) network.solve(draft);
  });
  const flowsPerCpuS = Math.round(FLOW_LOOKS / flowCpuS);
  bench.say(
    `${cluster.name}: plan ${planCpuS.toFixed(2)} CPU-s for ${evaluations} layouts, repair ${repairCpuMs.toFixed(1)} CPU-ms, ${flowsPerCpuS} flows per CPU-s`,
  );
  return { planCpuS, repairCpuMs, evaluations, flowsPerCpuS };
}

/** Shares of drawn instances on which the search alone finds the best, and its worst gap. */
function tinyGaps(objective: PlanGoals["objective"]) {
  const gaps: number[] = [];
  for (let seed = 0; seed < TINY; seed++) {
    const cluster = inCanonicalOrder(tinyInstance(seed));
    const plan = planLayout({ cluster, goals: { objective }, evaluationsMax: TINY_EVALUATIONS });
    if (!plan.ok) continue;
    const tables = clusterTables(cluster);
    const score = new LayoutScore(tables, { ...DEFAULT_GOALS, objective }, DEFAULT_RULES);
    score.model.calibration = plan.value.calibration;
    let best = Number.NEGATIVE_INFINITY;
    forEachLayout(tables, (draft) => {
      best = Math.max(best, score.scoreIfAtLeast(draft, Math.max(best, -1e12)) ?? best);
    });
    gaps.push((best - score.score(denseIntervals(tables, plan.value.layout))) / Math.abs(best));
  }
  const shareWithin = (most: number): number => gaps.filter((gap) => gap <= most).length / gaps.length;
  const row = {
    objective,
    planned: gaps.length,
    exact: shareWithin(1e-3),
    within5Percent: shareWithin(0.05),
    worst: Math.max(...gaps),
  };
  bench.say(JSON.stringify(row));
  return row;
}

/** Layouts of all qualities, scored and simulated. */
function rankOn(seed: number) {
  const machines = [...new Map(data.clusters.geo24.nodes.map(({ machine }) => [machine.name, machine])).values()];
  const cluster = randomCluster({ machines, seed });
  const tables = clusterTables(cluster);
  const score = new LayoutScore(tables, DEFAULT_GOALS, DEFAULT_RULES);
  const layouts: Layout[] = (["throughput", "flow", "latency"] as const).flatMap((objective) => {
    const plan = planLayout({ cluster, seed, goals: { objective } });
    return plan.ok ? [plan.value.layout] : [];
  });
  const random = new SearchRandom(seed);
  const found = constructions(score, {
    groupings: regionGroupings(tables),
    random,
    previous: null,
    evaluations: 4_000,
  });
  const step = Math.max(1, Math.floor(found.length / CANDIDATES));
  for (let at = 0; at < found.length; at += step) {
    const candidate = found[at];
    if (candidate !== undefined) layouts.push(layoutOf(tables, candidate.draft));
  }
  const [planned] = layouts;
  if (planned !== undefined) score.model.calibrate(denseIntervals(tables, planned));
  const rows = layouts.flatMap((layout) => {
    const run = simulateServing({
      cluster,
      layout,
      router: "ours",
      trace: data.trace,
      mode: "offline",
      warmupS: 60,
      durationS: 360,
      seed: "1",
    });
    const estimate = score.score(denseIntervals(tables, layout));
    return run.ok && estimate > 0 ? [{ estimate, simulated: run.outcome.decodeTokensPerSecond }] : [];
  });
  const best = Math.max(...rows.map(({ simulated }) => simulated));
  const chosen = rows.reduce((top, row) => (row.estimate > top.estimate ? row : top));
  const logError = rows.reduce((sum, row) => sum + Math.abs(Math.log(row.estimate / row.simulated)), 0) / rows.length;
  const size = {
    nodes: cluster.nodes.length,
    layers: cluster.model.layerCount,
    regions: regionGroupings(tables).at(-1)?.count ?? 1,
  };
  return {
    seed,
    ...size,
    layouts: rows.length,
    tau: kendallTau(rows),
    regret: 1 - chosen.simulated / best,
    logError,
    best,
  };
}

function kendallTau(rows: readonly { estimate: number; simulated: number }[]): number {
  let sum = 0;
  let pairs = 0;
  for (const [at, a] of rows.entries()) {
    for (const b of rows.slice(at + 1)) {
      const sign = Math.sign(a.estimate - b.estimate) * Math.sign(a.simulated - b.simulated);
      sum += sign;
      if (sign !== 0) pairs += 1;
    }
  }
  return pairs === 0 ? 0 : sum / pairs;
}
