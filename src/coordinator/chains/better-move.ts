/** What the scheduler is asked about a chain that serves: whether another node would do one of its stages clearly better. */
import type { NodeId } from "../../domain/ids.ts";
import {
  type BetterCandidate,
  type BetterStage,
  betterStage,
  type ServingStage,
} from "../../scheduler/chains/better-stage.ts";
import type { SpareStage } from "../../scheduler/chains/chain-repair.ts";
import { gpuBytesPerSecond } from "../../scheduler/placement/gpu-bandwidth.ts";
import type { NodeFact } from "../../scheduler/placement/snapshot.ts";
import { OBSERVATIONS_FOR_HALF, stepFactor, tokenSeconds } from "../../scheduler/placement/speed-model.ts";
import type { Chain, Place } from "./chain.ts";
import { repairQuestion, type StageGrid } from "./repair-question.ts";

interface MoveQuestion {
  readonly grid: StageGrid;
  readonly spares: readonly SpareStage[];
  readonly fileBytes: number;
  /** Only this one of its stages may move; null: any. */
  readonly only?: number | null;
}

/** A node that a stage left for a better one is not taken for the better one again so soon, whatever is told of it. */
const LEFT_MS = 3_600_000;

/** Null when none would. Nodes that one of its stages left lately for being worse are not asked. */
export function betterMove(chain: Chain, by: MoveQuestion): BetterStage | null {
  const stages = chain.places.flatMap((place) => servingStage(chain, place, by) ?? []);
  if (stages.length < chain.places.length) return null;
  const nodes = by.grid.nodes();
  const { only = null } = by;
  const asked = stages.map((stage, at) => (only === null || only === at ? stage : { ...stage, candidates: [] }));
  return betterStage({ stages: asked, hopSeconds: (from, to) => hopSeconds(nodes.get(from), nodes.get(to)) });
}

/** The chain's place is to go there, from now on. */
export function setOut(
  chain: Chain,
  { at, nodeId, why }: BetterStage,
  by: { readonly from: NodeId; readonly nowMs: number },
): void {
  const place = chain.places[at];
  if (place === undefined) return;
  const { from, nowMs } = by;
  chain.betterFoundMs = nowMs;
  for (const [left, atMs] of [...chain.leftAtMs]) if (nowMs - atMs >= LEFT_MS) chain.leftAtMs.delete(left);
  chain.leftAtMs.set(from, nowMs);
  place.moving = `${nodeId} would do it better (${why})`;
  place.movingTo = nodeId;
  place.tries = 0;
}

function servingStage(chain: Chain, place: Place, by: MoveQuestion): ServingStage | null {
  const { grid, fileBytes } = by;
  const { count, report } = place;
  const held = place.holder === null ? null : grid.stage(place.holder);
  const node = held === null ? undefined : grid.nodes().get(held.nodeId);
  if (held === null || node === undefined) return null;
  const { lost, candidates } = repairQuestion(chain, place, by);
  const model = { weightsSha256: chain.weightsSha256, layerCount: chain.layerCount, fileBytes };
  return {
    nodeId: node.nodeId,
    count,
    memoryBytes: lost.memoryBytes,
    weightsBytes: lost.weightsBytes,
    stayChance: node.stayChance ?? 1,
    measuredSeconds: stageSeconds(place, grid),
    modelledSeconds: count * speedOn(node, held.deviceId, model).modelledLayerSeconds,
    measuredHopSeconds: isPositive(report?.nextRttMs) ? report.nextRttMs / 2_000 : null,
    candidates: candidates.flatMap((one): BetterCandidate[] => {
      const other = grid.nodes().get(one.nodeId);
      const leftAtMs = chain.leftAtMs.get(one.nodeId) ?? Number.NEGATIVE_INFINITY;
      if (one.doubt !== undefined) return [];
      if (other === undefined || !keepsRules(node, other) || grid.nowMs - leftAtMs < LEFT_MS) return [];
      return [{ ...one, ...speedOn(other, one.deviceId, model) }];
    }),
  };
}

/** What a decode of one sequence's token takes in the place, as its holder measured it; null: nobody measured. */
export function stageSeconds({ holder, report }: Place, grid: StageGrid): number | null {
  const held = holder === null ? null : grid.stage(holder);
  if (held === null || !isPositive(report?.singleMs)) return null;
  const devices = grid.nodes().get(held.nodeId)?.devices ?? [];
  const device = devices.find(({ deviceId }) => deviceId === held.deviceId);
  return report.singleMs / 1_000 / stepFactor(device?.kind === "gpu", report.singlesMean ?? 1);
}

function isPositive(value: number | null | undefined): value is number {
  return value !== null && value !== undefined && value > 0;
}

/** What a request demands of the one, the other has too: the chain is not lost to who may use it now. */
function keepsRules(node: NodeFact, other: NodeFact): boolean {
  const isSameRegion = (node.region ?? null) === (other.region ?? null);
  const isTrusted = (other.trust ?? 1) >= (node.trust ?? 1);
  return isSameRegion && isTrusted && (other.priceMicroUsdPerHour ?? 0) <= (node.priceMicroUsdPerHour ?? 0);
}

function speedOn(
  node: NodeFact,
  deviceId: string,
  model: { readonly weightsSha256: string; readonly layerCount: number; readonly fileBytes: number },
): Pick<BetterCandidate, "modelledLayerSeconds" | "seen"> {
  const device = node.devices.find((one) => one.deviceId === deviceId);
  const isGpu = device?.kind === "gpu";
  const modelled = tokenSeconds({
    isGpu,
    decodeTokPerSecond: node.decodeTokPerSecond ?? Number.NaN,
    gpuBytesPerSecond: (device === undefined ? null : gpuBytesPerSecond(device)) ?? Number.NaN,
    fileBytes: model.fileBytes,
    observed: null,
  });
  const seen = node.observedSpeeds?.find((one) => {
    return one.deviceId === deviceId && one.weightsSha256 === model.weightsSha256;
  });
  return {
    modelledLayerSeconds: modelled / model.layerCount,
    seen:
      seen === undefined
        ? null
        : {
            layerSeconds: seen.tokenSeconds / model.layerCount,
            weight: seen.count / (seen.count + OBSERVATIONS_FOR_HALF),
          },
  };
}

/** One way: as the link between them is known, else by both ends' way to the coordinator, which is a longer one. */
function hopSeconds(from: NodeFact | undefined, to: NodeFact | undefined): number | null {
  if (from === undefined || to === undefined) return null;
  const link = linkTo(from, to.nodeId) ?? linkTo(to, from.nodeId);
  if (link !== null) return link / 2_000;
  const ends = [from.rttMs ?? null, to.rttMs ?? null];
  return ends.some((rttMs) => rttMs === null)
    ? null
    : ends.reduce<number>((sum, rttMs) => sum + (rttMs ?? 0), 0) / 2_000;
}

function linkTo({ links }: NodeFact, to: NodeId): number | null {
  return links?.find((link) => link.to === to)?.rttMs ?? null;
}
