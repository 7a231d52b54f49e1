/**
 * A layout as the graph that requests travel: which node may hand a token to which, over what link, and where in the next node's
 * layers it goes on. Vertices are numbers: the nodes that hold layers in the cluster's order, then the source, then the sink.
 *
 * An edge exists where there is a link and the next node holds the layer that comes next: at its first layer, or, when partial
 * intervals are allowed, anywhere before its last. A request runs a node to the end of its interval. Pipelines keep to themselves:
 * with `pipelines` no edge leaves its group.
 */
import type { Cluster, Layout, MachineProfile } from "../../domain/cluster.ts";
import { SINK, SOURCE } from "../../domain/cluster.ts";
import { evaluateFlow, type FlowReport } from "../layout/flow.ts";
import type { GraphEdge, GraphNode } from "./graph-parts.ts";
import { widestFlow } from "./widest-flow.ts";

export interface LayoutGraph {
  readonly cluster: Cluster;
  readonly nodes: readonly GraphNode[];
  readonly source: number;
  readonly sink: number;
  readonly edges: readonly GraphEdge[];
  /** Edge numbers by vertex, in the cluster's order of nodes. */
  readonly outEdges: readonly (readonly number[])[];
  readonly inEdges: readonly (readonly number[])[];
  readonly flow: FlowReport;
  readonly isPartial: boolean;
  /** Whether it consists of pipelines that keep to themselves. */
  readonly isSplit: boolean;
}

export interface LayoutGraphOptions {
  /** Null or absent: only where the layout carries less than half of its flow without (Petals' overlapping intervals). */
  readonly isPartialAllowed?: boolean | null;
  /** Node ids of each independent pipeline; absent: one graph. */
  readonly pipelines?: readonly (readonly string[])[];
  /** KV room of single nodes where it is known better than by the profile. Tokens x layers. */
  readonly kvTokenLayers?: ReadonlyMap<string, number>;
}

export function layoutGraph(cluster: Cluster, layout: Layout, options: LayoutGraphOptions = {}): LayoutGraph {
  const { isPartial, flow } = chooseFlow(cluster, layout, options.isPartialAllowed ?? null);
  const nodes = cluster.nodes.flatMap((node): GraphNode[] => {
    const interval = layout.get(node.id);
    if (interval === undefined || interval.end <= interval.first) return [];
    return [{ ...interval, id: node.id, ...nodeTables(node.machine, interval.end - interval.first, options, node.id) }];
  });
  const source = nodes.length;
  const sink = source + 1;
  const bare = shareNics(nodes, findEdges(cluster, nodes, isPartial, options.pipelines ?? null));
  const flows = widestFlow(nodes, bare);
  const edges = bare.map((edge) => ({ ...edge, flowTokensPerSecond: flows[edge.index] ?? 0 }));
  const outEdges: number[][] = Array.from({ length: sink + 1 }, () => []);
  const inEdges: number[][] = Array.from({ length: sink + 1 }, () => []);
  for (const edge of edges) {
    outEdges[edge.from]?.push(edge.index);
    inEdges[edge.to]?.push(edge.index);
  }
  return {
    cluster,
    nodes,
    source,
    sink,
    edges,
    outEdges,
    inEdges,
    flow,
    isPartial,
    isSplit: options.pipelines !== undefined,
  };
}

/** Whether at least one way leads from the source through all layers to the sink. */
export function isServable(graph: LayoutGraph): boolean {
  return reachesSink(graph)[graph.source] === 1;
}

/** 1 for every vertex from which the sink can be reached: no router may step on another. */
export function reachesSink(graph: LayoutGraph): Uint8Array {
  const reaches = new Uint8Array(graph.sink + 1);
  const stack = [graph.sink];
  reaches[graph.sink] = 1;
  for (let vertex = stack.pop(); vertex !== undefined; vertex = stack.pop()) {
    for (const index of graph.inEdges[vertex] ?? []) {
      const from = graph.edges[index]?.from ?? graph.sink;
      if (reaches[from] === 1) continue;
      reaches[from] = 1;
      stack.push(from);
    }
  }
  return reaches;
}

/** Layers that a request runs at the end of this edge. */
export function layersAt(graph: LayoutGraph, edge: GraphEdge): number {
  const node = graph.nodes[edge.to];
  return node === undefined ? 0 : node.end - edge.firstLayer;
}

