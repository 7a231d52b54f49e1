/**
 * Laying a run of layers over a set of near nodes: split the nodes into parallel chains, within a chain pair up like machines as
 * replicas of one stage, and hand out the layers one by one to whoever bears the next one best. What "best" means is the
 * criterion: the room that is left for KV, the profiled rate, or the time that a pass takes. All three are tried, with several
 * numbers of chains and replicas, because which one binds depends on the cluster.
 */
import type { ClusterTables } from "./cluster-tables.ts";
import type { Draft } from "./draft.ts";

export const FILL_CRITERIA = ["room", "rate", "speed"] as const;
export type FillCriterion = (typeof FILL_CRITERIA)[number];

export interface FillMode {
  readonly chains: number;
  /** Like machines that hold the same interval. */
  readonly replicas: number;
  readonly criterion: FillCriterion;
}

const CHAINS_MAX = 4;
const REPLICAS_MAX = 4;

export const FILL_MODES: readonly FillMode[] = FILL_CRITERIA.flatMap((criterion) =>
  range(CHAINS_MAX).flatMap((chains) => range(REPLICAS_MAX).map((replicas) => ({ criterion, chains, replicas }))),
).filter(({ chains, replicas }) => chains * replicas <= CHAINS_MAX);

/** Lays `[first, end)` over the nodes; false (and the draft unchanged) when some chain cannot hold it all. */
export function fill(
  tables: ClusterTables,
  draft: Draft,
  task: { nodes: readonly number[]; first: number; end: number; mode: FillMode },
): boolean {
  const chains = splitChains(tables, task.nodes, task.mode.chains);
  const laid: { stage: readonly number[]; layers: number }[][] = [];
  for (const chain of chains) {
    const stages = pairUp(tables, chain, task.mode.replicas);
    const sizes = handOut(tables, stages, { layers: task.end - task.first, criterion: task.mode.criterion });
    if (sizes === null) return false;
    laid.push(stages.map((stage, at) => ({ stage, layers: sizes[at] ?? 0 })));
  }
  for (const chain of laid) {
    let at = task.first;
    for (const { stage, layers } of chain) {
      for (const node of stage) {
        draft.first[node] = at;
        draft.end[node] = at + layers;
      }
      at += layers;
    }
  }
  return true;
}

/** Strongest nodes first, dealt out like cards, there and back, so that the chains come out alike. */
function splitChains(tables: ClusterTables, nodes: readonly number[], count: number): number[][] {
  const chains: number[][] = Array.from({ length: count }, () => []);
  const strongestFirst = byStrength(tables, nodes);
  for (const [at, node] of strongestFirst.entries()) {
    const turn = at % (2 * count);
    chains[turn < count ? turn : 2 * count - 1 - turn]?.push(node);
  }
  return chains;
}

function byStrength(tables: ClusterTables, nodes: readonly number[]): number[] {
  const strength = (node: number): number => {
    const most = tables.layersMax[node] ?? 0;
    return most * (tables.tokensPerSecond[node * tables.stride + most] ?? 0);
  };
  return [...nodes].sort((a, b) => strength(b) - strength(a) || a - b);
}

/** Neighbours in strength that are the same machine stand together; the odd one out stands alone. */
function pairUp(tables: ClusterTables, chain: readonly number[], replicas: number): number[][] {
  const stages: number[][] = [];
  for (const node of byStrength(tables, chain)) {
    const open = stages.at(-1);
    const like = open?.[0];
    const isLike = like !== undefined && tables.nodes[like]?.machine.name === tables.nodes[node]?.machine.name;
    if (open !== undefined && isLike && open.length < replicas) open.push(node);
    else stages.push([node]);
  }
  return stages;
}

/** Layers per stage that add up to `layers`; null when they cannot. */
function handOut(
  tables: ClusterTables,
  stages: readonly (readonly number[])[],
  task: { layers: number; criterion: FillCriterion },
): number[] | null {
  const sizes = stages.map(() => 0);
  const bear = stages.map((stage) => stageWorth(tables, stage, { layers: 1, criterion: task.criterion }));
  for (let layer = 0; layer < task.layers; layer++) {
    let best = -1;
    for (let stage = 0; stage < stages.length; stage++) {
      const worth = bear[stage] ?? Number.NEGATIVE_INFINITY;
      if (worth > Number.NEGATIVE_INFINITY && (best === -1 || worth > (bear[best] ?? 0))) best = stage;
    }
    const stage = stages[best];
    if (stage === undefined) return null;
    const size = (sizes[best] ?? 0) + 1;
    sizes[best] = size;
    bear[best] = stageWorth(tables, stage, { layers: size + 1, criterion: task.criterion });
  }
  return sizes;
}

/** How well the stage bears to hold so many layers; -Infinity when a node of it cannot. */
function stageWorth(
  tables: ClusterTables,
  stage: readonly number[],
  more: { layers: number; criterion: FillCriterion },
): number {
  let sum = 0;
  for (const node of stage) {
    if (more.layers > (tables.layersMax[node] ?? 0)) return Number.NEGATIVE_INFINITY;
    const at = node * tables.stride + more.layers;
    if (more.criterion === "room") sum += (tables.kvTokenLayers[at] ?? 0) / more.layers;
    else if (more.criterion === "rate") sum += tables.tokensPerSecond[at] ?? 0;
    // A busy node goes round its layers: k layers cost k x k turns, so the next one costs 2k - 1.
    else sum -= (2 * more.layers - 1) * (tables.layerSeconds[node] ?? 0);
  }
  return more.criterion === "speed" ? sum / stage.length : sum;
}

function range(most: number): number[] {
  return Array.from({ length: most }, (_, at) => at + 1);
}
