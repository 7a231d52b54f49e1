/**
 * The nodes that serve stages, as a cluster for the layout planner (scheduler/layout): what each could do with k layers of the model,
 * by the same speed model as whole replicas, and the links that were measured between them.
 *
 * Of a node only its largest device counts, and a quarter of that is left for the KV cache. The round trip to the coordinator is the one
 * that the node measures; how much goes over that way is not known and taken as one figure for all.
 */
import {
  type BatchLimits,
  type Cluster,
  type ClusterLink,
  type ClusterNode,
  type MachineProfile,
  SINK,
  SOURCE,
} from "../../domain/cluster.ts";
import type { ModelState, PlacementState } from "./placement-state.ts";
import type { ModelVariant } from "./plan-question.ts";
import { COMPUTE_BYTES } from "./slots.ts";
import { promptTokenSeconds, stepSeconds } from "./speed-model.ts";

const WEIGHTS_SHARE = 0.75;
/** Sequences of a batch at which a stage's rate is told. */
const BATCH = 16;
const BATCH_MAX = 64;
const PROMPT_TOKENS_MAX = 2_048;
const PROMPT_REQUESTS_MAX = 8;
/** 1 Gbit/s: of every node, to the coordinator; and a good line where the round trip is not measured. */
const COORDINATOR_BYTES_PER_SECOND = 125_000_000;
const COORDINATOR_LATENCY_SECONDS = 0.02;
/** f16 of a hidden state. */
const BYTES_PER_ELEMENT = 2;
const TOKEN_BYTES = 4;

/** `rows`: nodes of the grid that may be part of it. */
export function stageCluster(
  grid: PlacementState,
  state: ModelState,
  from: { variant: ModelVariant; rows: readonly number[] },
): Cluster {
  const { model, mix } = state;
  const nodes = from.rows.flatMap((row) => clusterNode(grid, state, { row, variant: from.variant }));
  return {
    name: model.modelId,
    model: {
      layerCount: model.layerCount,
      layerBytes: from.variant.fileBytes / model.layerCount,
      tokenBytes: TOKEN_BYTES,
      activationBytes: model.embeddingLength * BYTES_PER_ELEMENT,
      promptTokensMean: mix.promptTokensMean,
      outputTokensMean: mix.outputTokensMean,
    },
    nodes,
    links: links(grid, from.rows),
    layouts: new Map(),
  };
}

function clusterNode(
  grid: PlacementState,
  state: ModelState,
  on: { row: number; variant: ModelVariant },
): readonly ClusterNode[] {
  const { nodes, names } = grid.question.grid;
  const id = nodes.ids[on.row];
  const machine = machineOf(grid, state, on);
  if (id === undefined || machine.layersMax < 1) return [];
  const named = (column: Int32Array) => names[column[on.row] ?? -1] ?? null;
  return [
    {
      id,
      machine,
      region: named(nodes.region),
      owner: named(nodes.owner),
      network: named(nodes.network),
      trust: nodes.trust[on.row] ?? 1,
      priceMicroUsdPerHour: nodes.priceMicroUsdPerHour[on.row] ?? 0,
      survivalPerHour: (nodes.stayChance[on.row] ?? 1) ** (3_600_000 / grid.question.horizonMs),
      gramsCo2PerHour: nodes.gramsCo2PerHour[on.row] ?? 0,
      layersMax: machine.layersMax,
    },
  ];
}

function machineOf(
  grid: PlacementState,
  state: ModelState,
  on: { row: number; variant: ModelVariant },
): MachineProfile {
  const { nodes } = grid.question.grid;
  const { layerCount } = state.model;
  const { fileBytes, kvBytesPerToken } = on.variant;
  let device = nodes.deviceFrom[on.row] ?? 0;
  for (let other = device; other < (nodes.deviceFrom[on.row + 1] ?? 0); other++) {
    if ((grid.freeBytes[other] ?? 0) > (grid.freeBytes[device] ?? 0)) device = other;
  }
  const freeBytes = Math.max(0, (grid.freeBytes[device] ?? 0) - COMPUTE_BYTES);
  const layerBytes = fileBytes / layerCount;
  const layersMax = Math.min(layerCount, Math.floor((freeBytes * WEIGHTS_SHARE) / layerBytes));
  const speed = grid.speedOn({ node: on.row, device, variant: on.variant });
  const counts = Array.from({ length: layersMax + 1 }, (_, layers) => layers);
  const kvTokenLayers = counts.map((layers) =>
    Math.max(0, ((freeBytes - layers * layerBytes) * layerCount) / Math.max(1, kvBytesPerToken)),
  );
  return {
    name: speed.isGpu ? "gpu" : "cpu",
    layersMax,
    tokensPerSecondByLayers: counts.map((layers) =>
      layers === 0 ? 0 : (BATCH * layerCount) / (layers * stepSeconds(speed, BATCH)),
    ),
    kvTokenLayersByLayers: kvTokenLayers,
    promptSecondsPerLayer: {
      x: [1, PROMPT_TOKENS_MAX],
      y: [1, PROMPT_TOKENS_MAX].map((tokens) => (tokens * promptTokenSeconds(speed)) / layerCount),
    },
    decodeSecondsPerLayer: {
      x: [1, BATCH_MAX],
      y: [1, BATCH_MAX].map((sequences) => stepSeconds(speed, sequences) / layerCount),
    },
    limitsByLayers: kvTokenLayers.map(
      (room, layers): BatchLimits => ({
        promptRequestsMax: PROMPT_REQUESTS_MAX,
        promptTokensMax: PROMPT_TOKENS_MAX,
        decodeContextTokensMax: room / Math.max(1, layers),
        decodeTokensMax: BATCH_MAX,
      }),
    ),
    nicInBytesPerSecond: COORDINATOR_BYTES_PER_SECOND * 10,
    nicOutBytesPerSecond: COORDINATOR_BYTES_PER_SECOND * 10,
    vramBytes: freeBytes,
  };
}

/** Both ways of each measured link, and of each node to the coordinator. */
function links(grid: PlacementState, rows: readonly number[]): readonly ClusterLink[] {
  const { nodes, links: measured } = grid.question.grid;
  const known = new Map<string, ClusterLink>();
  const add = (link: ClusterLink) => {
    const key = `${link.from} ${link.to}`;
    if (!known.has(key)) known.set(key, link);
  };
  for (const row of rows) {
    const from = nodes.ids[row];
    if (from === undefined) continue;
    const rttMs = nodes.rttMs[row] ?? Number.NaN;
    const latencySeconds = Number.isNaN(rttMs) ? COORDINATOR_LATENCY_SECONDS : rttMs / 2_000;
    const toCoordinator = { bytesPerSecond: COORDINATOR_BYTES_PER_SECOND, latencySeconds };
    add({ from: SOURCE, to: from, ...toCoordinator });
    add({ from, to: SINK, ...toCoordinator });
    for (let at = nodes.linkFrom[row] ?? 0; at < (nodes.linkFrom[row + 1] ?? 0); at++) {
      const other = measured.to[at] ?? -1;
      const to = nodes.ids[other];
      if (to === undefined || !rows.includes(other)) continue;
      const bytesPerSecond = measured.bytesPerSecond[at] ?? 0;
      const latencySeconds = (measured.rttMs[at] ?? 0) / 2_000;
      add({ from, to, bytesPerSecond, latencySeconds });
      add({ from: to, to: from, bytesPerSecond, latencySeconds });
    }
  }
  return [...known.values()];
}
