import { describe, expect, test } from "vitest";
import { randomCluster } from "../bench/lib/random-cluster.ts";
import { tinyInstance } from "../bench/lib/tiny-instances.ts";
import type { Cluster, ClusterNode } from "../src/domain/cluster.ts";
import { parallaxLayout } from "../src/scheduler/layout/baselines/parallax.ts";
import { petalsLayout } from "../src/scheduler/layout/baselines/petals.ts";
import { separateLayout } from "../src/scheduler/layout/baselines/separate.ts";
import { swarmLayout } from "../src/scheduler/layout/baselines/swarm.ts";
import { evaluateFlow, throughputUpperBound } from "../src/scheduler/layout/flow.ts";
import { type LayoutPlan, type PlanRequest, planLayout } from "../src/scheduler/layout/plan-layout.ts";
import { repairLayout } from "../src/scheduler/layout/repair-layout.ts";
import { parseClusterFile } from "../src/wire/cluster-file.ts";
import { expectOptimum, OBJECTIVES } from "./support/layout-optimum.ts";
import { findSharedData, readShared } from "./support/shared-data.ts";

/** Enough for a sound plan of a few nodes; the bench plans with the full budget. */
const QUICK = 6_000;
/** test/soak/layout-optimum.soak.test.ts goes on to 200. */
const INSTANCES = 60;
const BRUTE_FORCE_MS_MAX = 240_000;

function planned(request: PlanRequest): LayoutPlan {
  const plan = planLayout({ evaluationsMax: QUICK, ...request });
  if (!plan.ok) throw new Error(plan.reason.message);
  return plan.value;
}

/** A cluster of drawn machines whose nodes carry what the rules look at. */
function drawnCluster(seed: number): Cluster {
  const machines = tinyInstance(3).nodes.map(({ machine }) => ({ ...machine, name: `big-${machine.name}` }));
  const cluster = randomCluster({ machines, seed, nodesMin: 12, nodesMax: 12, regionsMax: 3 });
  return { ...cluster, model: { ...cluster.model, layerCount: 6, layerBytes: 1e9 } };
}

function withNodes(cluster: Cluster, change: (node: ClusterNode, at: number) => Partial<ClusterNode>): Cluster {
  return { ...cluster, nodes: cluster.nodes.map((node, at) => ({ ...node, ...change(node, at) })) };
}

describe("against every layout there is", () => {
  test.each(OBJECTIVES)(
    `the plan for %s equals the best of all layouts on ${INSTANCES} drawn instances`,
    (objective) => expectOptimum(objective, { from: 0, to: INSTANCES }),
    BRUTE_FORCE_MS_MAX,
  );
});

describe("laws of every plan", () => {
  test.each([1, 2, 3, 4, 5, 6])("no node holds more than it may, and the flow is under the bound (seed %i)", (seed) => {
    const cluster = drawnCluster(seed);
    const plan = planned({ cluster, seed });
    for (const [id, { first, end }] of plan.layout) {
      const node = cluster.nodes.find((one) => one.id === id);
      expect(end - first).toBeGreaterThan(0);
      expect(end - first).toBeLessThanOrEqual(node?.layersMax ?? 0);
      expect(first).toBeGreaterThanOrEqual(0);
      expect(end).toBeLessThanOrEqual(cluster.model.layerCount);
    }
    expect(plan.flow.tokensPerSecond).toBeGreaterThan(0);
    expect(plan.flow.tokensPerSecond).toBeLessThanOrEqual(plan.upperBoundTokensPerSecond * (1 + 1e-9));
    expect(plan.mostFlow.tokensPerSecond).toBeLessThanOrEqual(plan.upperBoundTokensPerSecond * (1 + 1e-9));
    expect(plan.flow.tokensPerSecond).toBeLessThanOrEqual(plan.mostFlow.tokensPerSecond * (1 + 1e-9));
  });

  test("the same seed gives the same plan", () => {
    const cluster = drawnCluster(7);
    expect([...planned({ cluster, seed: 4 }).layout]).toEqual([...planned({ cluster, seed: 4 }).layout]);
  });

  test("neither the names of nodes nor their order in the file change the score", () => {
    const cluster = drawnCluster(8);
    const renamed = new Map(cluster.nodes.map(({ id }, at) => [id, `x${(at * 7) % cluster.nodes.length}`]));
    const nameOf = (id: string): string => renamed.get(id) ?? id;
    const other: Cluster = {
      ...cluster,
      nodes: cluster.nodes.map((node) => ({ ...node, id: nameOf(node.id) })).toReversed(),
      links: cluster.links.map((link) => ({ ...link, from: nameOf(link.from), to: nameOf(link.to) })).toReversed(),
    };
    const [a, b] = [planned({ cluster, seed: 1 }), planned({ cluster: other, seed: 1 })];
    expect(b.parts.score).toBeCloseTo(a.parts.score, 6);
    expect(b.flow.tokensPerSecond).toBeCloseTo(a.flow.tokensPerSecond, 6);
  });
});

