/** From an order to an engine: the weights first, of the whole model or of a stage's layers, then its process. */
import { shareOfStage } from "../../domain/chain.ts";
import { FallowError } from "../../domain/fault.ts";
import type { EngineVariant } from "../../domain/hardware.ts";
import { modelId, sha256Hex } from "../../domain/ids.ts";
import type { Engine, EngineHost } from "../../ports/engine.ts";
import type { StageEngine, StageEngineHost, StageEvent } from "../../ports/stage-engine.ts";
import type { StageFiles } from "../../ports/stage-files.ts";
import type { WeightsCache } from "../../ports/weights-cache.ts";
import type { ReplicaLoad } from "../../wire/agent-link.ts";
import type { StageOrder } from "../../wire/chain-link.ts";
import type { StartOptions } from "./replica-run.ts";

export interface EngineStartPorts {
  readonly weights: Pick<WeightsCache, "ensure">;
  /** Resolves when the memory of the replicas that are closing at this moment is free. */
  freed(): Promise<unknown>;
  readonly threads: number;
  readonly variant: EngineVariant;
}

/** Share of the progress that fetching takes. */
const FETCH_SHARE = 0.9;

export async function startWhole(
  load: ReplicaLoad,
  ports: EngineStartPorts & { readonly engines: EngineHost },
  { signal, tell }: StartOptions,
): Promise<Engine> {
  const weightsPath = await fetchWeights(load, ports, { signal, tell });
  // The coordinator orders a load right after an unload: both engines at once would not fit.
  await ports.freed();
  return await ports.engines.load(
    { ...specOf(load, ports), weightsPath },
    { signal, onProgress: (fraction) => tell(FETCH_SHARE + (1 - FETCH_SHARE) * Math.min(1, fraction)) },
  );
}

/**
 * The model is on a server already. Of its weights the head alone is needed, for the vocabulary; with it comes one layer, the smallest share
 * that there is.
 */
export async function startAttached(
  load: ReplicaLoad,
  ports: EngineStartPorts & { readonly engines: EngineHost },
  { signal, tell }: StartOptions,
): Promise<Engine> {
  const weightsPath = await fetchWeights(load, ports, { signal, tell }, HEAD_SHARE);
  return await ports.engines.load(
    { ...specOf(load, ports), weightsPath },
    { signal, onProgress: (fraction) => tell(FETCH_SHARE + (1 - FETCH_SHARE) * Math.min(1, fraction)) },
  );
}

const HEAD_SHARE = { first: 0, count: 1, hasEmbedding: false, hasOutput: false } as const;

/** The stage's own file is made from the model's; whoever closes the engine lets it rest. */
export async function startStage(
  load: ReplicaLoad,
  ports: EngineStartPorts & {
    readonly stage: StageOrder;
    readonly engines: StageEngineHost;
    readonly files: StageFiles;
    onEvents(events: readonly StageEvent[]): void;
  },
  { signal, tell }: StartOptions,
): Promise<StageEngine> {
  const { stage, files, onEvents } = ports;
  if (stage.first + stage.count > stage.layerCount) {
    const what = `layers ${stage.first} to ${stage.first + stage.count - 1} of a model of ${stage.layerCount}`;
    throw new FallowError("stage-refused", what);
  }
  const share = shareOfStage(stage, stage.layerCount);
  const weightsPath = await fetchWeights(load, ports, { signal, tell }, share);
  const weightsSha256 = sha256Hex(load.weightsSha256);
  const stagePath = await files.ensure({ weightsSha256, weightsPath, share }, { signal });
  try {
    await ports.freed();
    const engine = await ports.engines.loadStage(
      { ...specOf(load, ports), stagePath, share, wire: stage.wire },
      { signal, onEvents, onProgress: (fraction) => tell(FETCH_SHARE + (1 - FETCH_SHARE) * Math.min(1, fraction)) },
    );
    void engine.exited.then(() => files.rest({ weightsSha256, share }));
    return engine;
  } catch (fault) {
    files.rest({ weightsSha256, share });
    throw fault;
  }
}

async function fetchWeights(
  { weightsSha256, fileBytes, modelId: label }: ReplicaLoad,
  { weights }: EngineStartPorts,
  { signal, tell }: StartOptions,
  layers: ReturnType<typeof shareOfStage> | null = null,
): Promise<string> {
  const want = { weightsSha256: sha256Hex(weightsSha256), fileBytes, label, ...(layers === null ? {} : { layers }) };
  const path = await weights.ensure(want, {
    signal,
    onProgress: (doneBytes) => tell(FETCH_SHARE * Math.min(1, doneBytes / Math.max(1, fileBytes))),
  });
  tell(FETCH_SHARE);
  return path;
}

function specOf(load: ReplicaLoad, { threads, variant }: EngineStartPorts) {
  return {
    modelId: modelId(load.modelId),
    weightsSha256: sha256Hex(load.weightsSha256),
    contextTokens: load.contextTokens,
    sequencesMax: load.sequencesMax,
    threads,
    gpuLayers: variant === "cpu" ? 0 : ("all" as const),
  };
}
