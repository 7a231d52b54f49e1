/**
 * How the published runs were set up (artefact of Helix, ASPLOS'25, its simulation scripts and cluster files): how many requests the
 * routers without admission keep in flight, what arrives online, and how separate pipelines are cut. Our runs are calibrated with
 * these settings and nothing else; the figures they are held against are in `published.json` of the shared data.
 */
import { assert } from "../../src/domain/assert.ts";
import type { Cluster, LayerInterval, Layout } from "../../src/domain/cluster.ts";

export type Cell = "single24" | "geo24";
export const CELLS: readonly Cell[] = ["single24", "geo24"];

/** Prompt and output tokens per second that arrive online. */
export const ONLINE_TOKENS_PER_SECOND = {
  single24: { helix: 700, swarm: 350 },
  geo24: { helix: 320, swarm: 160 },
} as const;

/** Requests that SWARM's router kept in flight offline, on both settings. */
export const SWARM_OFFLINE_REQUESTS = 180;

/** One of the separate pipelines: all machines of one type, stages from the first layers on. */
export interface SeparatePipeline {
  readonly machine: "A100" | "L4" | "T4";
  /** Position among the machines of the type in the cluster file, layers held, KV room in tokens x layers. */
  readonly stages: readonly (readonly [position: number, layers: number, kvTokenLayers: number])[];
  readonly offlineRequests: number;
  readonly onlineTokensPerSecond: number;
}

type Stages = SeparatePipeline["stages"];

/** Equal stages on the machines at these positions. */
function equal(positions: readonly number[], layers: number, kvTokenLayers: number): Stages {
  return positions.map((position): [number, number, number] => [position, layers, kvTokenLayers]);
}

const A100S = [0, 1, 2, 3];
const L4S = [0, 1, 2, 3, 4, 5, 6, 7];

export const SEPARATE: Readonly<Record<Cell, readonly SeparatePipeline[]>> = {
  single24: [
    { machine: "A100", stages: equal(A100S, 20, 491_900), offlineRequests: 18, onlineTokensPerSecond: 240 },
    { machine: "L4", stages: equal(L4S, 10, 593_600), offlineRequests: 40, onlineTokensPerSecond: 120 },
    {
      machine: "T4",
      stages: [...equal(A100S, 6, 216_960), ...equal([4, 5, 6, 7, 8, 9, 10, 11], 7, 44_800)],
      offlineRequests: 3,
      onlineTokensPerSecond: 10,
    },
  ],
  geo24: [
    { machine: "A100", stages: equal(A100S.toReversed(), 20, 35_200), offlineRequests: 1, onlineTokensPerSecond: 1 },
    { machine: "L4", stages: equal(L4S.toReversed(), 10, 786_080), offlineRequests: 60, onlineTokensPerSecond: 120 },
    {
      machine: "T4",
      stages: [...equal([1, 9, 8, 5, 10, 2, 3, 7], 7, 456_960), ...equal([4, 0, 11, 6], 6, 794_976)],
      offlineRequests: 50,
      onlineTokensPerSecond: 60,
    },
  ],
};

export interface PipelineSetup {
  readonly layout: Layout;
  readonly kvTokenLayers: ReadonlyMap<string, number>;
}

export function pipelineSetup(cluster: Cluster, { machine, stages }: SeparatePipeline): PipelineSetup {
  const ids = cluster.nodes.filter((node) => node.machine.name === machine).map(({ id }) => id);
  const layout = new Map<string, LayerInterval>();
  const kvTokenLayers = new Map<string, number>();
  let first = 0;
  for (const [position, layers, room] of stages) {
    const id = ids[position];
    assert(id !== undefined, `${cluster.name} has a ${machine} number ${position}`);
    layout.set(id, { first, end: first + layers });
    kvTokenLayers.set(id, room);
    first += layers;
  }
  return { layout, kvTokenLayers };
}
