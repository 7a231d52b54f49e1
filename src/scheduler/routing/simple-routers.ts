/**
 * The two routers without a model of anything: any neighbour, or the neighbour with the shortest queue. Hop by hop, links that are
 * free go first. No admission: offline keeps a fixed number of requests in flight.
 */
import { assert } from "../../domain/assert.ts";
import { type LayoutGraph, reachesSink } from "./layout-graph.ts";
import type { LiveState, PullMoment, RouteRequest, Router, RouterName, RouterSettings, Way } from "./router.ts";
import { pullSteady, steadyRequests } from "./swarm-router.ts";

abstract class NeighbourRouter implements Router {
  abstract readonly name: RouterName;
  readonly style = "hop-by-hop";
  readonly isDroppingOffline = false;
  readonly #graph: LayoutGraph;
  readonly #reaches: Uint8Array;
  readonly #inFlight: number;
  readonly #draw: () => number;

  constructor(settings: RouterSettings) {
    this.#graph = settings.graph;
    this.#draw = settings.draw;
    this.#reaches = reachesSink(settings.graph);
    this.#inFlight = steadyRequests(settings);
  }

  /** The edges among which any will do. */
  protected abstract shortlist(edges: readonly number[], graph: LayoutGraph, live: LiveState): readonly number[];

  nextEdge(_request: RouteRequest, vertex: number, _nowS: number, live: LiveState): number {
    const edges = (this.#graph.outEdges[vertex] ?? []).filter(
      (index) => this.#reaches[this.#graph.edges[index]?.to ?? 0] === 1,
    );
    const best = this.shortlist(edges, this.#graph, live);
    const free = best.filter((index) => live.linkBacklogS(index) === 0);
    const list = free.length > 0 ? free : best;
    const chosen = list[Math.floor(this.#draw() * list.length)];
    assert(chosen !== undefined, `vertex ${vertex} has a way to the sink`);
    return chosen;
  }

  route(): Way | null {
    assert(false, `the ${this.name} router plans hop by hop`);
  }

  pull(moment: PullMoment): number {
    return pullSteady(moment, this.#inFlight);
  }
}

export class RandomRouter extends NeighbourRouter {
  readonly name = "random";

  protected shortlist(edges: readonly number[]): readonly number[] {
    return edges;
  }
}

export class ShortestQueueRouter extends NeighbourRouter {
  readonly name = "shortest-queue";

  protected shortlist(edges: readonly number[], graph: LayoutGraph, live: LiveState): readonly number[] {
    const lengths = edges.map((index) => live.queueLength(graph.edges[index]?.to ?? graph.sink));
    const least = Math.min(...lengths);
    return edges.filter((_, at) => lengths[at] === least);
  }
}
