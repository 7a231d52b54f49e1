/**
 * What the requests under way are expected to fill of each node's KV cache: prompt tokens plus an expected number of output
 * tokens, times the layers that they run there. An expectation, because nobody knows the length of an answer before its end.
 */
import { assert } from "../../domain/assert.ts";
import { type LayoutGraph, layersAt } from "./layout-graph.ts";
import type { RouteRequest, Way } from "./router.ts";

export interface KvRoomSettings {
  /** Output tokens that a request is expected to add. */
  readonly outputTokensExpected: number;
  /** Share of a node's room up to which requests are let in, 0 to 1. */
  readonly highWaterShare: number;
}

export class KvRoom {
  readonly #graph: LayoutGraph;
  readonly #settings: KvRoomSettings;
  readonly #reserved: Float64Array;

  constructor(graph: LayoutGraph, settings: KvRoomSettings) {
    this.#graph = graph;
    this.#settings = settings;
    this.#reserved = new Float64Array(graph.nodes.length);
  }

  expectedTokens(request: RouteRequest): number {
    return Math.trunc(request.promptTokens + this.#settings.outputTokensExpected);
  }

  /** Whether the request with all layers of the node stays below the high-water mark. The sink has room always. */
  fits(request: RouteRequest, vertex: number): boolean {
    const node = this.#graph.nodes[vertex];
    if (node === undefined) return true;
    const wanted = this.expectedTokens(request) * (node.end - node.first);
    return (this.#reserved[vertex] ?? 0) + wanted <= this.#settings.highWaterShare * node.kvTokenLayers;
  }

  add(request: RouteRequest, way: Way): void {
    this.#change(request, way, 1);
  }

  remove(request: RouteRequest, way: Way): void {
    this.#change(request, way, -1);
  }

  reservedShare(vertex: number): number {
    const room = this.#graph.nodes[vertex]?.kvTokenLayers ?? 0;
    return room === 0 ? 1 : (this.#reserved[vertex] ?? 0) / room;
  }

  /** The layer with the least free room: the share of it that is reserved, over all nodes that hold it. */
  bottleneckShare(): number {
    const { nodes, cluster } = this.#graph;
    const free = new Float64Array(cluster.model.layerCount);
    const total = new Float64Array(cluster.model.layerCount);
    for (const [vertex, node] of nodes.entries()) {
      const held = node.end - node.first;
      for (let layer = node.first; layer < node.end; layer++) {
        free[layer] = (free[layer] ?? 0) + (node.kvTokenLayers - (this.#reserved[vertex] ?? 0)) / held;
        total[layer] = (total[layer] ?? 0) + node.kvTokenLayers / held;
      }
    }
    let most = 0;
    for (const [layer, room] of total.entries()) most = Math.max(most, room === 0 ? 1 : 1 - (free[layer] ?? 0) / room);
    return most;
  }

  #change(request: RouteRequest, way: Way, sign: 1 | -1): void {
    for (const index of way) {
      const edge = this.#graph.edges[index];
      assert(edge !== undefined, `an edge of the way is in the graph: ${index}`);
      const wanted = this.expectedTokens(request) * layersAt(this.#graph, edge);
      if (edge.to !== this.#graph.sink) this.#reserved[edge.to] = (this.#reserved[edge.to] ?? 0) + sign * wanted;
    }
  }
}

/** Mean requests that the layout's KV room holds at once: the layer with the least room counts. */
export function kvRequestsMax(graph: LayoutGraph): number {
  const { model } = graph.cluster;
  const tokens = new Float64Array(model.layerCount);
  for (const node of graph.nodes) {
    for (let layer = node.first; layer < node.end; layer++) {
      tokens[layer] = (tokens[layer] ?? 0) + node.kvTokenLayers / (node.end - node.first);
    }
  }
  const least = tokens.reduce((lowest, room) => Math.min(lowest, room), Number.POSITIVE_INFINITY);
  return least / (model.promptTokensMean + model.outputTokensMean);
}
