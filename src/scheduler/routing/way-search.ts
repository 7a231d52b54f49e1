/**
 * Shortest ways over a layout's graph. Layers only go up along an edge, so one pass over the nodes in the order of where their
 * layers end finds the least cost to each of them: O(edges). Equal costs go to the edge that comes first in the graph.
 */
import { assert } from "../../domain/assert.ts";
import type { GraphEdge } from "./graph-parts.ts";
import { type LayoutGraph, reachesSink } from "./layout-graph.ts";
import type { Way } from "./router.ts";

/** What an edge and the work at its end add. */
export interface HopPrice {
  readonly cost: number;
  /** Seconds that the prompt takes to here from the edge's start. */
  readonly seconds: number;
}

export class WaySearch {
  readonly #graph: LayoutGraph;
  readonly #order: readonly number[];
  readonly #reaches: Uint8Array;
  readonly #cost: Float64Array;
  readonly #seconds: Float64Array;
  readonly #cameBy: Int32Array;

  constructor(graph: LayoutGraph) {
    this.#graph = graph;
    const endOf = (vertex: number): number => graph.nodes[vertex]?.end ?? 0;
    this.#order = [graph.source, ...[...graph.nodes.keys()].sort((a, b) => endOf(a) - endOf(b) || a - b)];
    this.#reaches = reachesSink(graph);
    this.#cost = new Float64Array(graph.sink + 1);
    this.#seconds = new Float64Array(graph.sink + 1);
    this.#cameBy = new Int32Array(graph.sink + 1);
  }

  /** The cheapest way, or null. `priceOf` gets the seconds after which a prompt reaches the edge; null closes the edge. */
  find(priceOf: (edge: GraphEdge, reachedS: number) => HopPrice | null): Way | null {
    const { edges, outEdges, source, sink } = this.#graph;
    this.#cost.fill(Number.POSITIVE_INFINITY);
    this.#cost[source] = 0;
    this.#seconds[source] = 0;
    for (const vertex of this.#order) {
      const cost = this.#cost[vertex] ?? 0;
      const reachedS = this.#seconds[vertex] ?? 0;
      if (cost === Number.POSITIVE_INFINITY) continue;
      for (const index of outEdges[vertex] ?? []) {
        const edge = edges[index];
        if (edge === undefined || this.#reaches[edge.to] !== 1) continue;
        const price = priceOf(edge, reachedS);
        if (price === null || cost + price.cost >= (this.#cost[edge.to] ?? 0)) continue;
        this.#cost[edge.to] = cost + price.cost;
        this.#seconds[edge.to] = reachedS + price.seconds;
        this.#cameBy[edge.to] = index;
      }
    }
    return this.#cost[sink] === Number.POSITIVE_INFINITY ? null : this.#wayBack();
  }

  /** Of the last way that was found. */
  get cost(): number {
    return this.#cost[this.#graph.sink] ?? 0;
  }

  get seconds(): number {
    return this.#seconds[this.#graph.sink] ?? 0;
  }

  #wayBack(): Way {
    const { edges, source, sink } = this.#graph;
    const way: number[] = [];
    for (let vertex = sink; vertex !== source; ) {
      const edge = edges[this.#cameBy[vertex] ?? -1];
      assert(edge !== undefined, `vertex ${vertex} was reached over an edge`);
      way.push(edge.index);
      vertex = edge.from;
    }
    return way.reverse();
  }
}
