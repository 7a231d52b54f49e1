/**
 * Models that no single node can hold: one chain of stages for each, over nodes that serve stages. A chain that is there counts as a replica of its model,
 * so none is planned beside it unless the model wants several, and no serving chain is given up for a better one: only a lost stage is replaced
 * (scheduler/chains/repair-chain.ts).
 *
 * Where there is no room, idle replicas above their models' warm numbers go if that makes some (unload-orders.ts), and the next plan finds it.
 *
 * Of a node its roomiest device takes the stage. A node that holds the model in any way takes none, nor one that lately failed to load it; nodes that serve
 * no stages are counted by that name, and of a model that is not known to be the same in stages all of them.
 */
import type { ModelId } from "../../domain/ids.ts";
import { findChain } from "../chains/find-chain.ts";
import { stageSizes, stageWeightsBytes } from "../chains/stage-bytes.ts";
import { hopSeconds, speedOfChain, stageNode } from "./chain-speed.ts";
import { OBSTACLES, UNKNOWN } from "./grid-columns.ts";
import type { ModelState, PlacementState } from "./placement-state.ts";
import { type ChainOrder, type ModelVariant, pairKey } from "./plan-question.ts";
import { sizeReplica } from "./slots.ts";
import { countLoser, type LoserReason } from "./snapshot.ts";
import { movedBytes, ruleAllows } from "./spots.ts";
import { type Leaving, roomForChain } from "./unload-orders.ts";

export interface Chains {
  readonly orders: readonly ChainOrder[];
  /** Idle replicas that go, so that a chain finds room in the next plan. */
  readonly room: readonly Leaving[];
  /** Of models that a chain is planned for or lacks: how many nodes each reason kept out. */
  readonly losers: ReadonlyMap<ModelId, ReadonlyMap<LoserReason, number>>;
}

/** Nodes over which a chain is looked for, the roomiest: some milliseconds for each number of stages. */
const CHAIN_NODES_MAX = 40;
/** Models for which a plan looks for chains; the others wait for the next plan's turn. */
const CHAINED_MODELS_MAX = 4;

/** Adds what it orders to the placement. `gone`: rows of replicas that go already. */
export function planChains(grid: PlacementState, short: readonly ModelState[], gone: ReadonlySet<number>): Chains {
  const orders: ChainOrder[] = [];
  const room: Leaving[] = [];
  const losers = new Map<ModelId, ReadonlyMap<LoserReason, number>>();
  let looked = 0;
  for (const state of short) {
    if (fitsSomewhere(grid, state)) continue;
    losers.set(state.model.modelId, stageLosers(grid, state));
    if (state.model.canSplit === false || looked >= CHAINED_MODELS_MAX) continue;
    looked += 1;
    const order = orderChain(grid, state);
    if (order !== null) orders.push(order);
    else room.push(...roomOver(grid, state, new Set([...gone, ...room.map(({ row }) => row)])));
  }
  return { orders, room, losers };
}

function roomOver(grid: PlacementState, state: ModelState, gone: ReadonlySet<number>): readonly Leaving[] {
  const { nodes } = grid.question.grid;
  const rows = [...nodes.ids.keys()].filter((row) => canTake(grid, state, row) && ruleAllows(grid, state, row));
  const devices = rows.flatMap((node) => {
    const from = nodes.deviceFrom[node] ?? 0;
    return Array.from({ length: (nodes.deviceFrom[node + 1] ?? from) - from }, (_, at) => from + at);
  });
  for (const variant of state.model.variants) {
    const find = () => findOver(grid, state, { variant, rows })?.stages ?? null;
    const leaving = roomForChain(grid, state, { devices, gone, find });
    if (leaving.length > 0) return leaving;
  }
  return [];
}

function orderChain(grid: PlacementState, state: ModelState): ChainOrder | null {
  const able = [...grid.question.grid.nodes.ids.keys()].filter((row) => canTake(grid, state, row));
  const allowed = able.filter((row) => ruleAllows(grid, state, row));
  for (const variant of state.model.variants) {
    const order = chainOver(grid, state, { variant, rows: allowed });
    if (order !== null) return order;
  }
  // A warm replica that no node may hold for today's demand still goes where it can: others may ask.
  const [variant] = state.model.variants;
  const isWarm = state.replicas.length < state.model.warmReplicas;
  if (!isWarm || variant === undefined || allowed.length === able.length) return null;
  return chainOver(grid, state, { variant, rows: able });
}

