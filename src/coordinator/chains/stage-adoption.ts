/**
 * Stages of models without a chain: those of an earlier life of the coordinator, which nobody remembers. They become a chain again when they cover the
 * model. Where some are missing for a while (the coordinator's own machine held one) those that are there become a chain with empty places, which others take
 * as in any chain: nobody who has his layers loads them again. Stages of which nothing came are unloaded when they waited in vain.
 */
import type { ModelId, NodeId, ReplicaId } from "../../domain/ids.ts";
import type { Log } from "../../ports/log.ts";
import type { ReplicaBook } from "../dispatch/replica-book.ts";
import type { StageNow } from "../dispatch/replica-stage.ts";
import type { ServedModels } from "../dispatch/served-models.ts";
import type { ChainShape, StageSpot } from "./chain.ts";
import { partialCover } from "./cover-layers.ts";
import { coversOf, isStray, looseStages } from "./loose-stages.ts";

/** Nodes reconnect within seconds of a restart; so long the others of a chain are waited for. */
const PARTIAL_WAIT_MS = 5_000;

export interface StageAdoptionPorts {
  readonly log: Log;
  readonly models: ServedModels;
  readonly book: ReplicaBook;
  /** Those on nodes that take work. */
  here(stages: readonly StageNow[]): readonly StageNow[];
  isAvoided(nodeId: NodeId, nowMs: number): boolean;
  /** Answers with the chain's name. */
  onAdopted(shape: Omit<ChainShape, "draft">, spots: readonly StageSpot[]): string;
}

export class StageAdoption {
  readonly #ports: StageAdoptionPorts;
  /** Of a life of the coordinator; nodes hold a few each. */
  readonly #tried = new Set<ReplicaId>();

  constructor(ports: StageAdoptionPorts) {
    this.#ports = ports;
  }

  /** `chained`: models that have a chain. */
  look(chained: ReadonlySet<ModelId>, nowMs: number): void {
    const { book, models, here, isAvoided } = this.#ports;
    const loose = looseStages(book).filter(({ modelId }) => !chained.has(modelId));
    const present = here(loose).filter(({ nodeId }) => !isAvoided(nodeId, nowMs));
    const adopted = new Set<ModelId>();
    for (const cover of coversOf(present, (modelId) => models.get(modelId)?.manifest.layerCount ?? null)) {
      adopted.add(cover.modelId);
      this.#adopt(cover);
    }
    for (const [modelId, waiting] of Map.groupBy(present, (stage) => stage.modelId)) {
      if (adopted.has(modelId) || waiting.some((stage) => nowMs - stage.orderedAtMs < PARTIAL_WAIT_MS)) continue;
      if (this.#adoptPart(modelId, waiting)) adopted.add(modelId);
    }
    for (const stage of loose) {
      if (adopted.has(stage.modelId) || !isStray(stage, nowMs)) continue;
      book.unload(stage.nodeId, stage.replicaId, "a stage of no chain");
    }
  }

  /** False: of one chain they cannot be. */
  #adoptPart(modelId: ModelId, waiting: readonly StageNow[]): boolean {
    const manifest = this.#ports.models.get(modelId)?.manifest;
    const ready = waiting.filter(({ isReady }) => isReady);
    const [one] = ready;
    if (manifest === undefined || one?.wire == null || this.#tried.has(one.replicaId)) return false;
    const { weightsSha256, layerCount } = manifest;
    const alike = ready.filter((stage) => stage.wire === one.wire && stage.weightsSha256 === weightsSha256);
    const parts = partialCover(alike, layerCount);
    if (parts === null) return false;
    const held = parts.flatMap(({ stage }) => stage ?? []);
    // Once: a chain that nobody could complete was given up, and its stages are on their way out.
    for (const { replicaId } of held) this.#tried.add(replicaId);
    const layerBytes = Math.max(...held.map(({ memoryBytes, count }) => memoryBytes / count));
    const chainId = this.#ports.onAdopted(
      { modelId, weightsSha256, layerCount, wire: one.wire, ...shapeOf(held) },
      parts.map(({ first, count, stage }) => {
        const memoryBytes = stage?.memoryBytes ?? Math.ceil(layerBytes * count);
        return { first, count, memoryBytes, holder: stage?.replicaId ?? null };
      }),
    );
    this.#ports.log.info({ chainId, modelId, stages: parts.length, held: held.length }, "chain adopted in part");
    return true;
  }

  #adopt({ modelId, wire, stages }: ReturnType<typeof coversOf>[number]): void {
    const manifest = this.#ports.models.get(modelId)?.manifest;
    if (manifest === undefined) return;
    const { weightsSha256, layerCount } = manifest;
    const chainId = this.#ports.onAdopted(
      { modelId, weightsSha256, layerCount, wire, ...shapeOf(stages) },
      stages.map(({ first, count, memoryBytes, replicaId }) => ({ first, count, memoryBytes, holder: replicaId })),
    );
    this.#ports.log.info({ chainId, modelId, stages: stages.length }, "chain adopted");
  }
}

function shapeOf(stages: readonly StageNow[]): Pick<ChainShape, "contextTokens" | "sequencesMax"> {
  return {
    contextTokens: Math.min(...stages.map(({ report }) => report?.contextTokens ?? 1)),
    sequencesMax: Math.min(...stages.map(({ report }) => report?.slots ?? 1)),
  };
}
