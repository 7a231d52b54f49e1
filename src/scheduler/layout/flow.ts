/**
 * What a layout can carry, as Helix (ASPLOS'25) counts it: a node is a pipe as wide as its tokens per second with the layers it
 * holds, a link one as wide as its bytes allow, and a token flows from the coordinator through nodes whose intervals follow on
 * from each other up to the last layer and back. The throughput is the maximum flow.
 *
 * It says nothing of time: a layout with a quarter more flow gave half the tokens across regions (docs/planner.md). The planner's
 * score is in score.ts; this is one of its terms, and the measure in which placements are compared with published ones.
 */
import { type Cluster, type Layout, SINK, SOURCE } from "../../domain/cluster.ts";
import { type ClusterTables, clusterTables } from "./cluster-tables.ts";
import { MaxFlow } from "./max-flow.ts";

export interface FlowOptions {
  /** Share of a node's profiled rate that is counted on; 1 in Helix's own measure. */
  readonly computeShare?: number;
  /** Share of a wide-area link's bandwidth that is counted on. */
  readonly slowLinkShare?: number;
  /**
   * Whether a node may take a token over in the middle of its interval (`first <= end of the one before < end`) instead of at
   * its first layer only. Petals' layouts need it.
   */
  readonly isPartialAllowed?: boolean;
  /** Limit of each node by node number that stands in for its profiled rate. */
  readonly nodeRateMax?: Float64Array;
}

export interface FlowEdge {
  /** A node's id or `source`. */
  readonly from: string;
  /** A node's id or `sink`. */
  readonly to: string;
  readonly tokensPerSecond: number;
}

export interface FlowReport {
  readonly tokensPerSecond: number;
  /** Edges that carry something, by order of nodes in the cluster (source first, sink last). */
  readonly edges: readonly FlowEdge[];
  readonly nodeTokensPerSecond: ReadonlyMap<string, number>;
  /** A minimum cut: nodes and links whose widening is the only way to more. Empty when the layout carries nothing. */
  readonly bottlenecks: readonly FlowBottleneck[];
  /** Nodes that a mean token passes. */
  readonly hopsMean: number;
  readonly slowHopsMean: number;
  /** Seconds on the way of a mean token: latencies of all links from source to sink, plus its own time on them. */
  readonly networkSecondsMean: number;
}

export type FlowBottleneck =
  | { readonly kind: "node"; readonly node: string; readonly tokensPerSecond: number }
  | { readonly kind: "link"; readonly from: string; readonly to: string; readonly tokensPerSecond: number };

export function evaluateFlow(cluster: Cluster, layout: Layout, options: FlowOptions = {}): FlowReport {
  const network = new FlowNetwork(clusterTables(cluster));
  const intervals = denseIntervals(network.tables, layout);
  const tokensPerSecond = network.solve(intervals, options);
  return network.report(tokensPerSecond);
}

/** Sum over nodes of the best layers x rate, over the model's layers: no layout of this cluster flows more. */
export function throughputUpperBound(cluster: Cluster): number {
  return upperBoundOf(clusterTables(cluster));
}

export function upperBoundOf(tables: ClusterTables): number {
  let sum = 0;
  for (let node = 0; node < tables.nodeCount; node++) {
    let best = 0;
    for (let k = 1; k <= (tables.layersMax[node] ?? 0); k++) {
      best = Math.max(best, k * (tables.tokensPerSecond[node * tables.stride + k] ?? 0));
    }
    sum += best;
  }
  return tables.layerCount === 0 ? 0 : sum / tables.layerCount;
}

/** A layout by node number; `first === end` for a node that holds nothing. */
export interface DenseIntervals {
  readonly first: Int32Array;
  readonly end: Int32Array;
}

export function denseIntervals(tables: ClusterTables, layout: Layout): DenseIntervals {
  const first = new Int32Array(tables.nodeCount);
  const end = new Int32Array(tables.nodeCount);
  for (const [id, interval] of layout) {
    const node = tables.indexById.get(id);
    if (node === undefined) continue;
    first[node] = interval.first;
    end[node] = interval.end;
  }
  return { first, end };
}