/** The chain that there would be, on which nodes' devices. */
function findOver(
  grid: PlacementState,
  state: ModelState,
  over: { readonly variant: ModelVariant; readonly rows: readonly number[] },
) {
  const { model } = state;
  const { question } = grid;
  const { variant } = over;
  const places = over.rows
    .map((node) => ({ node, device: roomiestDevice(grid, node) }))
    .sort((a, b) => (grid.freeBytes[b.device] ?? 0) - (grid.freeBytes[a.device] ?? 0) || a.node - b.node)
    .slice(0, CHAIN_NODES_MAX)
    .sort((a, b) => a.node - b.node);
  const tier = state.classes[0]?.demand.tier ?? "default";
  const sizes = stageSizes(model, variant);
  const found = findChain({
    sizes,
    nodes: places.map(({ node, device }) => stageNode(grid, state, { node, device, variant })),
    hopSeconds: (from, to) => hopSeconds(grid, places[from]?.node ?? UNKNOWN, places[to]?.node ?? UNKNOWN),
    stagesMax: question.tiers[tier].stagesMax,
    contextTokensNeeded: question.waiting.get(model.modelId)?.tokensNeeded ?? 0,
    ...(model.stageCountsRefused === undefined ? {} : { countsRefused: model.stageCountsRefused }),
  });
  if (found === null) return null;
  const stages = found.stages.map((stage) => {
    const { node = UNKNOWN, device = UNKNOWN } = places[stage.node] ?? {};
    return { ...stage, node, device };
  });
  return { stages, shape: found.shape, sizes };
}

function chainOver(
  grid: PlacementState,
  state: ModelState,
  over: { readonly variant: ModelVariant; readonly rows: readonly number[] },
): ChainOrder | null {
  const { model } = state;
  const { question } = grid;
  const { variant } = over;
  const found = findOver(grid, state, over);
  if (found === null) return null;
  const { stages, shape, sizes } = found;
  occupy(grid, state, { stages, shape, variant });
  const { nodes, devices, names } = question.grid;
  const ordered = stages.flatMap(({ node, device, first, count, memoryBytes }) => {
    const nodeId = nodes.ids[node];
    const deviceId = names[devices.name[device] ?? UNKNOWN];
    return nodeId === undefined || deviceId === undefined ? [] : [{ nodeId, deviceId, first, count, memoryBytes }];
  });
  const fetched = stages.filter(({ node }) => movedBytes(grid, variant, node) > 0);
  return {
    kind: "load-chain",
    modelId: model.modelId,
    weightsSha256: variant.weightsSha256,
    stages: ordered,
    ...shape,
    why: question.waiting.has(model.modelId) ? "waiting" : "warm",
    movedBytes: fetched.reduce((sum, range) => sum + stageWeightsBytes(sizes, range), 0),
  };
}

function occupy(
  grid: PlacementState,
  state: ModelState,
  placed: {
    readonly stages: readonly {
      readonly node: number;
      readonly device: number;
      readonly first: number;
      readonly count: number;
      readonly memoryBytes: number;
    }[];
    readonly shape: { readonly contextTokens: number; readonly sequencesMax: number };
    readonly variant: ModelVariant;
  },
): void {
  const { stages, shape, variant } = placed;
  const last = stages.at(-1);
  if (last === undefined) return;
  const { node, device, memoryBytes } = last;
  const speed = speedOfChain(grid, state, { stages, slots: shape.sequencesMax, variant, loopMs: Number.NaN });
  for (const stage of stages) grid.occupy(stage);
  grid.add(state, {
    row: UNKNOWN,
    node,
    device,
    variant,
    size: { ...shape, memoryBytes },
    isReady: false,
    slotsLeased: 0,
    served: 0,
    servedValue: 0,
    ...speed,
  });
}

function canTake(grid: PlacementState, state: ModelState, node: number): boolean {
  const { nodes } = grid.question.grid;
  const nodeId = nodes.ids[node];
  if (nodeId === undefined || OBSTACLES[nodes.obstacle[node] ?? 0] !== null) return false;
  if (nodes.hasStageServing[node] !== 1 || state.taken.has(node)) return false;
  return (grid.question.notBeforeMs.get(pairKey(nodeId, state.model.modelId)) ?? 0) <= grid.question.nowMs;
}

function roomiestDevice(grid: PlacementState, node: number): number {
  const { deviceFrom } = grid.question.grid.nodes;
  let best = deviceFrom[node] ?? 0;
  for (let device = best; device < (deviceFrom[node + 1] ?? 0); device++) {
    if ((grid.freeBytes[device] ?? 0) > (grid.freeBytes[best] ?? 0)) best = device;
  }
  return best;
}

/** On some node that is there, were nothing else on it. */
function fitsSomewhere(grid: PlacementState, { model }: ModelState): boolean {
  const { nodes, devices } = grid.question.grid;
  const { variants, contextTokensMax } = model;
  const largest = nodes.ids.reduce((most, _, node) => {
    if (nodes.obstacle[node] !== 0) return most;
    const own = devices.usableBytes.subarray(nodes.deviceFrom[node] ?? 0, nodes.deviceFrom[node + 1] ?? 0);
    return own.reduce((bytes, usable) => Math.max(bytes, usable), most);
  }, 0);
  return variants.some((variant) => sizeReplica({ ...variant, contextTokensMax }, largest).ok);
}

function stageLosers(grid: PlacementState, { model }: ModelState): ReadonlyMap<LoserReason, number> {
  const { nodes } = grid.question.grid;
  const losers = new Map<LoserReason, number>();
  nodes.ids.forEach((_, node) => {
    if (nodes.obstacle[node] !== 0) return;
    if (model.canSplit === false) countLoser(losers, "model-not-splittable");
    else if (nodes.hasStageServing[node] === 0) countLoser(losers, "serves-no-stages");
  });
  return losers;
}
