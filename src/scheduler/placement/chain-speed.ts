/**
 * What a plan knows of the speed of chains: of each stage by the speed model of whole replicas (a layer takes its share of the file's time), of the ways
 * between nodes by what was measured, or by both ends' round trips to the coordinator. A chain that serves says itself how long its loop takes.
 */
import { chainSpeed, type StageNode } from "../chains/chain-score.ts";
import { UNKNOWN } from "./grid-columns.ts";
import { tokenWorth } from "./objective.ts";
import type { HeldChain, ModelState, PlacementState } from "./placement-state.ts";
import type { ModelVariant } from "./plan-question.ts";
import { tokenSeconds } from "./speed-model.ts";

/** One LAN: within a millisecond, at a GB a second at least (scheduling.md section 7.1). */
const LAN_RTT_MS_MAX = 1;
const LAN_BYTES_PER_SECOND_MIN = 1e9;
/** A round trip that nobody measured, as for the matcher: neither near nor far. */
const UNKNOWN_RTT_MS = 50;
/** What a loop is at least: a division by it must not give more than engines do. */
const LOOP_SECONDS_MIN = 1e-5;

/** A node's device as a stage of this model would find it. */
export function stageNode(
  grid: PlacementState,
  state: ModelState,
  on: { readonly node: number; readonly device: number; readonly variant: ModelVariant },
): StageNode {
  const speed = grid.speedOn(on);
  return {
    freeBytes: grid.freeBytes[on.device] ?? 0,
    layerSeconds: tokenSeconds(speed) / state.model.layerCount,
    isGpu: speed.isGpu,
    stayChance: grid.question.grid.nodes.stayChance[on.node] ?? 1,
  };
}

/** One way from one node to another, in seconds. */
export function hopSeconds(grid: PlacementState, from: number, to: number): number {
  if (from === to) return 0;
  const { rttMs } = grid.question.grid.nodes;
  const link = linkOf(grid, from, to) ?? linkOf(grid, to, from);
  const toCoordinator = (node: number) => {
    const known = rttMs[node] ?? Number.NaN;
    return Number.isNaN(known) ? UNKNOWN_RTT_MS : known;
  };
  return (link?.rttMs ?? toCoordinator(from) + toCoordinator(to)) / 2_000;
}

/** Speed of a chain that is there, or is about to be. `loopMs`: as its stages measured it; NaN: nobody did. */
export function speedOfChain(
  grid: PlacementState,
  state: ModelState,
  of: {
    readonly stages: HeldChain["stages"];
    readonly slots: number;
    readonly variant: ModelVariant;
    readonly loopMs: number;
  },
): { readonly tokPerSecond: number; readonly worth: number; readonly chain: HeldChain } {
  const stages = of.stages.map(({ node, device, count }) => ({
    node: stageNode(grid, state, { node, device, variant: of.variant }),
    at: node,
    count,
  }));
  const modelled = chainSpeed(stages, { slots: of.slots, hopSeconds: (from, to) => hopSeconds(grid, from, to) });
  const isMeasured = of.loopMs > 0;
  const loopSeconds = Math.max(LOOP_SECONDS_MIN, isMeasured ? of.loopMs / 1_000 : modelled.loopSeconds);
  return {
    tokPerSecond: modelled.tokPerSecond * (Math.max(LOOP_SECONDS_MIN, modelled.loopSeconds) / loopSeconds),
    worth: tokenWorth({ seconds: loopSeconds, qualityPenalty: of.variant.qualityPenalty }),
    chain: { stages: of.stages, loopSeconds, isMeasured },
  };
}

/** Each stage is linked to the next one as in one LAN. */
export function isLan(grid: PlacementState, stages: readonly { readonly node: number }[]): boolean {
  return stages.every(({ node }, at) => {
    const next = stages[at + 1]?.node;
    const link = next === undefined ? null : (linkOf(grid, node, next) ?? linkOf(grid, next, node));
    const isNear = link !== null && link.rttMs <= LAN_RTT_MS_MAX && link.bytesPerSecond >= LAN_BYTES_PER_SECOND_MIN;
    return next === undefined || isNear;
  });
}

function linkOf(grid: PlacementState, from: number, to: number): { rttMs: number; bytesPerSecond: number } | null {
  const { nodes, links } = grid.question.grid;
  for (let row = nodes.linkFrom[from] ?? 0; row < (nodes.linkFrom[from + 1] ?? 0); row++) {
    if ((links.to[row] ?? UNKNOWN) !== to) continue;
    return { rttMs: links.rttMs[row] ?? 0, bytesPerSecond: links.bytesPerSecond[row] ?? 0 };
  }
  return null;
}
