/**
 * Clusters so small that every layout can be tried: two to six nodes of drawn machines, three to six layers, drawn links of which
 * some are slow and some missing.
 */
import type { Cluster, ClusterLink, ClusterNode, MachineProfile } from "../../src/domain/cluster.ts";
import { SINK, SOURCE } from "../../src/domain/cluster.ts";
import { clusterTables } from "../../src/scheduler/layout/cluster-tables.ts";
import { layoutCount } from "../../src/scheduler/layout/enumerate-layouts.ts";
import { SearchRandom } from "../../src/scheduler/layout/search-random.ts";

/** Layouts that one instance may have: what a fraction of a second can try. */
const LAYOUTS_MAX = 30_000;

export function tinyInstance(seed: number): Cluster {
  for (let attempt = 0; ; attempt++) {
    const cluster = draw(new SearchRandom(seed * 1009 + attempt));
    if (layoutCount(clusterTables(cluster)) <= LAYOUTS_MAX) return cluster;
  }
}

function draw(random: SearchRandom): Cluster {
  const between = (low: number, high: number): number => low + (high - low) * random.next();
  const layerCount = 3 + random.below(4);
  const machines = Array.from({ length: 1 + random.below(3) }, (_, at) => machine(`m${at}`, random, layerCount));
  const nodes = Array.from({ length: 2 + random.below(5) }, (_, at) => {
    const own = machines[random.below(machines.length)] ?? machine("m0", random, layerCount);
    return node(`n${at}`, own);
  });
  const ends = [SOURCE, ...nodes.map(({ id }) => id), SINK];
  const links: ClusterLink[] = [];
  for (const from of ends) {
    for (const to of ends) {
      if (from === to || from === SINK || to === SOURCE || (from === SOURCE && to === SINK)) continue;
      if (from !== SOURCE && to !== SINK && random.next() < 0.1) continue;
      const isSlow = random.next() < 0.3;
      links.push({
        from,
        to,
        bytesPerSecond: isSlow ? between(2e6, 2e7) : between(2e8, 1e9),
        latencySeconds: isSlow ? between(0.02, 0.08) : 0.001,
      });
    }
  }
  const model = {
    layerBytes: 1e9,
    tokenBytes: 2,
    activationBytes: 16_384,
    promptTokensMean: 700,
    outputTokensMean: 200,
  };
  return { name: "tiny", model: { ...model, layerCount }, nodes, links, layouts: new Map() };
}

function machine(name: string, random: SearchRandom, layerCount: number): MachineProfile {
  const layersMax = 1 + random.below(Math.min(3, layerCount));
  const rate = 300 * (1 + 9 * random.next());
  const room = 2e5 * (1 + 9 * random.next());
  const seconds = 0.001 * (1 + 8 * random.next());
  const counts = Array.from({ length: layersMax + 1 }, (_, held) => held);
  return {
    name,
    layersMax,
    tokensPerSecondByLayers: counts.map((held) => (held === 0 ? 0 : (rate / held) * (0.8 + 0.2 * random.next()))),
    kvTokenLayersByLayers: counts.map((held) => (held === 0 ? 0 : room * (1 - held / (layersMax + 2)))),
    promptSecondsPerLayer: { x: [0, 1000], y: [0, 10 * seconds] },
    decodeSecondsPerLayer: { x: [0, 2, 100], y: [0, seconds, 2 * seconds] },
    limitsByLayers: counts.map(() => ({
      promptRequestsMax: 1,
      promptTokensMax: 2048,
      decodeContextTokensMax: 300_000,
      decodeTokensMax: 300,
    })),
    nicInBytesPerSecond: 1e9,
    nicOutBytesPerSecond: 1e9,
    vramBytes: 16e9,
  };
}

function node(id: string, own: MachineProfile): ClusterNode {
  const neutral = { region: null, owner: null, network: null, trust: 1 };
  const free = { priceMicroUsdPerHour: 0, survivalPerHour: 1, gramsCo2PerHour: 0 };
  return { id, machine: own, ...neutral, ...free, layersMax: own.layersMax };
}
