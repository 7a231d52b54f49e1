/** What is strange about a cluster and still leaves it usable: parts that nothing reaches, a model that does not fit. */
import { type Cluster, SINK, SOURCE } from "../domain/cluster.ts";

/** A list of ids in a sentence. */
const IDS_SHOWN_MAX = 5;

export function clusterWarnings(cluster: Cluster): string[] {
  const warnings: string[] = [];
  const held = cluster.nodes.reduce((sum, node) => sum + node.layersMax, 0);
  const { layerCount } = cluster.model;
  if (held < layerCount)
    warnings.push(`the model has ${layerCount} layers, all nodes together hold at most ${held}: it fits nowhere`);
  const ahead = reached(SOURCE, neighbours(cluster.links.map(({ from, to }) => [from, to])));
  const back = reached(SINK, neighbours(cluster.links.map(({ from, to }) => [to, from])));
  const deaf = cluster.nodes.filter(({ id }) => !ahead.has(id)).map(({ id }) => id);
  const mute = cluster.nodes.filter(({ id }) => ahead.has(id) && !back.has(id)).map(({ id }) => id);
  if (deaf.length > 0)
    warnings.push(`no link leads from source to ${some(deaf)}, directly or through others: never used`);
  if (mute.length > 0)
    warnings.push(`no link leads to sink from ${some(mute)}, directly or through others: never used`);
  const groups = groupsOf(cluster);
  if (groups.length > 1) {
    const sizes = groups
      .map((ids) => some(ids))
      .slice(0, IDS_SHOWN_MAX)
      .join("; ");
    warnings.push(`the nodes form ${groups.length} groups with no link between them (${sizes}): no pipeline spans two`);
  }
  return warnings;
}

type Ends = readonly [from: string, to: string];

/** Ids that can be reached from `start`. */
function reached(start: string, next: ReadonlyMap<string, readonly string[]>): Set<string> {
  const found = new Set([start]);
  for (const id of found) for (const to of next.get(id) ?? []) found.add(to); // a Set is walked as it grows
  return found;
}

function neighbours(ends: readonly Ends[]): Map<string, string[]> {
  const next = new Map<string, string[]>();
  for (const [from, to] of ends) {
    const row = next.get(from);
    if (row === undefined) next.set(from, [to]);
    else row.push(to);
  }
  return next;
}

/** Nodes that reach each other without the coordinator, in the order of the file. */
function groupsOf(cluster: Cluster): string[][] {
  const inner = cluster.links.filter(({ from, to }) => from !== SOURCE && to !== SINK);
  const next = neighbours(inner.map(({ from, to }) => [from, to]));
  const groups: string[][] = [];
  const placed = new Set<string>();
  for (const { id } of cluster.nodes) {
    if (placed.has(id)) continue;
    const group = reached(id, next);
    for (const member of group) placed.add(member);
    groups.push([...group]);
  }
  return groups;
}

function some(ids: readonly string[]): string {
  const shown = ids.slice(0, IDS_SHOWN_MAX).join(", ");
  const rest = ids.length - IDS_SHOWN_MAX;
  return `${ids.length === 1 ? "node" : "nodes"} ${shown}${rest > 0 ? ` and ${rest} more` : ""}`;
}
