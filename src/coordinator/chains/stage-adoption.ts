/**
 * Stages of models without a chain: those of an earlier life of the coordinator, which nobody remembers. They become a chain again when they cover the
 * model, and are unloaded when they wait for the others in vain.
 */
import type { ModelId, NodeId } from "../../domain/ids.ts";
import type { Log } from "../../ports/log.ts";
import type { ReplicaBook } from "../dispatch/replica-book.ts";
import type { StageNow } from "../dispatch/replica-stage.ts";
import type { ServedModels } from "../dispatch/served-models.ts";
import type { ChainShape, StageSpot } from "./chain.ts";
import { coversOf, isStray, looseStages } from "./loose-stages.ts";

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
    for (const stage of loose) {
      if (adopted.has(stage.modelId) || !isStray(stage, nowMs)) continue;
      book.unload(stage.nodeId, stage.replicaId, "a stage of no chain");
    }
  }

  #adopt({ modelId, wire, stages }: ReturnType<typeof coversOf>[number]): void {
    const manifest = this.#ports.models.get(modelId)?.manifest;
    if (manifest === undefined) return;
    const { weightsSha256, layerCount } = manifest;
    const contextTokens = Math.min(...stages.map(({ report }) => report?.contextTokens ?? 1));
    const sequencesMax = Math.min(...stages.map(({ report }) => report?.slots ?? 1));
    const chainId = this.#ports.onAdopted(
      { modelId, weightsSha256, layerCount, wire, contextTokens, sequencesMax },
      stages.map(({ first, count, memoryBytes, replicaId }) => ({ first, count, memoryBytes, holder: replicaId })),
    );
    this.#ports.log.info({ chainId, modelId, stages: stages.length }, "chain adopted");
  }
}
