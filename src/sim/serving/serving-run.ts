/**
 * The serving simulator's front: a cluster, a layout, a router and a trace in, tokens per second and latencies out. What it models
 * and what it leaves out is in docs/serving-simulator.md, with its calibration against published figures.
 */
import { type Cluster, type Layout, SINK, SOURCE } from "../../domain/cluster.ts";
import type { FlowBottleneck } from "../../scheduler/layout/flow.ts";
import { isServable, type LayoutGraph, layoutGraph } from "../../scheduler/routing/layout-graph.ts";
import { openRouter } from "../../scheduler/routing/open-router.ts";
import type { RouterName } from "../../scheduler/routing/router.ts";
import { SeededRandom } from "../time/random.ts";
import { type Arrival, drawArrivals, drawLengths, servableRequests, type TraceRequest } from "./arrivals.ts";
import { ServingWorld } from "./serving-world.ts";
import { quantile } from "./tally.ts";
import type { WorldCounts } from "./world-meters.ts";

export type { TraceRequest } from "./arrivals.ts";

export interface ServingInput {
  readonly cluster: Cluster;
  readonly layout: Layout;
  readonly router: RouterName;
  /** Gives the mix of lengths and, online, the burstiness of arrivals. */
  readonly trace: readonly TraceRequest[];
  readonly mode: "offline" | "online";
  /** Counted from the first request on; what ends before is not measured. */
  readonly warmupS: number;
  readonly durationS: number;
  readonly seed: string;
  /** Node ids of independent pipelines: a request stays in the one where it starts. Absent: one graph. */
  readonly pipelines?: readonly (readonly string[])[];
  /** Online: mean prompt and output tokens per second that arrive. Absent: `defaultArrivalRate`, which costs a run more. */
  readonly arrivalTokensPerSecond?: number;
  /** Offline, routers without admission (swarm, random, shortest-queue, petals, parallax): requests kept in flight. */
  readonly offlineRequests?: number;
  /** KV room of single nodes where it is known better than by the profile, tokens x layers. */
  readonly kvTokenLayers?: ReadonlyMap<string, number>;
  readonly isPartialAllowed?: boolean;
}

export interface LatencyQuantiles {
  /** Seconds; null when nothing was measured. */
  readonly p50: number | null;
  readonly p95: number | null;
}

export interface NodeUse {
  readonly id: string;
  /** Share of the window in which it worked on a batch. */
  readonly busyShare: number;
  readonly kvPeakShare: number;
  readonly kvMeanShare: number;
  /** Of the whole run. */
  readonly tokensPerSecond: number;
  /** Mean decode steps per pass, of the whole run. */
  readonly batchMean: number;
}

export interface LinkUse {
  readonly from: string;
  readonly to: string;
  readonly busyShare: number;
}

export interface ServingOutcome {
  readonly decodeTokensPerSecond: number;
  readonly promptTokensPerSecond: number;
  /** Online: what arrived, prompt and output tokens per second; null offline. */
  readonly arrivedTokensPerSecond: number | null;
  /** From the request's arrival to its first answer at the coordinator, waiting included. */
  readonly promptLatencyS: LatencyQuantiles;
  /** From one token at the coordinator to the next. */
  readonly decodeLatencyS: LatencyQuantiles;
  /** Maximum flow of the layout, tokens per second; of all pipelines together where it has several. */
  readonly flow: number;
  readonly bottlenecks: readonly FlowBottleneck[];
  readonly nodes: readonly NodeUse[];
  /** Links that were busy for a twentieth of the window or more, busiest first. */
  readonly links: readonly LinkUse[];
  readonly counts: WorldCounts;
  readonly inFlightMean: number;
  /** Ascending seconds, for a distribution. */
  readonly promptLatencySamplesS: Float64Array;
  readonly decodeLatencySamplesS: Float64Array;
}

export type ServingResult =
  | { readonly ok: true; readonly outcome: ServingOutcome }
  | { readonly ok: false; readonly reason: { readonly code: "no-way" | "empty-trace"; readonly message: string } };

const OFFLINE_REQUEST_GAP_S = 0.1;
const DEFAULT_ARRIVAL_SHARE = 0.73;
const PROBE_WINDOW = { warmupS: 60, durationS: 600 } as const;
const LINK_SHOWN_SHARE_MIN = 0.05;

