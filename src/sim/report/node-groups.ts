/** What nodes are coloured by: their region where the file names one, else the nearness that the planner reads off the links, and the machine. */
import type { Cluster } from "../../domain/cluster.ts";
import { clusterTables } from "../../scheduler/layout/cluster-tables.ts";
import { regionGroupings } from "../../scheduler/layout/regions.ts";
import { COLOURS } from "./page.ts";

/** Nearness of more nodes takes seconds to find, for a picture in which they cannot be told apart. */
const NODES_MAX = 500;

/** By node id. */
export function nodeGroups(cluster: Cluster): ReadonlyMap<string, string> {
  const found = cluster.nodes.some(({ region }) => region !== null) ? null : foundRegions(cluster);
  return new Map(
    cluster.nodes.map(({ id, region, machine }) => {
      const place = region ?? found?.get(id) ?? null;
      return [id, place === null ? machine.name : `${place} · ${machine.name}`];
    }),
  );
}

/** The finest way to see the cluster that the colours can still tell apart. */
function foundRegions(cluster: Cluster): ReadonlyMap<string, string> | null {
  if (cluster.nodes.length > NODES_MAX) return null;
  const tables = clusterTables(cluster);
  const [finest] = regionGroupings(tables)
    .filter(({ count }) => count > 1 && count <= COLOURS)
    .toSorted((a, b) => b.count - a.count);
  if (finest === undefined) return null;
  return new Map(tables.nodes.map(({ id }, node) => [id, `site ${(finest.regionOf[node] ?? 0) + 1}`]));
}