/** The flow graph of one cluster, kept between layouts: `solve` as often as you like, `report` on the last one. */
export class FlowNetwork {
  readonly tables: ClusterTables;
  readonly #graph: MaxFlow;
  /** Edge numbers of the last run with their ends; nodes by number, SOURCE_END and SINK_END for the coordinator. */
  readonly #edgeFrom: number[] = [];
  readonly #edgeTo: number[] = [];
  readonly #edgeNumber: number[] = [];
  readonly #nodeEdge: Int32Array;
  readonly #byFirst: Int32Array;
  readonly #nextOfFirst: Int32Array;

  constructor(tables: ClusterTables) {
    this.tables = tables;
    this.#graph = new MaxFlow(2 * tables.nodeCount + 2, 4 * tables.nodeCount + 16);
    this.#nodeEdge = new Int32Array(tables.nodeCount);
    this.#byFirst = new Int32Array(tables.layerCount + 1);
    this.#nextOfFirst = new Int32Array(tables.nodeCount);
  }

  /** Tokens per second of the layout. Nodes that hold more layers than they may count as carrying nothing. */
  solve(intervals: DenseIntervals, options: FlowOptions = {}): number {
    const { tables } = this;
    const graph = this.#graph;
    const count = tables.nodeCount;
    const computeShare = options.computeShare ?? 1;
    graph.clear();
    this.#edgeFrom.length = 0;
    this.#edgeTo.length = 0;
    this.#edgeNumber.length = 0;
    this.#byFirst.fill(-1);
    for (let node = count - 1; node >= 0; node--) {
      const first = intervals.first[node] ?? 0;
      const end = intervals.end[node] ?? 0;
      this.#nodeEdge[node] = -1;
      const held = end - first;
      if (held <= 0 || held >= tables.stride) continue;
      const profiled = (tables.tokensPerSecond[node * tables.stride + held] ?? 0) * computeShare;
      const rate = profiled > 0 ? (options.nodeRateMax?.[node] ?? profiled) : 0;
      this.#nodeEdge[node] = graph.addEdge(node, count + node, rate);
      this.#nextOfFirst[node] = this.#byFirst[first] ?? -1;
      this.#byFirst[first] = node;
      if (first === 0) this.#addEdge(-1, node, tables.sourceTokensPerSecond[node] ?? 0);
      if (end === tables.layerCount) this.#addEdge(node, count, tables.sinkTokensPerSecond[node] ?? 0);
    }
    this.#addLinks(intervals, options);
    return graph.run(2 * count, 2 * count + 1);
  }

  #addLinks(intervals: DenseIntervals, options: FlowOptions): void {
    const { tables } = this;
    const slowLinkShare = options.slowLinkShare ?? 1;
    for (let node = 0; node < tables.nodeCount; node++) {
      if (this.#nodeEdge[node] === -1) continue;
      const end = intervals.end[node] ?? 0;
      const lowest = options.isPartialAllowed === true ? Math.max(0, end - tables.stride + 1) : end;
      for (let first = lowest; first <= end; first++) {
        for (let to = this.#byFirst[first] ?? -1; to !== -1; to = this.#nextOfFirst[to] ?? -1) {
          if (to === node || (intervals.end[to] ?? 0) <= end) continue;
          const link = node * tables.nodeCount + to;
          const capacity = tables.linkTokensPerSecond[link] ?? 0;
          this.#addEdge(node, to, tables.linkIsSlow[link] === 1 ? capacity * slowLinkShare : capacity);
        }
      }
    }
  }

