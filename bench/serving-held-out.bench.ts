/**
 * Ours and the baselines on clusters that nothing was tuned on: drawn from frozen seeds, offline, 60 + 600 s. All baselines are our
 * implementations; Helix's solver has no layout for these, so its router runs on our layout.
 */
import { assert } from "../src/domain/assert.ts";
import type { Layout } from "../src/domain/cluster.ts";
import { parallaxLayout } from "../src/scheduler/layout/baselines/parallax.ts";
import { petalsLayout } from "../src/scheduler/layout/baselines/petals.ts";
import { swarmLayout } from "../src/scheduler/layout/baselines/swarm.ts";
import { planLayout } from "../src/scheduler/layout/plan-layout.ts";
import type { RouterName } from "../src/scheduler/routing/router.ts";
import { simulateServing } from "../src/sim/serving/serving-run.ts";
import { openBench } from "./lib/bench-run.ts";
import { heldOutCluster } from "./lib/held-out-clusters.ts";
import { openServingData, WINDOWS } from "./lib/serving-cells.ts";
import { hasShared } from "./lib/shared-folder.ts";

const CLUSTERS = 8;
const bench = openBench("serving-held-out");
if (!hasShared()) {
  bench.say("left out: ../shared/helix and ../shared/traces are not on this machine (docs/serving-simulator.md)");
  process.exit(0);
}
const data = openServingData();
const seeds = Array.from({ length: bench.isSmoke ? 1 : CLUSTERS }, (_, at) => at + 1);
const rows = seeds.map(measure);
const worst = Math.min(...rows.map(({ overBest }) => overBest));

bench.keep({
  bars: [{ name: "tokens/s over the best baseline's, worst cluster", value: worst, wanted: "at-least", limit: 1 }],
  measured: { rows },
});

function measure(seed: number) {
  const cluster = heldOutCluster(data.clusters.geo24, String(seed));
  const plan = planLayout({ cluster, seed });
  assert(plan.ok, `there is a plan for held-out cluster ${seed}`);
  /** 0 for a layout that covers no whole model. */
  const rateOf = (layout: Layout | null, router: RouterName, isPartialAllowed = false): number => {
    if (layout === null) return 0;
    const window = WINDOWS.offline;
    const run = {
      cluster,
      layout,
      router,
      trace: data.trace,
      mode: "offline",
      seed: String(seed),
      isPartialAllowed,
    } as const;
    const result = simulateServing({ ...run, ...window });
    return result.ok ? Number(result.outcome.decodeTokensPerSecond.toFixed(1)) : 0;
  };
  const rates = {
    ours: rateOf(plan.value.layout, "ours"),
    helixRouterOnOurs: rateOf(plan.value.layout, "helix"),
    swarm: rateOf(swarmLayout(cluster), "swarm"),
    petals: rateOf(petalsLayout(cluster), "petals", true),
    parallax: rateOf(parallaxLayout(cluster), "parallax"),
  };
  const regions = new Set(cluster.nodes.map(({ region }) => region)).size;
  const overBest = Number((rates.ours / Math.max(rates.swarm, rates.petals, rates.parallax)).toFixed(2));
  bench.say(
    `cluster ${seed}: ${cluster.nodes.length} nodes, ${regions} regions: ${JSON.stringify(rates)}, ${overBest}x the best baseline`,
  );
  return { seed, nodes: cluster.nodes.length, regions, ...rates, overBest };
}
