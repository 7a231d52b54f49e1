/**
 * Servers that nodes attach are not planned: each holds the models that it holds. What a node offers and the catalogue knows is ordered from it at once,
 * stays until the model or the server goes, and counts as a replica like others.
 */
import { ATTACHED_DEVICE_ID, type EngineAbility } from "../../domain/attached-engine.ts";
import type { ModelId, NodeId } from "../../domain/ids.ts";
import { modelId as asModelId } from "../../domain/ids.ts";
import { type LoadOrder, pairKey } from "../../scheduler/placement/plan-question.ts";
import type { AttachedOffer, ReplicaFact } from "../../scheduler/placement/snapshot.ts";
import type { ReplicaReport } from "../../wire/agent-link.ts";
import type { NodeView } from "../roster.ts";
import type { ServedModels } from "./served-models.ts";

export interface AttachedQuestion {
  readonly views: readonly NodeView[];
  readonly models: ServedModels;
  onNode(nodeId: NodeId): readonly ReplicaFact[];
  /** Keys of `backoffKey`. */
  readonly notBeforeMs: ReadonlyMap<string, number>;
  readonly nowMs: number;
}

/** What nodes offer and do not yet serve. */
export function attachedLoads(question: AttachedQuestion): readonly LoadOrder[] {
  const { models, notBeforeMs, nowMs } = question;
  return question.views.flatMap((view): readonly LoadOrder[] => {
    const { attached } = view.capabilities;
    if (attached === undefined || view.state !== "online" || view.isYielding) return [];
    const held = question.onNode(view.nodeId).filter(({ deviceId }) => deviceId === ATTACHED_DEVICE_ID);
    return attached.models.flatMap(({ modelId: name, contextTokens, sequencesMax }): readonly LoadOrder[] => {
      const model = models.get(asModelId(name));
      if (model === null || held.some(({ modelId }) => modelId === name)) return [];
      const { modelId, weightsSha256, contextTokensMax } = model.manifest;
      const { nodeId } = view;
      if ((notBeforeMs.get(backoffKey({ nodeId, modelId, deviceId: ATTACHED_DEVICE_ID })) ?? 0) > nowMs) return [];
      const size = {
        contextTokens: Math.min(contextTokensMax, contextTokens ?? contextTokensMax),
        sequencesMax,
        memoryBytes: 0,
      };
      return [
        {
          kind: "load",
          nodeId,
          modelId,
          weightsSha256,
          deviceId: ATTACHED_DEVICE_ID,
          size,
          why: "warm",
          movedBytes: 0,
        },
      ];
    });
  });
}

/** What fails on a server is no reason to keep the model from the node's own devices. */
export function backoffKey(load: {
  readonly nodeId: NodeId;
  readonly modelId: ModelId;
  readonly deviceId: string;
}): string {
  const key = pairKey(load.nodeId, load.modelId);
  return load.deviceId === ATTACHED_DEVICE_ID ? `${key} attached` : key;
}

export function offersOf({ capabilities }: NodeView): readonly AttachedOffer[] {
  return (capabilities.attached?.models ?? []).map(({ modelId, contextTokens }) => ({
    modelId: asModelId(modelId),
    contextTokens: contextTokens ?? Number.MAX_SAFE_INTEGER,
  }));
}

export interface HeldEngine {
  readonly nodeId: NodeId;
  readonly modelId: ModelId;
  readonly report: Pick<ReplicaReport, "state" | "lacks"> | null;
}

const NOBODY: ReadonlySet<NodeId> = new Set();

/**
 * Nodes whose every replica of the model lacks something of this. `attached`: replicas on servers, of any model; `others`: all of a node's.
 */
export function nodesLacking(
  asked: { readonly modelId: ModelId; readonly needs: readonly EngineAbility[] },
  held: { readonly attached: Iterable<HeldEngine>; others(nodeId: NodeId): Iterable<HeldEngine> },
): ReadonlySet<NodeId> {
  if (asked.needs.length === 0) return NOBODY;
  const lacking = new Set<NodeId>();
  const canAll = ({ report }: HeldEngine) => !asked.needs.some((need) => report?.lacks?.includes(need) === true);
  for (const one of held.attached) {
    if (one.modelId !== asked.modelId || lacking.has(one.nodeId)) continue;
    const here = [...held.others(one.nodeId)].filter(
      ({ modelId, report }) => modelId === asked.modelId && report?.state === "ready",
    );
    if (!here.some(canAll)) lacking.add(one.nodeId);
  }
  return lacking;
}
