/**
 * What decides the way of a request through a layout. A router runs at the coordinator: it knows the layout's graph, the requests
 * that it sent out and what came back, and what nodes report of themselves (`LiveState`). It never knows how long an answer will be.
 *
 * A way is chosen once and kept to the end of the request, because its KV cache lies along it: whole at the coordinator (`route`)
 * or hop by hop with the first pass (`nextEdge`). Routers are deterministic; where one draws, it is given the draws.
 */
import type { LayoutGraph } from "./layout-graph.ts";

export const ROUTER_NAMES = ["ours", "helix", "swarm", "random", "shortest-queue", "petals", "parallax"] as const;
export type RouterName = (typeof ROUTER_NAMES)[number];

export interface RouteRequest {
  /** Unique within a run; ascending in order of arrival. */
  readonly id: number;
  readonly promptTokens: number;
}

/** What nodes and links report; vertices and edges by number. */
export interface LiveState {
  /** Requests that wait at the node's first layer. */
  queueLength(vertex: number): number;
  /** Share of the node's KV room that is in use, 0 to 1. */
  kvUsedShare(vertex: number): number;
  /** Seconds until the link has sent what it was given. */
  linkBacklogS(edge: number): number;
}

/** Edge numbers from the source to the sink. */
export type Way = readonly number[];

/** When an offline router may ask for further requests. */
export type PullMoment = "start" | "sent" | "prompt-done" | "ended" | "refused";

export interface Router {
  readonly name: RouterName;
  /** How the way is found. */
  readonly style: "whole" | "hop-by-hop";
  /** Whether a request without room is dropped in offline mode (Helix); otherwise it waits at the coordinator. */
  readonly isDroppingOffline: boolean;
  /** Null: no way has room now. It is asked again when something ended. Only for style "whole". */
  route(request: RouteRequest, nowS: number, live: LiveState): Way | null;
  /** The next edge from `vertex`. Only for style "hop-by-hop", and only for the first pass of a request. */
  nextEdge(request: RouteRequest, vertex: number, nowS: number, live: LiveState): number;
  /** Offline: how many further requests to issue now. */
  pull(moment: PullMoment, nowS: number): number;
  /** One decode step was sent along the way. */
  stepSent?(request: RouteRequest, way: Way): void;
  /** A decode step came back: seconds since it was sent. */
  stepDone?(request: RouteRequest, way: Way, seconds: number): void;
  /** A hop ended: seconds from the start of sending on the edge to the end of the node's work. */
  hopDone?(edge: number, seconds: number): void;
  promptDone?(request: RouteRequest, way: Way, nowS: number): void;
  /** The request ended or lost its way; what it held is free. */
  released?(request: RouteRequest, way: Way, nowS: number): void;
}

export interface RouterSettings {
  readonly graph: LayoutGraph;
  readonly mode: "offline" | "online";
  /** 0 <= draw < 1. */
  readonly draw: () => number;
  /** Requests kept in flight offline by routers that know no admission; null: a share of what the KV room holds. */
  readonly offlineRequests: number | null;
}
