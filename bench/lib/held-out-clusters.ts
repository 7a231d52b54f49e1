/**
 * Clusters that nothing was tuned on: machines of the published profiles in drawn numbers, spread over one to five regions with drawn
 * links. Twelve to forty nodes, at least enough to hold the model one and a half times.
 */
import { type Cluster, type ClusterLink, type ClusterNode, SINK, SOURCE } from "../../src/domain/cluster.ts";
import { SeededRandom } from "../../src/sim/time/random.ts";

const NODES_MIN = 12;
const NODES_MAX = 40;
const REGIONS_MAX = 5;
const COVER_MIN = 1.5;
const DRAWS_MAX = 1000;

/** The machines and the model of `base`; the seed draws the rest. */
export function heldOutCluster(base: Cluster, seed: string): Cluster {
  const random = new SeededRandom(`held-out/${seed}`);
  const machines = [...new Map(base.nodes.map((node) => [node.machine.name, node])).values()];
  for (let draw = 0; draw < DRAWS_MAX; draw++) {
    const count = random.between(NODES_MIN, NODES_MAX);
    const regions = random.between(1, REGIONS_MAX);
    const nodes = Array.from({ length: count }, (_, at): ClusterNode & { readonly region: string } => {
      const machine = machines[random.between(0, machines.length - 1)] ?? machines[0];
      return { ...(machine ?? nodeless()), id: `n${at}`, region: `r${random.between(1, regions)}` };
    });
    const held = nodes.reduce((sum, node) => sum + node.layersMax, 0);
    if (held < COVER_MIN * base.model.layerCount) continue;
    return { name: `held-out-${seed}`, model: base.model, nodes, links: drawLinks(nodes, random), layouts: new Map() };
  }
  return nodeless();
}

function nodeless(): never {
  throw new Error("no cluster was drawn that holds the model");
}

function drawLinks(
  nodes: readonly (ClusterNode & { readonly region: string })[],
  random: SeededRandom,
): readonly ClusterLink[] {
  const links: ClusterLink[] = [];
  const between = (least: number, most: number): number => least + (most - least) * random.fraction();
  /** One rate and latency for each pair of regions, and a tenth of spread for each link. */
  const pairs = new Map<string, { readonly bytesPerSecond: number; readonly latencySeconds: number }>();
  const pairOf = (a: string, b: string) => {
    const key = [a, b].toSorted().join(" ");
    const drawn = pairs.get(key) ?? { bytesPerSecond: between(8e6, 60e6), latencySeconds: between(0.01, 0.1) };
    pairs.set(key, drawn);
    return drawn;
  };
  for (const node of nodes) {
    const far = pairOf("coordinator", node.region);
    links.push({ from: SOURCE, to: node.id, ...far }, { from: node.id, to: SINK, ...far });
    for (const other of nodes) {
      if (other === node) continue;
      const near = { bytesPerSecond: between(1.1e9, 1.4e9), latencySeconds: 0.001 };
      const { bytesPerSecond, latencySeconds } =
        other.region === node.region ? near : pairOf(node.region, other.region);
      const spread = between(0.9, 1.1);
      links.push({
        from: node.id,
        to: other.id,
        bytesPerSecond: bytesPerSecond * spread,
        latencySeconds: latencySeconds * spread,
      });
    }
  }
  return links;
}
