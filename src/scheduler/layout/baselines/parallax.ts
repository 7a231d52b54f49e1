/**
 * Parallax's placement (arXiv 2509.26182), our own implementation from the paper, as a baseline. Phase 1 chooses how many pipelines
 * k to build: the k with the largest k^2 / s*(k), where s*(k) is the least number of stages that k whole pipelines take in all.
 * Pipelines stay inside a region where one can hold the model; regions that cannot are taken together. Inside a pipeline layers are
 * shared out by water-filling: in proportion to speed, none above what a node holds. Nodes that are left replicate the layers that
 * are served worst.
 *
 * Where the paper finds s*(k) by dynamic programming over sorted capacities, this takes the largest node for the pipeline that
 * lacks most, which gives the same s* whenever like machines come in multiples, and at worst a few stages more.
 */
import type { Cluster, Layout } from "../../../domain/cluster.ts";
import { type ClusterTables, clusterTables } from "../cluster-tables.ts";
import { joinWeakest, layerRates } from "../construct-weakest-window.ts";
import { type Draft, emptyDraft, heldBy, layoutOf } from "../draft.ts";
import { regionGroupings } from "../regions.ts";

const NO_PIPELINES: readonly (readonly number[])[] = [];

export function parallaxLayout(cluster: Cluster): Layout {
  const tables = clusterTables(cluster);
  const draft = emptyDraft(tables.nodeCount);
  for (const pool of pools(tables)) {
    for (const pipeline of choosePipelines(tables, pool)) waterFill(tables, draft, pipeline);
  }
  const rates = layerRates(tables, draft);
  for (let node = 0; node < tables.nodeCount; node++) {
    const held = tables.layersMax[node] ?? 0;
    if (heldBy(draft, node) === 0 && held > 0) joinWeakest(tables, draft, { node, held, rates });
  }
  return layoutOf(tables, draft);
}

/** Regions that can hold the model each for itself, and all others as one. */
function pools(tables: ClusterTables): number[][] {
  const grouping = regionGroupings(tables).at(-1);
  if (grouping === undefined) return [];
  const regions: number[][] = Array.from({ length: grouping.count }, () => []);
  for (const [node, region] of grouping.regionOf.entries()) regions[region]?.push(node);
  const holds = (nodes: readonly number[]): boolean =>
    nodes.reduce((sum, node) => sum + (tables.layersMax[node] ?? 0), 0) >= tables.layerCount;
  const own = regions.filter(holds);
  const rest = regions.filter((nodes) => !holds(nodes)).flat();
  return holds(rest) ? [...own, rest] : own;
}

/** The pipelines of the k with the best k^2 / s*(k). */
function choosePipelines(tables: ClusterTables, pool: readonly number[]): readonly (readonly number[])[] {
  const largestFirst = [...pool].sort((a, b) => (tables.layersMax[b] ?? 0) - (tables.layersMax[a] ?? 0) || a - b);
  let best = { value: 0, pipelines: NO_PIPELINES };
  for (let k = 1; k <= pool.length; k++) {
    const pipelines = build(tables, largestFirst, k);
    if (pipelines === null) break;
    const stages = pipelines.reduce((sum, pipeline) => sum + pipeline.length, 0);
    const value = (k * k) / stages;
    if (value > best.value) best = { value, pipelines };
  }
  return best.pipelines;
}

function build(tables: ClusterTables, largestFirst: readonly number[], k: number): number[][] | null {
  const pipelines: number[][] = Array.from({ length: k }, () => []);
  const lacks = new Array<number>(k).fill(tables.layerCount);
  for (const node of largestFirst) {
    const most = Math.max(...lacks);
    if (most <= 0) break;
    const at = lacks.indexOf(most);
    pipelines[at]?.push(node);
    lacks[at] = most - (tables.layersMax[node] ?? 0);
  }
  return Math.max(...lacks) <= 0 ? pipelines : null;
}

/** Shares in proportion to a node's speed at one layer, capped, rounded by the largest remainder. */
function waterFill(tables: ClusterTables, draft: Draft, pipeline: readonly number[]): void {
  const speed = pipeline.map((node) => 1 / Math.max(Number.MIN_VALUE, tables.layerSeconds[node] ?? 1));
  const cap = pipeline.map((node) => tables.layersMax[node] ?? 0);
  const level = waterLevel(speed, cap, tables.layerCount);
  const exact = speed.map((own, at) => Math.min(cap[at] ?? 0, level * own));
  const sizes = exact.map((size) => Math.floor(size + 1e-9));
  const byRemainder = [...pipeline.keys()].sort((a, b) => remainder(exact, b) - remainder(exact, a) || a - b);
  let missing = tables.layerCount - sizes.reduce((sum, size) => sum + size, 0);
  for (let turn = 0; missing > 0 && turn < 2 * pipeline.length; turn++) {
    const at = byRemainder[turn % pipeline.length] ?? 0;
    if ((sizes[at] ?? 0) >= (cap[at] ?? 0)) continue;
    sizes[at] = (sizes[at] ?? 0) + 1;
    missing -= 1;
  }
  let first = 0;
  for (const [at, node] of pipeline.entries()) {
    draft.first[node] = first;
    first += sizes[at] ?? 0;
    draft.end[node] = first;
  }
}

function remainder(exact: readonly number[], at: number): number {
  const size = exact[at] ?? 0;
  return size - Math.floor(size + 1e-9);
}

/** The level at which capped shares add up to the layers, by halving. */
function waterLevel(speed: readonly number[], cap: readonly number[], layers: number): number {
  let low = 0;
  let high = layers / Math.min(...speed);
  for (let turn = 0; turn < 60; turn++) {
    const level = (low + high) / 2;
    const sum = speed.reduce((total, own, at) => total + Math.min(cap[at] ?? 0, level * own), 0);
    if (sum >= layers) high = level;
    else low = level;
  }
  return high;
}