function chooseFlow(cluster: Cluster, layout: Layout, asked: boolean | null): { isPartial: boolean; flow: FlowReport } {
  if (asked !== null) return { isPartial: asked, flow: evaluateFlow(cluster, layout, { isPartialAllowed: asked }) };
  const exact = evaluateFlow(cluster, layout);
  const partial = evaluateFlow(cluster, layout, { isPartialAllowed: true });
  const isPartial = exact.tokensPerSecond < partial.tokensPerSecond / 2;
  return { isPartial, flow: isPartial ? partial : exact };
}

type BareEdge = Omit<GraphEdge, "flowTokensPerSecond">;

type NodeTables = Pick<GraphNode, "machine" | "kvTokenLayers" | "limits">;

/** Beyond the profile's tables the KV room goes on as its last two entries do, the batch bounds stay as the last ones are. */
function nodeTables(machine: MachineProfile, held: number, options: LayoutGraphOptions, id: string): NodeTables {
  const table = machine.kvTokenLayersByLayers;
  const last = table.length - 1;
  const slope = (table[last] ?? 0) - (table[last - 1] ?? 0);
  const room = held <= last ? (table[held] ?? 0) : Math.max(0, (table[last] ?? 0) + slope * (held - last));
  const limits = machine.limitsByLayers[Math.min(held, machine.limitsByLayers.length - 1)];
  const none = { promptRequestsMax: 0, promptTokensMax: 0, decodeContextTokensMax: 0, decodeTokensMax: 0 };
  return { machine, kvTokenLayers: options.kvTokenLayers?.get(id) ?? room, limits: limits ?? none };
}

function findEdges(
  cluster: Cluster,
  nodes: readonly GraphNode[],
  isPartial: boolean,
  pipelines: readonly (readonly string[])[] | null,
): BareEdge[] {
  const { layerCount, tokenBytes, activationBytes } = cluster.model;
  const source = nodes.length;
  const vertexById = new Map(nodes.map((node, vertex) => [node.id, vertex]));
  const groupById = new Map((pipelines ?? []).flatMap((ids, group) => ids.map((id): [string, number] => [id, group])));
  const found: Omit<BareEdge, "index">[] = [];
  for (const link of cluster.links) {
    if (link.bytesPerSecond <= 0) continue;
    const from = link.from === SOURCE ? source : vertexById.get(link.from);
    const to = link.to === SINK ? source + 1 : vertexById.get(link.to);
    if (from === undefined || to === undefined) continue;
    if (groupById.get(link.from) !== groupById.get(link.to) && from < source && to < source) continue;
    const firstLayer = nodes[from]?.end ?? 0;
    const next = nodes[to];
    const isNext =
      next === undefined
        ? firstLayer === layerCount && from !== source
        : isPartial
          ? next.first <= firstLayer && firstLayer < next.end
          : next.first === firstLayer;
    if (!isNext) continue;
    found.push({
      from,
      to,
      bytesPerToken: from === source || next === undefined ? tokenBytes : tokenBytes + activationBytes,
      bytesPerSecond: link.bytesPerSecond,
      latencyS: link.latencySeconds,
      firstLayer,
    });
  }
  // Full order, so that nothing depends on the order of links in a file.
  found.sort((a, b) => a.from - b.from || a.to - b.to);
  return found.map((edge, index) => ({ ...edge, index }));
}

/** A NIC that cannot feed all its links at once gives each its share. */
function shareNics(nodes: readonly GraphNode[], edges: readonly BareEdge[]): BareEdge[] {
  const out = new Float64Array(nodes.length + 2);
  const into = new Float64Array(nodes.length + 2);
  for (const edge of edges) {
    out[edge.from] = (out[edge.from] ?? 0) + edge.bytesPerSecond;
    into[edge.to] = (into[edge.to] ?? 0) + edge.bytesPerSecond;
  }
  const shareOf = (limit: number | undefined, wanted: number): number =>
    limit === undefined || wanted <= limit ? 1 : limit / wanted;
  return edges.map((edge) => {
    const outShare = shareOf(nodes[edge.from]?.machine.nicOutBytesPerSecond, out[edge.from] ?? 0);
    const inShare = shareOf(nodes[edge.to]?.machine.nicInBytesPerSecond, into[edge.to] ?? 0);
    return { ...edge, bytesPerSecond: edge.bytesPerSecond * Math.min(outShare, inShare) };
  });
}