describe("rules are never weighed", () => {
  test("nodes outside the allowed regions, below the trust floor or above the price cap hold nothing, and are counted", () => {
    const cluster = withNodes(drawnCluster(9), (_, at) => ({
      region: at % 4 === 0 ? "far" : "near",
      trust: at === 1 ? 0.2 : 1,
      priceMicroUsdPerHour: at === 2 ? 9_000_000 : 1_000,
    }));
    const rules = { regionsAllowed: ["near"], trustMin: 0.5, priceMicroUsdPerHourMax: 1_000_000 };
    const plan = planned({ cluster, rules });
    for (const id of plan.layout.keys()) {
      const node = cluster.nodes.find((one) => one.id === id);
      expect(node?.region).toBe("near");
      expect(node?.trust).toBe(1);
      expect(node?.priceMicroUsdPerHour).toBe(1_000);
    }
    expect(Object.fromEntries(plan.explanation.refusedByConstraint)).toEqual({ region: 3, trust: 1, price: 1 });
    expect(plan.explanation.refusedNodes[0]?.lacks).toContain("allowed: near");
  });

  test("a limit on hops is kept or the plan refused", () => {
    const cluster = drawnCluster(10);
    const least = Math.ceil(cluster.model.layerCount / Math.max(...cluster.nodes.map(({ layersMax }) => layersMax)));
    const plan = planned({ cluster, rules: { hopsMax: least + 1 } });
    expect(plan.parts.serving.hopsMean).toBeLessThanOrEqual(least + 1);
    const refused = planLayout({ cluster, rules: { hopsMax: least - 1 }, evaluationsMax: QUICK });
    expect(refused.ok).toBe(false);
    if (!refused.ok) expect(refused.reason.message).toContain("hops");
  });

  test("replicas of a stage have no owner in common when that is asked", () => {
    const cluster = withNodes(drawnCluster(11), (_, at) => ({ owner: `owner-${at % 3}` }));
    const plan = planned({ cluster, rules: { isSharedDomainForbidden: true } });
    const owners = new Map<string, string[]>();
    for (const [id, { first, end }] of plan.layout) {
      const owner = cluster.nodes.find((node) => node.id === id)?.owner ?? "";
      owners.set(`${first}-${end}`, [...(owners.get(`${first}-${end}`) ?? []), owner]);
    }
    for (const stage of owners.values()) expect(new Set(stage).size).toBe(stage.length);
  });

  test("nodes that leave within the hour are avoided when steady ones serve as well", () => {
    const cluster = withNodes(drawnCluster(12), (_, at) => ({ survivalPerHour: at < 6 ? 0.3 : 1 }));
    const steady = planned({ cluster, goals: { lossAversion: 1 } });
    const careless = planned({ cluster, goals: { lossAversion: 0 } });
    // To rounding: where both use steady nodes only, both are sure to stay.
    expect(steady.parts.survival).toBeGreaterThan(careless.parts.survival - 1e-9);
    // With one leaving node as the only holder of a layer it would be 0.3.
    expect(steady.parts.survival).toBeGreaterThan(0.99);
  });

  test("an empty cluster and a model that fits nowhere are answered with the reason", () => {
    const cluster = drawnCluster(13);
    const empty = planLayout({ cluster: { ...cluster, nodes: [], links: [] } });
    expect(empty).toMatchObject({
      ok: false,
      reason: { code: "no-capable-node", message: "the cluster has no nodes" },
    });
    const huge = planLayout({ cluster: { ...cluster, model: { ...cluster.model, layerCount: 500 } } });
    expect(huge.ok).toBe(false);
    if (!huge.ok)
      expect(huge.reason.message).toMatch(/the model has 500 layers and all 12 usable nodes together hold at most \d+/);
    const cut = planLayout({
      cluster: { ...cluster, links: cluster.links.filter(({ to }) => to !== "sink") },
      evaluationsMax: QUICK,
    });
    expect(cut.ok).toBe(false);
    if (!cut.ok) expect(cut.reason.message).toContain("0 can reach it");
  });
});

