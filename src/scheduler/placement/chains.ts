/**
 * Models that no single node can hold. A group of nodes in one LAN comes before a chain across networks, and both only over nodes that
 * serve stages (scheduler/layout finds which node holds which layers); nodes that do not are counted by that name. Chains are told,
 * and ordered by nobody until nodes can run them.
 */
import type { ModelId, NodeId } from "../../domain/ids.ts";
import { planLayout } from "../layout/plan-layout.ts";
import type { ModelState, PlacementState } from "./placement-state.ts";
import type { ModelVariant, PlacedReplica, PlacementKind, StagePlace } from "./plan-question.ts";
import { CONTEXT_TOKENS_MIN, sizeReplica } from "./slots.ts";
import { countLoser, type LoserReason } from "./snapshot.ts";
import { ruleAllows } from "./spots.ts";
import { stageCluster } from "./stage-cluster.ts";

export interface Chains {
  readonly replicas: readonly PlacedReplica[];
  readonly losers: ReadonlyMap<LoserReason, number>;
}

/** One LAN: within a millisecond, at a GB a second at least (scheduling.md section 7.1). */
const LAN_RTT_MS_MAX = 1;
const LAN_BYTES_PER_SECOND_MIN = 1e9;
/** Nodes that a layout is looked for over, and layouts that it looks at: some tenths of a CPU-second for a model. */
const CHAIN_NODES_MAX = 40;
const EVALUATIONS_MAX = 4_000;
/** Models for which a plan looks for chains; the others wait for the next plan's turn. */
const CHAINED_MODELS_MAX = 4;

export function planChains(grid: PlacementState, short: readonly ModelState[]): ReadonlyMap<ModelId, Chains> {
  const tooLarge = short.filter((state) => !fitsSomewhere(grid, state));
  return new Map(
    tooLarge.map((state, at) => {
      const replica = at < CHAINED_MODELS_MAX ? chainOf(grid, state) : null;
      return [state.model.modelId, { replicas: replica === null ? [] : [replica], losers: stageLosers(grid) }];
    }),
  );
}

function chainOf(grid: PlacementState, state: ModelState): PlacedReplica | null {
  const { nodes } = grid.question.grid;
  const rows = [...nodes.ids.keys()].filter(
    (row) => nodes.obstacle[row] === 0 && nodes.hasStageServing[row] === 1 && ruleAllows(grid, state, row),
  );
  for (const variant of state.model.variants) {
    for (const group of lanGroups(grid, rows)) {
      const found = layoutOver(grid, state, { variant, rows: group, kind: "lan-group" });
      if (found !== null) return found;
    }
    const found = layoutOver(grid, state, { variant, rows, kind: "chain" });
    if (found !== null) return found;
  }
  return null;
}

function layoutOver(
  grid: PlacementState,
  state: ModelState,
  over: { variant: ModelVariant; rows: readonly number[]; kind: PlacementKind },
): PlacedReplica | null {
  if (over.rows.length < 2) return null;
  const { question } = grid;
  const largest = [...over.rows].sort((a, b) => roomOf(grid, b) - roomOf(grid, a) || a - b).slice(0, CHAIN_NODES_MAX);
  const rows = largest.sort((a, b) => a - b);
  const cluster = stageCluster(grid, state, { variant: over.variant, rows });
  const tier = state.classes[0]?.demand.tier ?? "default";
  const planned = planLayout({
    cluster,
    goals: { valueMicroUsdPerMtok: state.model.valueMicroUsdPerMtok },
    rules: { hopsMax: question.tiers[tier].stagesMax },
    evaluationsMax: EVALUATIONS_MAX,
  });
  if (!planned.ok) return null;
  const stages = [...planned.value.layout].sort(([a, x], [b, y]) => x.first - y.first || (a < b ? -1 : 1));
  const byId = new Map<string, NodeId>(question.grid.nodes.ids.map((nodeId) => [nodeId, nodeId]));
  const places = stages.flatMap(([id, { first, end }]): StagePlace[] => {
    const nodeId = byId.get(id);
    return nodeId === undefined ? [] : [{ nodeId, first, count: end - first }];
  });
  if (places.length === 0) return null;
  return {
    nodeIds: places.map(({ nodeId }) => nodeId),
    stages: places,
    deviceId: "",
    kind: over.kind,
    quantisation: over.variant.quantisation,
    slots: 1,
    contextTokens: Math.min(CONTEXT_TOKENS_MIN, state.model.contextTokensMax),
    tokPerSecond: planned.value.flow.tokensPerSecond,
    speed: null,
    isHeld: false,
  };
}

/** Nodes that are linked as in one LAN, largest group first. */
function lanGroups(grid: PlacementState, rows: readonly number[]): readonly (readonly number[])[] {
  const { nodes, links } = grid.question.grid;
  const group = new Map(rows.map((row) => [row, row]));
  for (const row of rows) {
    for (let at = nodes.linkFrom[row] ?? 0; at < (nodes.linkFrom[row + 1] ?? 0); at++) {
      const isLan = (links.rttMs[at] ?? 0) <= LAN_RTT_MS_MAX;
      const [mine, other] = [group.get(row), group.get(links.to[at] ?? -1)];
      if (!isLan || (links.bytesPerSecond[at] ?? 0) < LAN_BYTES_PER_SECOND_MIN) continue;
      if (mine === undefined || other === undefined || mine === other) continue;
      const least = Math.min(mine, other);
      for (const [member, of] of group) if (of === mine || of === other) group.set(member, least);
    }
  }
  const members = new Map<number, number[]>();
  for (const [row, of] of group) members.set(of, [...(members.get(of) ?? []), row]);
  const groups = [...members.values()].filter(({ length }) => length > 1);
  return groups.sort((a, b) => b.length - a.length || (a[0] ?? 0) - (b[0] ?? 0));
}

function roomOf(grid: PlacementState, row: number): number {
  const { deviceFrom } = grid.question.grid.nodes;
  const own = grid.freeBytes.subarray(deviceFrom[row] ?? 0, deviceFrom[row + 1] ?? 0);
  return own.reduce((most, bytes) => Math.max(most, bytes), 0);
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

function stageLosers(grid: PlacementState): ReadonlyMap<LoserReason, number> {
  const { nodes } = grid.question.grid;
  const losers = new Map<LoserReason, number>();
  nodes.ids.forEach((_, node) => {
    if (nodes.obstacle[node] === 0 && nodes.hasStageServing[node] === 0) countLoser(losers, "serves-no-stages");
  });
  return losers;
}
