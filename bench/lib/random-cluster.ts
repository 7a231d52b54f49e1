/**
 * Clusters that nobody tuned on: machine mixes of given profiles over one to six regions, links drawn with distance. A seed gives the
 * same cluster for ever. Used to check the planner's ranking of layouts against the serving simulator's, and its laws.
 */
import {
  type Cluster,
  type ClusterLink,
  type ClusterNode,
  type MachineProfile,
  SINK,
  SOURCE,
} from "../../src/domain/cluster.ts";
import { SearchRandom } from "../../src/scheduler/layout/search-random.ts";

export interface RandomClusterOptions {
  readonly machines: readonly MachineProfile[];
  readonly seed: number;
  readonly nodesMin?: number;
  readonly nodesMax?: number;
  readonly regionsMax?: number;
}

/** The profiles are of a model with these sizes (LLaMA-70B in the shared settings). */
const MODEL = {
  layerBytes: 1_530_000_000,
  tokenBytes: 2,
  activationBytes: 16_384,
  promptTokensMean: 763,
  outputTokensMean: 232,
};

export function randomCluster(options: RandomClusterOptions): Cluster {
  const random = new SearchRandom(options.seed * 7919 + 17);
  const between = (low: number, high: number): number => low + (high - low) * random.next();
  const logBetween = (low: number, high: number): number => Math.exp(between(Math.log(low), Math.log(high)));
  const nodeCount = Math.round(between(options.nodesMin ?? 10, options.nodesMax ?? 36));
  const regionCount = 1 + random.below(options.regionsMax ?? 6);
  const places = Array.from({ length: regionCount }, () => ({ x: random.next(), y: random.next() }));
  const weights = options.machines.map(() => 0.2 + random.next());
  const nodes = Array.from({ length: nodeCount }, (_, at): ClusterNode & { readonly place: number } => {
    const machine = drawWeighted(options.machines, weights, random);
    return {
      id: `n${at}`,
      machine,
      region: null,
      owner: null,
      network: null,
      trust: 1,
      priceMicroUsdPerHour: 0,
      survivalPerHour: 1,
      gramsCo2PerHour: 0,
      layersMax: machine.layersMax,
      place: random.below(regionCount),
    };
  });
  const room = nodes.reduce((sum, { layersMax }) => sum + layersMax, 0);
  const layerCount = Math.max(4, Math.min(100, Math.floor(room / between(1.25, 3))));
  const coordinator = random.below(regionCount);
  const farSeconds = logBetween(0.02, 0.15);
  const farRate = logBetween(6e6, 60e6);
  const nearRate = logBetween(125e6, 1.25e9);
  const nearSeconds = logBetween(0.0003, 0.002);
  const link = (from: { id: string; place: number }, to: { id: string; place: number }): ClusterLink => {
    const [a, b] = [places[from.place], places[to.place]];
    const jitter = between(0.85, 1.15);
    if (from.place === to.place || a === undefined || b === undefined) {
      return { from: from.id, to: to.id, bytesPerSecond: nearRate * jitter, latencySeconds: nearSeconds };
    }
    const distance = 0.3 + Math.hypot(a.x - b.x, a.y - b.y);
    return {
      from: from.id,
      to: to.id,
      bytesPerSecond: (farRate * jitter) / distance,
      latencySeconds: farSeconds * distance * between(0.9, 1.1),
    };
  };
  const links: ClusterLink[] = [];
  for (const node of nodes) {
    links.push(link({ id: SOURCE, place: coordinator }, node), link(node, { id: SINK, place: coordinator }));
  }
  for (const [at, one] of nodes.entries()) {
    for (const other of nodes.slice(at + 1)) {
      const there = link(one, other);
      links.push(there, { ...there, from: other.id, to: one.id });
    }
  }
  return {
    name: `random-${options.seed}`,
    model: { ...MODEL, layerCount },
    nodes: nodes.map(({ place: _, ...node }) => node),
    links,
    layouts: new Map(),
  };
}

function drawWeighted<T>(items: readonly T[], weights: readonly number[], random: SearchRandom): T {
  let ticket = random.next() * weights.reduce((sum, weight) => sum + weight, 0);
  for (const [at, item] of items.entries()) {
    ticket -= weights[at] ?? 0;
    if (ticket < 0) return item;
  }
  const last = items.at(-1);
  if (last === undefined) throw new Error("at least one machine profile is needed");
  return last;
}
