/**
 * Swarm's equal stages (Ryabinin et al., ICML 2023, as Helix's artefact lays them out), our own implementation, as a baseline. The
 * stage is as long as the smallest node holds; every node takes one stage, the strongest first, each time the stage with least
 * throughput so far. When there are fewer nodes than stages, the smallest nodes are left out until there are enough.
 */
import type { Cluster, Layout } from "../../../domain/cluster.ts";
import { clusterTables } from "../cluster-tables.ts";
import { equalStages } from "../construct-equal-stages.ts";
import { layoutOf } from "../draft.ts";

/** Null when no stage length lets the nodes cover the model. */
export function swarmLayout(cluster: Cluster): Layout | null {
  const tables = clusterTables(cluster);
  const lengths = [...new Set(tables.layersMax)].filter((most) => most > 0).sort((a, b) => a - b);
  for (const length of lengths) {
    const nodes = tables.nodes.flatMap((_, node) => ((tables.layersMax[node] ?? 0) >= length ? [node] : []));
    const stages = Math.ceil(tables.layerCount / length);
    if (stages > nodes.length) continue;
    const draft = equalStages(tables, nodes, stages);
    if (draft !== null) return layoutOf(tables, draft);
  }
  return null;
}
