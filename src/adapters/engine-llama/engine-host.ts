/**
 * Starts an engine per model: a process of its own, checked before it serves. The self-test runs once per library and
 * device class, because its answer does not change while the host lives.
 */
import { FallowError } from "../../domain/fault.ts";
import type { EngineVariant } from "../../domain/hardware.ts";
import type {
  Engine,
  EngineExit,
  EngineHost,
  EngineInfo,
  EngineLoadOptions,
  EngineLoadSpec,
} from "../../ports/engine.ts";
import { fileTypeName } from "../../weights/quantisation.ts";
import type { ChildReport, LoadCommand, ReadyReport } from "./child-protocol.ts";
import { EngineProcess } from "./engine-process.ts";
import { failureOf, LlamaEngine } from "./llama-engine.ts";
import { findLlamaLibrary, LLAMA_RELEASE, type LlamaLibraryFiles } from "./llama-library.ts";

export interface LlamaEngineHostOptions {
  readonly variant: EngineVariant;
  /** A folder with the libraries, or null for the installed package. */
  readonly libraryDirectory: string | null;
  /** The shipped tiny model, whose logits are known. */
  readonly selfTestModelPath: string;
  readonly environment: Record<string, string>;
  /** Silence of an engine that owes an answer, after which it is killed. */
  readonly silenceMsMax?: number;
  /** Silence while a model loads: reading weights from a slow disk is silent for long. */
  readonly loadSilenceMsMax?: number;
  /** Tasks that may wait for a free sequence. */
  readonly queueMax?: number;
}

/** A step is far below a second even on a slow machine; a driver that resets takes a few. */
export const SILENCE_MS_MAX = 10_000;
/** 40 GB at 150 MB/s from a spinning disk, without a word in between. */
export const LOAD_SILENCE_MS_MAX = 300_000;
/** Four rounds of a full engine: whoever waits longer is better served elsewhere. */
export const QUEUE_MAX = 256;
/** `n_gpu_layers` for all of them. */
const ALL_LAYERS = -1;
/** The library's line about offloading arrives within a few ms of its report; two seconds is a broken pipe. */
const OFFLOAD_LOOK_MS = 10;
const OFFLOAD_LOOKS_MAX = 200;
const ERROR_LINES = 4;

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
    const engine = await startEngine({ host: this.#options, spec, library, needsSelfTest, options });
    this.#tested.add(library.llama);
    return engine;
  }
}

interface Start {
  readonly host: LlamaEngineHostOptions;
  readonly spec: EngineLoadSpec;
  readonly library: LlamaLibraryFiles;
  readonly needsSelfTest: boolean;
  readonly options: EngineLoadOptions;
}

/** One load: from the fork to the engine, or to the reason why there is none. The process is gone before it rejects. */
function startEngine(start: Start): Promise<LlamaEngine> {
  const { host, options } = start;
  return new Promise((resolve, reject) => {
    let engine: LlamaEngine | null = null;
    let fault: FallowError | null = null;
    const child = new EngineProcess({
      environment: host.environment,
      loadSilenceMsMax: host.loadSilenceMsMax ?? LOAD_SILENCE_MS_MAX,
      silenceMsMax: host.silenceMsMax ?? SILENCE_MS_MAX,
      onReport: (report) => {
        if (engine !== null) engine.take(report);
        else if (report.kind === "load-progress") options.onProgress?.(report.fraction);
        else if (report.kind === "load-failed") giveUp(loadFault(report, child));
        else if (report.kind === "ready") void finish(report);
      },
    });
    const onAbort = (): void =>
      giveUp(new FallowError("aborted", "loading was aborted", { cause: options.signal.reason }));
    const giveUp = (why: FallowError): void => {
      fault ??= why;
      child.kill("closed");
    };
    const finish = async (ready: ReadyReport): Promise<void> => {
      const layersOffloaded = await offloadedLayers(start, ready, child);
      if (fault !== null) return;
      options.signal.removeEventListener("abort", onAbort);
      child.finishLoading();
      const info = engineInfo(start, { ready, layersOffloaded, processId: child.processId });
      engine = new LlamaEngine({ info, process: child, queueMax: host.queueMax ?? QUEUE_MAX });
      options.onProgress?.(1);
      resolve(engine);
    };
    options.signal.addEventListener("abort", onAbort, { once: true });
    void child.exited.then((exit) => {
      options.signal.removeEventListener("abort", onAbort);
      reject(fault ?? diedLoading(exit));
    });
    child.expectAnswer(true);
    child.send(loadCommand(start));
  });
}