  /** -1 is the source, `nodeCount` the sink. */
  #addEdge(from: number, to: number, capacity: number): void {
    if (capacity <= 0) return;
    const count = this.tables.nodeCount;
    const edge = this.#graph.addEdge(
      from === -1 ? 2 * count : count + from,
      to === count ? 2 * count + 1 : to,
      capacity,
    );
    this.#edgeFrom.push(from);
    this.#edgeTo.push(to);
    this.#edgeNumber.push(edge);
  }

  /** Flow through the node in the last run. */
  nodeFlow(node: number): number {
    const edge = this.#nodeEdge[node] ?? -1;
    return edge === -1 ? 0 : this.#graph.flowOf(edge);
  }

  /** Calls back with every edge of the last run that carries something: ends by node number, -1 the source, `nodeCount` the sink. */
  forEachFlow(visit: (from: number, to: number, tokensPerSecond: number) => void): void {
    for (let at = 0; at < this.#edgeNumber.length; at++) {
      const flow = this.#graph.flowOf(this.#edgeNumber[at] ?? 0);
      if (flow > 0) visit(this.#edgeFrom[at] ?? 0, this.#edgeTo[at] ?? 0, flow);
    }
  }

  report(tokensPerSecond: number): FlowReport {
    const { tables } = this;
    const flows: { from: number; to: number; tokensPerSecond: number }[] = [];
    this.forEachFlow((from, to, rate) => flows.push({ from, to, tokensPerSecond: rate }));
    flows.sort((a, b) => a.from - b.from || a.to - b.to);
    const nodeTokensPerSecond = new Map<string, number>();
    let nodeSum = 0;
    for (const [node, { id }] of tables.nodes.entries()) {
      const rate = this.nodeFlow(node);
      if (rate > 0) nodeTokensPerSecond.set(id, rate);
      nodeSum += rate;
    }
    let slowSum = 0;
    let secondsSum = 0;
    for (const { from, to, tokensPerSecond: rate } of flows) {
      if (from !== -1 && to !== tables.nodeCount)
        slowSum += rate * (tables.linkIsSlow[from * tables.nodeCount + to] ?? 0);
      secondsSum += rate * linkSeconds(tables, from, to);
    }
    const mean = (sum: number): number => (tokensPerSecond > 0 ? sum / tokensPerSecond : 0);
    return {
      tokensPerSecond,
      edges: flows.map(({ from, to, tokensPerSecond: rate }) => ({
        from: this.#nameOf(from),
        to: this.#nameOf(to),
        tokensPerSecond: rate,
      })),
      nodeTokensPerSecond,
      bottlenecks: tokensPerSecond > 0 ? this.#bottlenecks() : [],
      hopsMean: mean(nodeSum),
      slowHopsMean: mean(slowSum),
      networkSecondsMean: mean(secondsSum),
    };
  }

  #bottlenecks(): FlowBottleneck[] {
    const count = this.tables.nodeCount;
    const cut: FlowBottleneck[] = [];
    for (let node = 0; node < count; node++) {
      if (
        this.#graph.isOnSourceSide(node) &&
        !this.#graph.isOnSourceSide(count + node) &&
        this.#nodeEdge[node] !== -1
      ) {
        cut.push({ kind: "node", node: this.#nameOf(node), tokensPerSecond: this.nodeFlow(node) });
      }
    }
    for (let at = 0; at < this.#edgeNumber.length; at++) {
      const from = this.#edgeFrom[at] ?? 0;
      const to = this.#edgeTo[at] ?? 0;
      const isFromSide = this.#graph.isOnSourceSide(from === -1 ? 2 * count : count + from);
      const isToSide = this.#graph.isOnSourceSide(to === count ? 2 * count + 1 : to);
      if (!isFromSide || isToSide) continue;
      const tokensPerSecond = this.#graph.flowOf(this.#edgeNumber[at] ?? 0);
      cut.push({ kind: "link", from: this.#nameOf(from), to: this.#nameOf(to), tokensPerSecond });
    }
    return cut;
  }

  #nameOf(end: number): string {
    if (end === -1) return SOURCE;
    return this.tables.nodes[end]?.id ?? SINK;
  }
}

/** Latency of the link plus a token's own time on it; -1 is the source, `nodeCount` the sink. */
export function linkSeconds(tables: ClusterTables, from: number, to: number): number {
  if (from === -1) return (tables.sourceLatencySeconds[to] ?? 0) + 1 / (tables.sourceTokensPerSecond[to] ?? 1);
  if (to === tables.nodeCount) {
    return (tables.sinkLatencySeconds[from] ?? 0) + 1 / (tables.sinkTokensPerSecond[from] ?? 1);
  }
  const at = from * tables.nodeCount + to;
  return (tables.linkLatencySeconds[at] ?? 0) + (tables.linkSecondsPerToken[at] ?? 0);
}