export function simulateServing(input: ServingInput): ServingResult {
  const { cluster, layout, mode } = input;
  const graph = layoutGraph(cluster, layout, {
    isPartialAllowed: input.isPartialAllowed ?? null,
    ...(input.pipelines === undefined ? {} : { pipelines: input.pipelines }),
    ...(input.kvTokenLayers === undefined ? {} : { kvTokenLayers: input.kvTokenLayers }),
  });
  if (!isServable(graph)) {
    return refuse(
      "no-way",
      `the layout has no way from the coordinator through layers 0 to ${cluster.model.layerCount - 1}`,
    );
  }
  const requests = servableRequests(input.trace, cluster);
  if (requests.length === 0) {
    return refuse("empty-trace", `none of the trace's ${input.trace.length} requests fits a batch of every machine`);
  }
  const random = new SeededRandom(`${input.seed}/serving`);
  const lengths = random.fork("lengths");
  const routing = random.fork("routing");
  const untilS = input.warmupS + input.durationS;
  const router = openRouter(input.router, {
    graph,
    mode,
    draw: () => routing.fraction(),
    offlineRequests: input.offlineRequests ?? null,
  });
  const arrivals = mode === "online" ? onlineArrivals(input, requests, untilS, random.fork("arrivals")) : [];
  const world = new ServingWorld({
    graph,
    router,
    window: { startS: input.warmupS, endS: untilS },
    arrivals,
    offline: mode === "offline" ? { draw: () => drawLengths(requests, lengths), gapS: OFFLINE_REQUEST_GAP_S } : null,
  });
  world.run();
  const arrived = arrivals.reduce((sum, { promptTokens, outputTokens }) => sum + promptTokens + outputTokens, 0);
  const arrivedTokensPerSecond = mode === "online" ? arrived / untilS : null;
  return {
    ok: true,
    outcome: { ...outcomeOf(world, graph, { durationS: input.durationS, untilS }), arrivedTokensPerSecond },
  };
}

/**
 * Prompt and output tokens per second that arrive when nothing is said: a share of what the layout serves offline under plain
 * round robin over its flow. The published online runs had 0.65 to 0.79 of each system's own offline rate, set by hand.
 */
export function defaultArrivalRate(input: ServingInput): number {
  const probe = simulateServing({ ...input, mode: "offline", router: "helix", ...PROBE_WINDOW });
  const requests = servableRequests(input.trace, input.cluster);
  const sum = (of: (request: TraceRequest) => number): number => requests.reduce((total, each) => total + of(each), 0);
  const outputs = sum(({ outputTokens }) => outputTokens);
  const tokensPerOutput = (outputs + sum(({ promptTokens }) => promptTokens)) / outputs;
  return probe.ok ? DEFAULT_ARRIVAL_SHARE * probe.outcome.decodeTokensPerSecond * tokensPerOutput : 0;
}

function onlineArrivals(
  input: ServingInput,
  requests: readonly TraceRequest[],
  untilS: number,
  random: SeededRandom,
): readonly Arrival[] {
  const tokensPerSecond = input.arrivalTokensPerSecond ?? defaultArrivalRate(input);
  return drawArrivals(requests, { tokensPerSecond, untilS }, random);
}

function refuse(code: "no-way" | "empty-trace", message: string): ServingResult {
  return { ok: false, reason: { code, message } };
}

type Measured = Omit<ServingOutcome, "arrivedTokensPerSecond">;

function nodeUse(world: ServingWorld, untilS: number): readonly NodeUse[] {
  return world.nodes.map((node) => ({
    id: node.profile.id,
    busyShare: world.meters.nodeBusyShare(node.vertex),
    kvPeakShare: node.profile.kvTokenLayers === 0 ? 0 : node.kvPeak / node.profile.kvTokenLayers,
    kvMeanShare: world.meters.kvMeanShare(node.vertex),
    tokensPerSecond: (node.promptTokensDone + node.decodeStepsDone) / untilS,
    batchMean: node.passesDone === 0 ? 0 : node.decodeStepsDone / node.passesDone,
  }));
}

/** The planner's figure; where that leaves nodes or pipelines out (more layers than profiled, separate ones), the graph's own. */
function flowOf(graph: LayoutGraph): number {
  if (!graph.isSplit && graph.flow.tokensPerSecond > 0) return graph.flow.tokensPerSecond;
  const edges = graph.outEdges[graph.source] ?? [];
  return edges.reduce((sum, index) => sum + (graph.edges[index]?.flowTokensPerSecond ?? 0), 0);
}

interface Spans {
  readonly durationS: number;
  readonly untilS: number;
}

function outcomeOf(world: ServingWorld, graph: LayoutGraph, { durationS, untilS }: Spans): Measured {
  const prompts = world.promptLatencies.sorted();
  const decodes = world.decodeLatencies.sorted();
  const nameOf = (vertex: number): string => graph.nodes[vertex]?.id ?? (vertex === graph.source ? SOURCE : SINK);
  const links = graph.edges
    .map((edge) => ({
      from: nameOf(edge.from),
      to: nameOf(edge.to),
      busyShare: world.meters.linkBusyShare(edge.index),
    }))
    .filter(({ busyShare }) => busyShare >= LINK_SHOWN_SHARE_MIN)
    .sort((a, b) => b.busyShare - a.busyShare || (a.from < b.from ? -1 : 1));
  return {
    decodeTokensPerSecond: world.counts.decodeTokens / durationS,
    promptTokensPerSecond: world.counts.promptTokens / durationS,
    promptLatencyS: { p50: quantile(prompts, 0.5), p95: quantile(prompts, 0.95) },
    decodeLatencyS: { p50: quantile(decodes, 0.5), p95: quantile(decodes, 0.95) },
    flow: flowOf(graph),
    bottlenecks: graph.flow.bottlenecks,
    nodes: nodeUse(world, untilS),
    links,
    counts: world.counts,
    inFlightMean: world.meters.inFlightMean(),
    promptLatencySamplesS: prompts,
    decodeLatencySamplesS: decodes,
  };
}
