/**
 * One load of a model: from the fork to what serves, or to the reason why there is none. The process is gone before it
 * rejects. Whole models and stages start alike; they differ in what is made of the process once it is ready.
 */
import { FallowError } from "../../domain/fault.ts";
import type { EngineExit, EngineLoadOptions, GpuSplit } from "../../ports/engine.ts";
import { fileTypeName } from "../../weights/quantisation.ts";
import type { LoadReport, ReadyReport } from "./child-protocol.ts";
import type { LlamaEngineHostOptions } from "./engine-host-options.ts";
import { type ChildEntry, EngineProcess } from "./engine-process.ts";
import { failureOf } from "./llama-engine.ts";
import { LLAMA_RELEASE, type LlamaLibraryFiles } from "./llama-library.ts";

/** A step is far below a second even on a slow machine; a driver that resets takes a few. */
export const SILENCE_MS_MAX = 10_000;
/** 40 GB at 150 MB/s from a spinning disk, without a word in between. */
export const LOAD_SILENCE_MS_MAX = 300_000;
/** `n_gpu_layers` for all of them. */
const ALL_LAYERS = -1;
/** The library's line about offloading arrives within a few ms of its report; two seconds is a broken pipe. */
const OFFLOAD_LOOK_MS = 10;
const OFFLOAD_LOOKS_MAX = 200;
const ERROR_LINES = 4;

export interface ProcessStart<Command extends object, Serving extends { readonly kind: string }, Made> {
  readonly entry: ChildEntry;
  readonly host: LlamaEngineHostOptions;
  readonly library: LlamaLibraryFiles;
  readonly options: EngineLoadOptions;
  readonly command: Command;
  readonly make: (found: FoundProcess<Command, Serving>) => {
    readonly made: Made;
    readonly take: (report: Serving | LoadReport) => void;
  };
}

export interface FoundProcess<Command extends object, Serving> {
  readonly ready: ReadyReport;
  readonly layersOffloaded: number;
  readonly process: EngineProcess<Command, Serving | LoadReport>;
}

export function startProcess<Command extends object, Serving extends { readonly kind: string }, Made>(
  start: ProcessStart<Command, Serving, Made>,
): Promise<Made> {
  const { host, options } = start;
  return new Promise((resolve, reject) => {
    let take: ((report: Serving | LoadReport) => void) | null = null;
    let fault: FallowError | null = null;
    const child = new EngineProcess<Command, Serving | LoadReport>({
      entry: start.entry,
      environment: host.environment,
      loadSilenceMsMax: host.loadSilenceMsMax ?? LOAD_SILENCE_MS_MAX,
      silenceMsMax: host.silenceMsMax ?? SILENCE_MS_MAX,
      onReport: (report) => {
        if (take !== null) take(report);
        else if (!isLoadReport(report)) return;
        else if (report.kind === "load-progress") options.onProgress?.(report.fraction);
        else if (report.kind === "load-failed") giveUp(loadFault(report, child));
        else void finish(report);
      },
    });
    const onAbort = (): void =>
      giveUp(new FallowError("aborted", "loading was aborted", { cause: options.signal.reason }));
    const giveUp = (why: FallowError): void => {
      fault ??= why;
      child.kill("closed");
    };
    const finish = async (ready: ReadyReport): Promise<void> => {
      const layersOffloaded = await offloadedLayers(start.library, ready, child);
      if (fault !== null) return;
      options.signal.removeEventListener("abort", onAbort);
      child.finishLoading();
      const serving = start.make({ ready, layersOffloaded, process: child });
      take = serving.take;
      options.onProgress?.(1);
      resolve(serving.made);
    };
    options.signal.addEventListener("abort", onAbort, { once: true });
    void child.exited.then((exit) => {
      options.signal.removeEventListener("abort", onAbort);
      reject(fault ?? diedLoading(exit));
    });
    child.expectAnswer(true);
    child.send(start.command);
  });
}

function isLoadReport(report: { readonly kind: string }): report is LoadReport {
  return report.kind === "ready" || report.kind === "load-progress" || report.kind === "load-failed";
}

/** As the library takes it. */
export function gpuLayersOf(library: LlamaLibraryFiles, wanted: number | "all"): number {
  if (library.variant === "cpu") return 0;
  return wanted === "all" ? ALL_LAYERS : wanted;
}

/** A split is of GPUs: the CPU variant has none. */
export function splitOf(library: LlamaLibraryFiles, wanted: GpuSplit | undefined): GpuSplit | null {
  return library.variant === "cpu" ? null : (wanted ?? null);
}

/** Numbers are equal only within one class. */
export function numericClassOf(ready: ReadyReport, layersOffloaded: number): string {
  const fileType = ready.fileType === null ? null : fileTypeName(Number(ready.fileType));
  return `llama-${LLAMA_RELEASE}/${computeClass(ready, layersOffloaded)}/${fileType ?? "unknown"}`;
}

/** What computes: the processor's kernels, the GPU, or both. */
function computeClass(ready: ReadyReport, layersOffloaded: number): string {
  if (layersOffloaded === 0) return ready.cpuClass;
  const words = (ready.gpus[0]?.name ?? "gpu").toLowerCase().match(/[a-z0-9]+/g) ?? [];
  const gpu = [ready.variant, ...words].join("-");
  return layersOffloaded >= ready.layerCount ? gpu : `${gpu}-${layersOffloaded}-${ready.cpuClass}`;
}

interface WithStderr {
  readonly stderr: { readonly offloadedLayers: readonly number[]; lastErrors(count: number): string };
  ranOutOfMemory(): boolean;
}

/**
 * Layers that really are on the GPU, from the library's own words: it takes a device that it cannot use for none at all,
 * without an error. The lines were written before the report came, but through another pipe.
 */
async function offloadedLayers(library: LlamaLibraryFiles, ready: ReadyReport, child: WithStderr): Promise<number> {
  if (library.variant === "cpu" || ready.gpus.length === 0) return 0;
  const modelsLoaded = ready.hasPassedSelfTest ? 2 : 1;
  for (let look = 0; look < OFFLOAD_LOOKS_MAX; look++) {
    const told = child.stderr.offloadedLayers;
    if (told.length >= modelsLoaded) return told[modelsLoaded - 1] ?? 0;
    await new Promise((resolve) => setTimeout(resolve, OFFLOAD_LOOK_MS));
  }
  return 0;
}

function loadFault(report: Extract<LoadReport, { kind: "load-failed" }>, child: WithStderr): FallowError {
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
