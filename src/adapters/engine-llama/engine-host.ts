import type { Engine, EngineHost, EngineInfo, EngineLoadOptions, EngineLoadSpec } from "../../ports/engine.ts";
import type { ChildCommand, LoadCommand, ServingReport } from "./child-protocol.ts";
import { type LlamaEngineHostOptions, QUEUE_MAX } from "./engine-host-options.ts";
import { LlamaEngine } from "./llama-engine.ts";
import { findLlamaLibrary, type LlamaLibraryFiles } from "./llama-library.ts";
import { type FoundProcess, gpuLayersOf, numericClassOf, splitOf, startProcess } from "./start-process.ts";

export class LlamaEngineHost implements EngineHost {
  readonly #options: LlamaEngineHostOptions;
  readonly #tested = new Set<string>();

  constructor(options: LlamaEngineHostOptions) {
    this.#options = options;
  }

  async load(spec: EngineLoadSpec, options: EngineLoadOptions): Promise<Engine> {
    options.signal.throwIfAborted();
    const { variant, libraryDirectory } = this.#options;
    const library = findLlamaLibrary({ directory: libraryDirectory, variant });
    const needsSelfTest = !this.#tested.has(library.llama);
    const engine = await startProcess<ChildCommand, ServingReport, LlamaEngine>({
      entry: "engine-child",
      host: this.#options,
      library,
      options,
      command: loadCommand({ host: this.#options, spec, library, needsSelfTest }),
      make: (found) => {
        const queueMax = this.#options.queueMax ?? QUEUE_MAX;
        const made = new LlamaEngine({ info: engineInfo(spec, found), process: found.process, queueMax });
        return { made, take: (report) => made.take(report) };
      },
    });
    this.#tested.add(library.llama);
    return engine;
  }
}

interface Start {
  readonly host: LlamaEngineHostOptions;
  readonly spec: EngineLoadSpec;
  readonly library: LlamaLibraryFiles;
  readonly needsSelfTest: boolean;
}

function loadCommand({ spec, host, library, needsSelfTest }: Start): LoadCommand {
  return {
    kind: "load",
    library,
    weightsPath: spec.weightsPath,
    contextTokens: spec.contextTokens,
    sequencesMax: spec.sequencesMax,
    queueMax: host.queueMax ?? QUEUE_MAX,
    threads: spec.threads,
    gpuLayers: gpuLayersOf(library, spec.gpuLayers),
    split: splitOf(library, spec.split ?? host.split),
    selfTestModelPath: needsSelfTest ? host.selfTestModelPath : null,
  };
}

function engineInfo(
  spec: EngineLoadSpec,
  { ready, layersOffloaded, process }: FoundProcess<ChildCommand, ServingReport>,
): EngineInfo {
  return {
    libraryVersion: ready.libraryVersion,
    variant: ready.variant,
    numericClass: numericClassOf(ready, layersOffloaded),
    vocabSize: ready.vocabSize,
    embeddingLength: ready.embeddingLength,
    contextTokens: spec.contextTokens,
    sequencesMax: spec.sequencesMax,
    layersOffloaded,
    gpus: ready.gpus,
    processId: process.processId,
    holdsBack: true,
  };
}
