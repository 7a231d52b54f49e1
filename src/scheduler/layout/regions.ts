/**
 * Which nodes are near each other. Labels are used when every node has one; besides, and otherwise, nearness is read off the links:
 * join nodes in the order of what a generated token pays on the link between them (its latency, its own time on the wire and its
 * share of the prompt's), and look where that price leaps. Each leap is one way to see the cluster: machines, sites, continents.
 *
 * Single linkage: a chain of near nodes is one region even when its ends are far apart.
 */
import type { ClusterTables } from "./cluster-tables.ts";

/** Region number of each node, 0 to `count - 1`, numbered by the lowest node in it. */
export interface RegionGrouping {
  readonly regionOf: Int32Array;
  readonly count: number;
}

/** A price that leaps less than this between one join and the next is the spread of one network, not another one. */
const LEAP_RATIO = 1.8;
/** Joins cheaper than this are one site whatever their spread: a token waits longer for one layer. */
const SITE_SECONDS = 0.002;
/** Ways to see a cluster that are tried: the search has time for a few. */
const GROUPINGS_MAX = 4;

/** At least one grouping (all nodes in one region); the coarsest first, no two alike. */
export function regionGroupings(tables: ClusterTables): readonly RegionGrouping[] {
  const found: RegionGrouping[] = [oneRegion(tables)];
  const labelled = fromLabels(tables);
  if (labelled !== null) found.push(labelled);
  for (const threshold of leaps(tables)) found.push(joinedBelow(tables, threshold));
  const distinct: RegionGrouping[] = [];
  for (const grouping of found) {
    if (!distinct.some((known) => isSame(known, grouping))) distinct.push(grouping);
  }
  return distinct.slice(0, GROUPINGS_MAX).sort((a, b) => a.count - b.count);
}

function oneRegion(tables: ClusterTables): RegionGrouping {
  return { regionOf: new Int32Array(tables.nodeCount), count: 1 };
}

function fromLabels(tables: ClusterTables): RegionGrouping | null {
  const labels = tables.nodes.map(({ region }) => region);
  if (labels.some((label) => label === null)) return null;
  const numbers = new Map<string | null, number>();
  const regionOf = Int32Array.from(labels, (label) => {
    const number = numbers.get(label) ?? numbers.size;
    numbers.set(label, number);
    return number;
  });
  return { regionOf, count: numbers.size };
}

/** What one generated token pays between the two, the better direction; Infinity without a link. */
export function pairSeconds(tables: ClusterTables, pair: { from: number; to: number }): number {
  const { model } = tables.cluster;
  const sharePrompt = (model.promptTokensMean + model.outputTokensMean) / model.outputTokensMean;
  const price = (from: number, to: number): number => {
    const link = from * tables.nodeCount + to;
    if ((tables.linkTokensPerSecond[link] ?? 0) <= 0) return Number.POSITIVE_INFINITY;
    return (tables.linkLatencySeconds[link] ?? 0) + sharePrompt * (tables.linkSecondsPerToken[link] ?? 0);
  };
  return Math.min(price(pair.from, pair.to), price(pair.to, pair.from));
}

/** Thresholds between the prices where joining leaps, largest leap first. */
function leaps(tables: ClusterTables): number[] {
  const joins = spanningPrices(tables).map((price) => Math.max(price, SITE_SECONDS));
  const found: { ratio: number; threshold: number }[] = [];
  let before = SITE_SECONDS;
  for (const price of joins) {
    const ratio = price / before;
    if (ratio >= LEAP_RATIO) {
      const threshold = price === Number.POSITIVE_INFINITY ? before * 2 : Math.sqrt(price * before);
      found.push({ ratio, threshold });
    }
    if (price === Number.POSITIVE_INFINITY) break;
    before = price;
  }
  found.sort((a, b) => b.ratio - a.ratio || a.threshold - b.threshold);
  return found.map(({ threshold }) => threshold);
}

/** Prices of the minimum spanning tree's edges, ascending (Prim). */
function spanningPrices(tables: ClusterTables): number[] {
  const count = tables.nodeCount;
  const price = new Float64Array(count).fill(Number.POSITIVE_INFINITY);
  const isIn = new Uint8Array(count);
  const prices: number[] = [];
  let node = 0;
  for (let step = 1; step < count; step++) {
    isIn[node] = 1;
    let next = -1;
    for (let other = 0; other < count; other++) {
      if (isIn[other] === 1) continue;
      price[other] = Math.min(price[other] ?? 0, pairSeconds(tables, { from: node, to: other }));
      if (next === -1 || (price[other] ?? 0) < (price[next] ?? 0)) next = other;
    }
    prices.push(price[next] ?? 0);
    node = next;
  }
  return prices.sort((a, b) => a - b);
}

function joinedBelow(tables: ClusterTables, threshold: number): RegionGrouping {
  const regionOf = new Int32Array(tables.nodeCount).fill(-1);
  let count = 0;
  for (let seed = 0; seed < tables.nodeCount; seed++) {
    if (regionOf[seed] !== -1) continue;
    const queue = [seed];
    regionOf[seed] = count;
    for (let node = queue.pop(); node !== undefined; node = queue.pop()) {
      for (let other = 0; other < tables.nodeCount; other++) {
        if (regionOf[other] !== -1 || pairSeconds(tables, { from: node, to: other }) > threshold) continue;
        regionOf[other] = count;
        queue.push(other);
      }
    }
    count += 1;
  }
  return { regionOf, count };
}

function isSame(a: RegionGrouping, b: RegionGrouping): boolean {
  return a.count === b.count && a.regionOf.every((region, node) => region === b.regionOf[node]);
}
