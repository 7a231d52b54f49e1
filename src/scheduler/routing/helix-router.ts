/**
 * Helix's router (ASPLOS'25), our implementation: from each node the next one is drawn by interleaved weighted round robin over
 * the maximum flow, past nodes whose expected KV cache is full. A node's outgoing edge counts its load in tokens over its flow; the
 * edge with the least load after this request is taken, decode steps count as well.
 *
 * Offline it starts with few requests and asks for one more whenever a prompt was answered or a request ended while the
 * expected KV room lasts: load grows over minutes, until the high-water mark.
 */
import { assert } from "../../domain/assert.ts";
import { KvRoom } from "./kv-room.ts";
import type { LayoutGraph } from "./layout-graph.ts";
import { reachesSink } from "./layout-graph.ts";
import type { PullMoment, RouteRequest, Router, RouterSettings, Way } from "./router.ts";

/** Edges with less than this share of what leaves their node are not used. */
const FLOW_SHARE_MIN = 0.05;
const OFFLINE_START_REQUESTS = 20;
/** Expected share of the fullest layer up to which offline asks for more. */
const OFFLINE_PULL_SHARE_MAX = 0.8;
const OFFLINE_HIGH_WATER = 0.85;
const OFFLINE_OUTPUT_SHARE = 1;
const ONLINE_HIGH_WATER = 0.9;
const ONLINE_OUTPUT_SHARE = 0.6;

export class HelixRouter implements Router {
  readonly name = "helix";
  readonly style = "whole";
  readonly isDroppingOffline = true;
  readonly #graph: LayoutGraph;
  readonly #room: KvRoom;
  readonly #load: Float64Array;
  /** Usable edges by vertex. */
  readonly #choices: readonly (readonly number[])[];

  constructor({ graph, mode }: RouterSettings) {
    this.#graph = graph;
    const outputShare = mode === "offline" ? OFFLINE_OUTPUT_SHARE : ONLINE_OUTPUT_SHARE;
    this.#room = new KvRoom(graph, {
      outputTokensExpected: graph.cluster.model.outputTokensMean * outputShare,
      highWaterShare: mode === "offline" ? OFFLINE_HIGH_WATER : ONLINE_HIGH_WATER,
    });
    this.#load = new Float64Array(graph.edges.length);
    this.#choices = flowChoices(graph);
  }

  route(request: RouteRequest): Way | null {
    const way: number[] = [];
    let vertex = this.#graph.source;
    while (vertex !== this.#graph.sink) {
      const edge = this.#leastLoaded(request, vertex);
      if (edge === null) {
        for (const taken of way) this.#count(taken, -request.promptTokens);
        return null;
      }
      this.#count(edge, request.promptTokens);
      way.push(edge);
      vertex = this.#graph.edges[edge]?.to ?? this.#graph.sink;
    }
    this.#room.add(request, way);
    return way;
  }

  nextEdge(): number {
    assert(false, "the helix router plans whole ways");
  }

  pull(moment: PullMoment): number {
    if (moment === "start") return OFFLINE_START_REQUESTS;
    if (moment === "refused" || moment === "sent") return 0;
    return this.#room.bottleneckShare() <= OFFLINE_PULL_SHARE_MAX ? 1 : 0;
  }

  stepSent(_request: RouteRequest, way: Way): void {
    for (const edge of way) this.#count(edge, 1);
  }

  released(request: RouteRequest, way: Way): void {
    this.#room.remove(request, way);
  }

  #leastLoaded(request: RouteRequest, vertex: number): number | null {
    let best: number | null = null;
    let bestLoad = Number.POSITIVE_INFINITY;
    for (const index of this.#choices[vertex] ?? []) {
      const edge = this.#graph.edges[index];
      if (edge === undefined || !this.#room.fits(request, edge.to)) continue;
      const limits = this.#graph.nodes[edge.to]?.limits;
      if (limits !== undefined && request.promptTokens > limits.promptTokensMax) continue;
      const load = (this.#load[index] ?? 0) + request.promptTokens / edge.flowTokensPerSecond;
      if (load < bestLoad) [best, bestLoad] = [index, load];
    }
    return best;
  }

  #count(edge: number, tokens: number): void {
    this.#load[edge] = (this.#load[edge] ?? 0) + tokens / (this.#graph.edges[edge]?.flowTokensPerSecond ?? 1);
  }
}

/** Edges that carry a fair part of the flow out of their vertex; where the flow says nothing, all that lead to the sink. */
function flowChoices(graph: LayoutGraph): readonly (readonly number[])[] {
  const reaches = reachesSink(graph);
  return graph.outEdges.map((edges) => {
    const flowOf = (index: number): number => graph.edges[index]?.flowTokensPerSecond ?? 0;
    const sum = edges.reduce((total, index) => total + flowOf(index), 0);
    return edges.filter((index) => {
      const to = graph.edges[index]?.to ?? graph.sink;
      return reaches[to] === 1 && flowOf(index) > 0 && flowOf(index) >= FLOW_SHARE_MIN * sum;
    });
  });
}