function loadCommand(start: Start): LoadCommand {
  const { spec, host, library } = start;
  return {
    kind: "load",
    library,
    weightsPath: spec.weightsPath,
    contextTokens: spec.contextTokens,
    sequencesMax: spec.sequencesMax,
    queueMax: host.queueMax ?? QUEUE_MAX,
    threads: spec.threads,
    gpuLayers: library.variant === "cpu" ? 0 : spec.gpuLayers === "all" ? ALL_LAYERS : spec.gpuLayers,
    selfTestModelPath: start.needsSelfTest ? host.selfTestModelPath : null,
  };
}

function engineInfo(
  start: Start,
  found: { readonly ready: ReadyReport; readonly layersOffloaded: number; readonly processId: number },
): EngineInfo {
  const { ready } = found;
  const fileType = ready.fileType === null ? null : fileTypeName(Number(ready.fileType));
  return {
    libraryVersion: ready.libraryVersion,
    variant: ready.variant,
    numericClass: `llama-${LLAMA_RELEASE}/${computeClass(ready, found.layersOffloaded)}/${fileType ?? "unknown"}`,
    vocabSize: ready.vocabSize,
    embeddingLength: ready.embeddingLength,
    contextTokens: start.spec.contextTokens,
    sequencesMax: start.spec.sequencesMax,
    layersOffloaded: found.layersOffloaded,
    gpus: ready.gpus,
    processId: found.processId,
  };
}

/**
 * Layers that really are on the GPU, from the library's own words: it takes a device that it cannot use for none at all,
 * without an error. The lines were written before the report came, but through another pipe.
 */
async function offloadedLayers(start: Start, ready: ReadyReport, child: EngineProcess): Promise<number> {
  if (start.library.variant === "cpu" || ready.gpus.length === 0) return 0;
  const modelsLoaded = ready.hasPassedSelfTest ? 2 : 1;
  for (let look = 0; look < OFFLOAD_LOOKS_MAX; look++) {
    const told = child.stderr.offloadedLayers;
    if (told.length >= modelsLoaded) return told[modelsLoaded - 1] ?? 0;
    await new Promise((resolve) => setTimeout(resolve, OFFLOAD_LOOK_MS));
  }
  return 0;
}

/** What computes: the processor's kernels, the GPU, or both. Numbers are equal only within one class. */
function computeClass(ready: ReadyReport, layersOffloaded: number): string {
  if (layersOffloaded === 0) return ready.cpuClass;
  const words = (ready.gpus[0]?.name ?? "gpu").toLowerCase().match(/[a-z0-9]+/g) ?? [];
  const gpu = [ready.variant, ...words].join("-");
  return layersOffloaded >= ready.layerCount ? gpu : `${gpu}-${layersOffloaded}-${ready.cpuClass}`;
}

function loadFault(report: Extract<ChildReport, { kind: "load-failed" }>, child: EngineProcess): FallowError {
  const reason = child.stderr.lastErrors(ERROR_LINES);
  const isOutOfMemory = report.code === "engine-load-failed" && child.ranOutOfMemory();
  const code = isOutOfMemory ? "engine-out-of-memory" : report.code;
  return new FallowError(code, reason === "" ? report.message : `${report.message}: ${reason}`);
}

function diedLoading(exit: EngineExit): FallowError {
  const failure = failureOf(exit);
  const code = failure.code === "engine-hung" ? "engine-load-failed" : failure.code;
  return new FallowError(code, `the engine's process ended while loading: ${failure.message}`);
}
