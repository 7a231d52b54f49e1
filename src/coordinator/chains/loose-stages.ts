/**
 * Stages without a chain: spares that were loaded as such, stages that lost their place, and those that nobody remembers after a restart of the
 * coordinator. The last become a chain again when they cover the model; who waits for the others in vain is unloaded.
 */
import { WIRE_FORMATS, type WireFormat } from "../../domain/chain.ts";
import type { ModelId } from "../../domain/ids.ts";
import type { SpareStage } from "../../scheduler/chains/chain-repair.ts";
import type { ReplicaBook } from "../dispatch/replica-book.ts";
import type { StageNow } from "../dispatch/replica-stage.ts";
import type { Chain } from "./chain.ts";
import { coverLayers } from "./cover-layers.ts";

/** They wait so long for the others of their chain: nodes reconnect within seconds of a restart. */
export const ADOPT_WAIT_MS = 15_000;

/** By replica id. */
export function looseStages(book: ReplicaBook): readonly StageNow[] {
  return book.stages().filter(({ chainId, isUnloading }) => chainId === null && !isUnloading);
}

export function isFit(chain: Chain, stage: StageNow): boolean {
  const isSameModel = chain.modelId === stage.modelId && chain.weightsSha256 === stage.weightsSha256;
  return isSameModel && stage.wire === chain.wire;
}

/** It waited for long enough. */
export function isStray({ orderedAtMs }: StageNow, nowMs: number): boolean {
  return nowMs - orderedAtMs >= ADOPT_WAIT_MS;
}

/** Each with the first chain that has its place, or else of its model. */
export function sparesByChain(
  chains: readonly Chain[],
  loose: readonly StageNow[],
): ReadonlyMap<Chain, readonly SpareStage[]> {
  const spares = new Map<Chain, SpareStage[]>();
  for (const stage of loose) {
    const { first, count, nodeId, replicaId } = stage;
    const fitting = chains.filter((chain) => isFit(chain, stage));
    const placed = fitting.find(({ places }) => places.some((place) => place.first === first && place.count === count));
    const chain = placed ?? fitting[0];
    if (chain === undefined) continue;
    spares.set(chain, [...(spares.get(chain) ?? []), { nodeId, replicaId, first, count }]);
  }
  return spares;
}

/** Of each model without a chain: the stages that are one, where there are such. */
export function coversOf(
  loose: readonly StageNow[],
  layerCountOf: (modelId: ModelId) => number | null,
): readonly { readonly modelId: ModelId; readonly wire: WireFormat; readonly stages: readonly StageNow[] }[] {
  return [...Map.groupBy(loose, ({ modelId }) => modelId)].flatMap(([modelId, stages]) => {
    const layerCount = layerCountOf(modelId);
    if (layerCount === null) return [];
    for (const wire of WIRE_FORMATS) {
      const ready = stages.filter((stage) => stage.isReady && stage.wire === wire);
      const cover = coverLayers(ready, layerCount);
      if (cover !== null) return [{ modelId, wire, stages: cover }];
    }
    return [];
  });
}
