/**
 * What the process of a whole model and that of a stage have in common: commands over the channel to the parent, the checks of the library before anything
 * is loaded, the report that it serves. It ends when its parent goes: by the kernel's word on Linux, by the closed channel everywhere. Everything that
 * libllama says goes to standard error, which the parent keeps the end of as the cause of a crash. Imports are few, because a replica's cold start
 * waits for them.
 */
import { abiMismatch } from "./abi-check.ts";
import { makeStderrBlocking, writeLastWords } from "./blocking-stderr.ts";
import type { LoadCommand, LoadFailure, LoadReport, ReadyReport } from "./child-protocol.ts";
import { selfTestFailure } from "./golden-logits.ts";
import { bindLlama, type LlamaApi } from "./llama-ffi.ts";
import { cpuClass, type LoadedModel, metadataText } from "./loaded-model.ts";
import { dieWithParent } from "./parent-death.ts";

const EXIT_FATAL = 70;

/** From here on `take` gets what the parent sends. */
export function serveParent<Command, Report extends object>(
  take: (command: Command) => void,
): { report(message: Report): void } {
  dieWithParent();
  process.on("disconnect", () => process.exit(0));
  process.on("message", take);
  return { report: (message) => void process.send?.(message) };
}

export function endFatally(message: string): never {
  writeLastWords(`fallow engine: ${message}`);
  process.exit(EXIT_FATAL);
}

export interface LoadTeller {
  progress(fraction: number): void;
  failed(code: LoadFailure, message: string): null;
}

export function loadTeller(report: (message: LoadReport) => void): LoadTeller {
  return {
    progress: (fraction) => report({ kind: "load-progress", fraction }),
    failed: (code, message) => {
      report({ kind: "load-failed", code, message });
      return null;
    },
  };
}

/** The library, once it is known to compute as it should; null after the failure was told. */
export function openLibrary(
  { library, gpuLayers, selfTestModelPath }: Pick<LoadCommand, "library" | "gpuLayers" | "selfTestModelPath">,
  tell: LoadTeller,
): LlamaApi | null {
  makeStderrBlocking();
  const api = bindLlama(library);
  const mismatch = abiMismatch(api);
  if (mismatch !== null) return tell.failed("engine-abi-mismatch", mismatch);
  if (selfTestModelPath !== null) {
    const failure = selfTestFailure(api, { modelPath: selfTestModelPath, variant: library.variant, gpuLayers });
    if (failure !== null) return tell.failed("engine-self-test-failed", failure);
  }
  tell.progress(0.05);
  return api;
}

export function readyReport(
  api: LlamaApi,
  loaded: LoadedModel,
  {
    library,
    selfTestModelPath,
    embeddingLength,
  }: Pick<LoadCommand, "library" | "selfTestModelPath"> & { readonly embeddingLength: number },
): ReadyReport {
  return {
    kind: "ready",
    libraryVersion: api.version(),
    variant: library.variant,
    cpuClass: cpuClass(),
    fileType: metadataText(api, loaded.model, "general.file_type"),
    vocabSize: loaded.vocabulary.size,
    embeddingLength,
    layerCount: api.layerCount(loaded.model),
    gpus: api
      .deviceNames()
      .filter((device) => device.type === 1 || device.type === 2)
      .map(({ description, memoryBytes, memoryFreeBytes }) => ({ name: description, memoryBytes, memoryFreeBytes })),
    hasPassedSelfTest: selfTestModelPath !== null,
  };
}
