/**
 * Two published ways to route by shortest paths, our implementations.
 *
 * Petals' client (NeurIPS'23) takes the chain with the least time per token: half a round trip, a fixed overhead per server and the
 * time of its layers, and ten seconds for a server without cache room for the request. It knows no load but the cache.
 *
 * Parallax (arXiv 2509.26182) takes the shortest path over a graph whose vertices are the layers' latency on each node under its
 * load now and whose edges are round trips; a node without memory is out.
 *
 * Neither says how many requests to have in flight: offline keeps a fixed number.
 */
import { assert } from "../../domain/assert.ts";
import { interpolate } from "../../domain/cluster.ts";
import type { GraphEdge } from "./graph-parts.ts";
import { KvRoom } from "./kv-room.ts";
import { type LayoutGraph, layersAt } from "./layout-graph.ts";
import type { PullMoment, RouteRequest, Router, RouterName, RouterSettings, Way } from "./router.ts";
import { pullSteady, steadyRequests } from "./swarm-router.ts";
import { WaySearch } from "./way-search.ts";

const PETALS_SERVER_OVERHEAD_S = 0.018;
const PETALS_NO_CACHE_S = 10;
/** A profile knows no batch below this. */
const BATCH_MIN = 2;

abstract class PathRouter implements Router {
  abstract readonly name: RouterName;
  readonly style = "whole";
  readonly isDroppingOffline = false;
  protected readonly graph: LayoutGraph;
  protected readonly room: KvRoom;
  readonly #search: WaySearch;
  readonly #inFlight: number;
  readonly #sequences: Float64Array;

  constructor(settings: RouterSettings) {
    const { graph } = settings;
    this.graph = graph;
    this.room = new KvRoom(graph, {
      outputTokensExpected: graph.cluster.model.outputTokensMean,
      highWaterShare: 1,
    });
    this.#search = new WaySearch(graph);
    this.#inFlight = steadyRequests(settings);
    this.#sequences = new Float64Array(graph.sink + 1);
  }

  /** Seconds of one token over the edge and through the node at its end; null when it may not be used. */
  protected abstract tokenSeconds(request: RouteRequest, edge: GraphEdge, sequences: number): number | null;

  route(request: RouteRequest): Way | null {
    const way = this.#search.find((edge) => {
      const seconds = this.tokenSeconds(request, edge, this.#sequences[edge.to] ?? 0);
      return seconds === null ? null : { cost: seconds, seconds };
    });
    if (way === null) return null;
    this.room.add(request, way);
    this.#count(way, 1);
    return way;
  }

  nextEdge(): number {
    assert(false, `the ${this.name} router plans whole ways`);
  }

  pull(moment: PullMoment): number {
    return pullSteady(moment, this.#inFlight);
  }

  released(request: RouteRequest, way: Way): void {
    this.room.remove(request, way);
    this.#count(way, -1);
  }

  /** One layer-run of the node at the edge's end for a batch. */
  protected batchSeconds(edge: GraphEdge, sequences: number): number {
    const curve = this.graph.nodes[edge.to]?.machine.decodeSecondsPerLayer;
    return curve === undefined ? 0 : layersAt(this.graph, edge) * interpolate(curve, Math.max(BATCH_MIN, sequences));
  }

  #count(way: Way, change: 1 | -1): void {
    for (const index of way) {
      const to = this.graph.edges[index]?.to ?? this.graph.sink;
      this.#sequences[to] = (this.#sequences[to] ?? 0) + change;
    }
  }
}

export class PetalsRouter extends PathRouter {
  readonly name = "petals";

  protected tokenSeconds(request: RouteRequest, edge: GraphEdge): number {
    const isServer = edge.to !== this.graph.sink;
    const penaltyS = this.room.fits(request, edge.to) ? 0 : PETALS_NO_CACHE_S;
    return edge.latencyS + (isServer ? PETALS_SERVER_OVERHEAD_S : 0) + this.batchSeconds(edge, 1) + penaltyS;
  }
}

export class ParallaxRouter extends PathRouter {
  readonly name = "parallax";

  protected tokenSeconds(request: RouteRequest, edge: GraphEdge, sequences: number): number | null {
    if (!this.room.fits(request, edge.to)) return null;
    return edge.latencyS + this.batchSeconds(edge, sequences + 1);
  }
}
