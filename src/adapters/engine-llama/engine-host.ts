/**
 * Starts an engine per model: a process of its own, checked before it serves. The self-test runs once per library and
 * device class, because its answer does not change while the host lives.
 */
import type { EngineVariant } from "../../domain/hardware.ts";
import type {
  Engine,
  EngineHost,
  EngineInfo,
  EngineLoadOptions,
  EngineLoadSpec,
  GpuSplit,
} from "../../ports/engine.ts";
import type { ChildCommand, LoadCommand, ServingReport } from "./child-protocol.ts";
import { LlamaEngine } from "./llama-engine.ts";
import { findLlamaLibrary, type LlamaLibraryFiles } from "./llama-library.ts";
import { type FoundProcess, gpuLayersOf, numericClassOf, splitOf, startProcess } from "./start-process.ts";

export interface LlamaEngineHostOptions {
  readonly variant: EngineVariant;
  /** A folder with the libraries, or null for the installed package. */
  readonly libraryDirectory: string | null;
  /** The shipped tiny model, whose logits are known. */
  readonly selfTestModelPath: string;
  readonly environment: Record<string, string>;
  /** How models lie on several GPUs, unless a load says otherwise. The CPU variant takes no notice. */
  readonly split?: GpuSplit;
  /** Silence of an engine that owes an answer, after which it is killed. */
  readonly silenceMsMax?: number;
  /** Silence while a model loads: reading weights from a slow disk is silent for long. */
  readonly loadSilenceMsMax?: number;
  /** Tasks that may wait for a free sequence. */
  readonly queueMax?: number;
}

/** Four rounds of a full engine: whoever waits longer is better served elsewhere. */
export const QUEUE_MAX = 256;
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
  };
}
