/**
 * SWARM's router (ICML'23), our implementation: hop by hop, each node draws the next one from a priority queue in which a choice
 * costs the moving average of the seconds that the last hops over that edge took. A faster or idler neighbour comes up more often.
 * No admission: offline keeps a fixed number of requests in flight.
 */
import { assert } from "../../domain/assert.ts";
import { kvRequestsMax } from "./kv-room.ts";
import { type LayoutGraph, reachesSink } from "./layout-graph.ts";
import type { PullMoment, RouteRequest, Router, RouterSettings, Way } from "./router.ts";

const FIRST_COST_S = 0.05;
/** Weight of the newest measurement. */
const SMOOTHING = 0.8;
/** Share of the requests that the KV room holds on average; the published runs kept 0.46 to 0.76 of it in flight. */
const OFFLINE_KV_SHARE = 0.65;

/** Requests in flight for routers that know no admission. */
export function steadyRequests(settings: RouterSettings): number {
  return settings.offlineRequests ?? Math.max(1, Math.floor(OFFLINE_KV_SHARE * kvRequestsMax(settings.graph)));
}

export class SwarmRouter implements Router {
  readonly name = "swarm";
  readonly style = "hop-by-hop";
  readonly isDroppingOffline = false;
  readonly #graph: LayoutGraph;
  readonly #costS: Float64Array;
  readonly #priority: Float64Array;
  readonly #reaches: Uint8Array;
  readonly #inFlight: number;

  constructor(settings: RouterSettings) {
    this.#graph = settings.graph;
    this.#costS = new Float64Array(settings.graph.edges.length).fill(FIRST_COST_S);
    this.#priority = new Float64Array(settings.graph.edges.length).fill(FIRST_COST_S);
    this.#reaches = reachesSink(settings.graph);
    this.#inFlight = steadyRequests(settings);
  }

  route(): Way | null {
    assert(false, "the swarm router plans hop by hop");
  }

  nextEdge(_request: RouteRequest, vertex: number): number {
    let best = -1;
    let bestPriority = Number.POSITIVE_INFINITY;
    for (const index of this.#graph.outEdges[vertex] ?? []) {
      if (this.#reaches[this.#graph.edges[index]?.to ?? 0] !== 1) continue;
      const priority = this.#priority[index] ?? 0;
      if (priority < bestPriority) [best, bestPriority] = [index, priority];
    }
    assert(best >= 0, `vertex ${vertex} has a way to the sink`);
    this.#priority[best] = bestPriority + (this.#costS[best] ?? 0);
    return best;
  }

  pull(moment: PullMoment): number {
    return pullSteady(moment, this.#inFlight);
  }

  hopDone(edge: number, seconds: number): void {
    this.#costS[edge] = SMOOTHING * seconds + (1 - SMOOTHING) * (this.#costS[edge] ?? 0);
  }
}

/** One for each that ended. */
export function pullSteady(moment: PullMoment, inFlight: number): number {
  if (moment === "start") return inFlight;
  return moment === "ended" ? 1 : 0;
}