test("after any loss survivors keep what they hold unless nothing else serves, and what moved is told in bytes", () => {
  for (const seed of [14, 15, 16]) {
    const cluster = drawnCluster(seed);
    const { layout } = planned({ cluster, seed });
    for (const lost of layout.keys()) {
      const repaired = repairLayout({ layout, lostNodes: [lost], cluster });
      expect(repaired.layout.has(lost)).toBe(false);
      const moved = repaired.moved.reduce((sum, { layers }) => sum + layers, 0);
      expect(repaired.movedBytes).toBe(moved * cluster.model.layerBytes);
      if (repaired.how === "survivors" || repaired.how === "idle-nodes") {
        for (const [id, interval] of layout) if (id !== lost) expect(repaired.layout.get(id)).toEqual(interval);
      }
      const lostInterval = layout.get(lost);
      const lostLayers = lostInterval === undefined ? 0 : lostInterval.end - lostInterval.first;
      if (repaired.isServing && repaired.how !== "shifted-chain") expect(moved).toBeLessThanOrEqual(lostLayers);
      if (repaired.isServing) expect(evaluateFlow(cluster, repaired.layout).tokensPerSecond).toBeGreaterThan(0);
    }
  }
});

describe.skipIf(findSharedData() === null)("on the published settings", () => {
  const setting = (name: string): Cluster => {
    const file = parseClusterFile(readShared(`helix/${name}.json`), { name });
    if (!file.ok) throw new Error(file.reason.message);
    return file.value.cluster;
  };
  const stored = (cluster: Cluster, name: string) => cluster.layouts.get(name) ?? new Map();

  test("the flow of the stored layouts is the published one to 0.1 %", () => {
    for (const [name, published] of [
      ["single24_70b", 1289.56],
      ["geo24_70b", 1212.18],
      ["abl10_30b", 286.587],
    ] as const) {
      const cluster = setting(name);
      const flow = evaluateFlow(cluster, stored(cluster, "ilp")).tokensPerSecond;
      expect(Math.abs(flow / published - 1)).toBeLessThan(1e-3);
      expect(throughputUpperBound(cluster)).toBeGreaterThan(flow);
    }
  });

  test("the ten-node case is solved to its proven optimum", () => {
    const plan = planned({ cluster: setting("abl10_30b") });
    expect(plan.mostFlow.tokensPerSecond).toBeCloseTo(286.587, 2);
    expect(planned({ cluster: setting("abl10_30b"), goals: { objective: "flow" } }).flow.tokensPerSecond).toBeCloseTo(
      286.587,
      2,
    );
  });

  test("planned by flow alone, both 24-node settings flow more than the published layouts", () => {
    for (const [name, floor] of [
      ["single24_70b", 1754],
      ["geo24_70b", 1475],
    ] as const) {
      const plan = planned({ cluster: setting(name), goals: { objective: "flow" }, evaluationsMax: 60_000 });
      expect(plan.flow.tokensPerSecond).toBeGreaterThanOrEqual(floor);
    }
  });

  test("our versions of the baselines flow as the stored layouts of the same rules do", () => {
    const cluster = setting("single24_70b");
    const isPartialAllowed = true;
    const flowOf = (layout: Parameters<typeof evaluateFlow>[1]) =>
      evaluateFlow(cluster, layout, { isPartialAllowed }).tokensPerSecond;
    expect(flowOf(petalsLayout(cluster))).toBeCloseTo(flowOf(stored(cluster, "petals")), 1);
    expect(flowOf(swarmLayout(cluster) ?? new Map())).toBeCloseTo(flowOf(stored(cluster, "swarm")), 1);
    expect(flowOf(parallaxLayout(cluster))).toBeGreaterThan(0);
    const separate = separateLayout(cluster);
    expect(separate.pipelines.map((ids) => ids.length).sort()).toEqual([4, 8]);
    expect(separate.leftOut).toEqual(["T4"]);
  });

  test("losing any node of a plan is repaired, moving no more layers than were lost", () => {
    const cluster = setting("geo24_70b");
    const { layout } = planned({ cluster });
    for (const [lost, { first, end }] of layout) {
      const repaired = repairLayout({ layout, lostNodes: [lost], cluster });
      expect(repaired.isServing).toBe(true);
      if (repaired.how !== "shifted-chain") {
        expect(repaired.moved.reduce((sum, { layers }) => sum + layers, 0)).toBeLessThanOrEqual(end - first);
      }
    }
  });
});
