/** Starts a process per stage, checked before it serves, as `engine-host.ts` does for whole models. */
import { assert } from "../../domain/assert.ts";
import type {
  StageEngine,
  StageEngineHost,
  StageEngineInfo,
  StageLoadOptions,
  StageLoadSpec,
} from "../../ports/stage-engine.ts";
import type { LlamaEngineHostOptions } from "./engine-host-options.ts";
import { findLlamaLibrary, type LlamaLibraryFiles } from "./llama-library.ts";
import { LlamaStageEngine } from "./llama-stage-engine.ts";
import type { StageCommand, StageLoadCommand, StageServingReport } from "./stage-protocol.ts";
import { type FoundProcess, gpuLayersOf, numericClassOf, splitOf, startProcess } from "./start-process.ts";

/** `LLAMA_MAX_SEQ`. */
const SEQUENCES_MAX = 256;

export class LlamaStageEngineHost implements StageEngineHost {
  readonly #options: LlamaEngineHostOptions;
  readonly #tested = new Set<string>();

  constructor(options: LlamaEngineHostOptions) {
    this.#options = options;
  }

  async loadStage(spec: StageLoadSpec, options: StageLoadOptions): Promise<StageEngine> {
    options.signal.throwIfAborted();
    assert(spec.sequencesMax >= 1 && spec.sequencesMax <= SEQUENCES_MAX, `1 to ${SEQUENCES_MAX} sequences`);
    const { variant, libraryDirectory } = this.#options;
    const library = findLlamaLibrary({ directory: libraryDirectory, variant });
    const selfTestModelPath = this.#tested.has(library.llama) ? null : this.#options.selfTestModelPath;
    const engine = await startProcess<StageCommand, StageServingReport, LlamaStageEngine>({
      entry: "stage-child",
      host: this.#options,
      library,
      options,
      command: loadCommand(spec, { host: this.#options, library, selfTestModelPath }),
      make: (found) => {
        const { onEvents } = options;
        const made = new LlamaStageEngine({ info: stageInfo(spec, found), process: found.process, onEvents });
        return { made, take: (report) => made.take(report) };
      },
    });
    this.#tested.add(library.llama);
    return engine;
  }
}

function loadCommand(
  spec: StageLoadSpec,
  more: {
    readonly host: LlamaEngineHostOptions;
    readonly library: LlamaLibraryFiles;
    readonly selfTestModelPath: string | null;
  },
): StageLoadCommand {
  const { host, library, selfTestModelPath } = more;
  return {
    kind: "load",
    library,
    weightsPath: spec.stagePath,
    contextTokens: spec.contextTokens,
    sequencesMax: spec.sequencesMax,
    threads: spec.threads,
    gpuLayers: gpuLayersOf(library, spec.gpuLayers),
    split: splitOf(library, spec.split ?? host.split),
    selfTestModelPath,
    share: spec.share,
    wire: spec.wire,
  };
}

function stageInfo(
  spec: StageLoadSpec,
  { ready, layersOffloaded, process }: FoundProcess<StageCommand, StageServingReport>,
): StageEngineInfo {
  const numericClass = numericClassOf(ready, layersOffloaded);
  return {
    libraryVersion: ready.libraryVersion,
    variant: ready.variant,
    numericClass: spec.wire === "f16" ? `${numericClass}/f16-wire` : numericClass,
    vocabSize: ready.vocabSize,
    embeddingLength: ready.embeddingLength,
    contextTokens: spec.contextTokens,
    sequencesMax: spec.sequencesMax,
    layersOffloaded,
    processId: process.processId,
    share: spec.share,
    wire: spec.wire,
  };
}
