/**
 * The machines of a simulated grid as a cluster for one model, which is how the layout planner sees them: profiles from the same speed
 * model by which the simulation runs, links from lines and round trips, and how likely each machine stays.
 */
import {
  type BatchLimits,
  type Cluster,
  type ClusterLink,
  type ClusterNode,
  type Curve,
  type MachineProfile,
  SINK,
  SOURCE,
} from "../../../domain/cluster.ts";
import type { GridNode } from "../grid/grid-parts.ts";
import { LAN_BYTES_PER_MS } from "../grid/request-progress.ts";
import { layersThatFit, prefillMs, SEQUENCES_MAX, stepMs, usableBytesOf } from "../grid/stage-speed.ts";
import type { GpuClass } from "../scenario/gpu-classes.ts";
import { LAN_RTT_MS, rttBetween, rttToCoordinator, type Scenario } from "../scenario/scenario.ts";
import type { ModelDemand } from "./policy.ts";
import type { SimModel } from "./served-mix.ts";

export interface ChainNode {
  readonly node: GridNode;
  readonly survivalPerHour: number;
  /** What using it takes from others. */
  readonly priceMicroUsdPerHour: number;
}

const TOKEN_BYTES = 4;
/** Points of the tables of times. */
const PROMPT_POINTS = [0, 256, 512, 1_024, 2_048, 4_096] as const;
const DECODE_POINTS = [0, 1, 2, 4, 8, 16] as const;

export function clusterOf(
  scenario: Scenario,
  spec: SimModel,
  of: { readonly nodes: readonly ChainNode[]; readonly demand: ModelDemand },
): Cluster {
  const promptTokensMean = Math.max(1, of.demand.promptTokensMean);
  const outputTokensMean = Math.max(1, of.demand.outputTokensMean);
  const profiles = new Map<string, MachineProfile>();
  const nodes = of.nodes.map(({ node, survivalPerHour, priceMicroUsdPerHour }): ClusterNode => {
    const { draw } = node;
    const key = `${draw.gpu.name} ${draw.downBytesPerMs} ${draw.upBytesPerMs}`;
    const machine = profiles.get(key) ?? profileOf(key, { node, spec, mix: { promptTokensMean, outputTokensMean } });
    profiles.set(key, machine);
    return {
      id: draw.name,
      machine,
      region: scenario.regionNames[draw.region] ?? null,
      owner: draw.owner,
      network: null,
      trust: 1,
      priceMicroUsdPerHour,
      survivalPerHour,
      gramsCo2PerHour: 0,
      layersMax: machine.layersMax,
    };
  });
  return {
    name: "churn",
    model: {
      layerCount: spec.layerCount,
      layerBytes: spec.layerBytes,
      tokenBytes: TOKEN_BYTES,
      activationBytes: spec.activationBytes,
      promptTokensMean,
      outputTokensMean,
    },
    nodes,
    links: linksOf(scenario, of.nodes),
    layouts: new Map(),
  };
}

function profileOf(
  name: string,
  of: {
    readonly node: GridNode;
    readonly spec: SimModel;
    readonly mix: { promptTokensMean: number; outputTokensMean: number };
  },
): MachineProfile {
  const { node, spec, mix } = of;
  const { gpu, downBytesPerMs, upBytesPerMs } = node.draw;
  const layersMax = layersThatFit(gpu, spec);
  const held = Array.from({ length: layersMax + 1 }, (_, layers) => layers);
  return {
    name,
    layersMax,
    tokensPerSecondByLayers: held.map((layers) => (layers === 0 ? 0 : tokensPerSecond(gpu, spec, { layers, ...mix }))),
    kvTokenLayersByLayers: held.map((layers) => (layers === 0 ? 0 : kvTokenLayers(gpu, spec, layers))),
    promptSecondsPerLayer: curve(PROMPT_POINTS, (tokens) =>
      tokens === 0 ? 0 : prefillMs(gpu, spec, { layers: layersMax, tokens }) / (1_000 * Math.max(1, layersMax)),
    ),
    decodeSecondsPerLayer: curve(DECODE_POINTS, (sequences) =>
      sequences === 0 ? 0 : stepMs(gpu, spec, { layers: layersMax, sequences }) / (1_000 * Math.max(1, layersMax)),
    ),
    limitsByLayers: held.map(() => LIMITS),
    nicInBytesPerSecond: Math.max(downBytesPerMs, LAN_BYTES_PER_MS) * 1_000,
    nicOutBytesPerSecond: Math.max(upBytesPerMs, LAN_BYTES_PER_MS) * 1_000,
    vramBytes: usableBytesOf(gpu),
  };
}

const LIMITS: BatchLimits = {
  promptRequestsMax: SEQUENCES_MAX,
  promptTokensMax: 4_096,
  decodeContextTokensMax: 65_536,
  decodeTokensMax: SEQUENCES_MAX,
};

/** Prompt and output tokens of mean requests that a full machine gets through. */
function tokensPerSecond(
  gpu: GpuClass,
  spec: SimModel,
  at: { readonly layers: number; readonly promptTokensMean: number; readonly outputTokensMean: number },
): number {
  const { layers, promptTokensMean, outputTokensMean } = at;
  const promptMs = prefillMs(gpu, spec, { layers, tokens: promptTokensMean });
  const decodeMs = (outputTokensMean * stepMs(gpu, spec, { layers, sequences: SEQUENCES_MAX })) / SEQUENCES_MAX;
  return (1_000 * (promptTokensMean + outputTokensMean)) / (promptMs + decodeMs);
}

function kvTokenLayers(gpu: GpuClass, spec: SimModel, layers: number): number {
  const bytes = usableBytesOf(gpu) - layers * spec.layerBytes - spec.endsBytes / 2;
  return Math.max(0, bytes / spec.kvBytesPerTokenLayer);
}

function curve(points: readonly number[], at: (x: number) => number): Curve {
  return { x: points, y: points.map(at) };
}

function linksOf(scenario: Scenario, nodes: readonly ChainNode[]): readonly ClusterLink[] {
  const links: ClusterLink[] = [];
  for (const { node: from } of nodes) {
    const latencySeconds = rttToCoordinator(scenario, from.draw) / 2_000;
    const { name, upBytesPerMs, downBytesPerMs } = from.draw;
    links.push({ from: SOURCE, to: name, bytesPerSecond: downBytesPerMs * 1_000, latencySeconds });
    links.push({ from: name, to: SINK, bytesPerSecond: upBytesPerMs * 1_000, latencySeconds });
    for (const { node: to } of nodes) {
      if (to === from) continue;
      const rttMs = rttBetween(scenario, from.draw, to.draw);
      const bytesPerMs = rttMs <= LAN_RTT_MS ? LAN_BYTES_PER_MS : Math.min(upBytesPerMs, to.draw.downBytesPerMs);
      links.push({ from: name, to: to.draw.name, bytesPerSecond: bytesPerMs * 1_000, latencySeconds: rttMs / 2_000 });
    }
  }
  return links;
}
