/**
 * The process that holds one stage, as `engine-child.ts` holds a whole model: commands over IPC, the library's words on standard
 * error, its end with its parent's. Before it serves it has computed a few positions of its own.
 */
import { abiMismatch } from "./abi-check.ts";
import { makeStderrBlocking, writeLastWords } from "./blocking-stderr.ts";
import type { LoadFailure } from "./child-protocol.ts";
import { selfTestFailure } from "./golden-logits.ts";
import { bindLlama } from "./llama-ffi.ts";
import { cpuClass, metadataText } from "./loaded-model.ts";
import { dieWithParent } from "./parent-death.ts";
import { StageDecoder } from "./stage-decoder.ts";
import { StageLoop } from "./stage-loop.ts";
import type { StageCommand, StageLoadCommand, StageReport } from "./stage-protocol.ts";
import { checkStage } from "./stage-self-check.ts";

const EXIT_FATAL = 70;

function report(message: StageReport): void {
  process.send?.(message);
}

function fatal(message: string): never {
  writeLastWords(`fallow stage: ${message}`);
  process.exit(EXIT_FATAL);
}

function load(command: StageLoadCommand): StageLoop | null {
  const failed = (code: LoadFailure, message: string): null => {
    report({ kind: "load-failed", code, message });
    return null;
  };
  makeStderrBlocking();
  const api = bindLlama(command.library);
  const mismatch = abiMismatch(api);
  if (mismatch !== null) return failed("engine-abi-mismatch", mismatch);
  const { variant } = command.library;
  if (command.selfTestModelPath !== null) {
    const test = { modelPath: command.selfTestModelPath, variant, gpuLayers: command.gpuLayers };
    const failure = selfTestFailure(api, test);
    if (failure !== null) return failed("engine-self-test-failed", failure);
  }
  const onProgress = (fraction: number): void => report({ kind: "load-progress", fraction });
  onProgress(0.05);
  const result = StageDecoder.load(api, { ...command, onProgress }, fatal);
  if (!result.ok) return failed(result.code, result.message);
  const decoder = result.value;
  const { failure, stateShape } = checkStage(decoder);
  if (failure !== null) return failed("engine-self-test-failed", failure);
  const { loaded } = decoder;
  report({
    kind: "ready",
    libraryVersion: api.version(),
    variant,
    cpuClass: cpuClass(),
    fileType: metadataText(api, loaded.model, "general.file_type"),
    vocabSize: loaded.vocabulary.size,
    embeddingLength: decoder.embeddingLength,
    layerCount: api.layerCount(loaded.model),
    gpus: api
      .deviceNames()
      .filter((device) => device.type === 1 || device.type === 2)
      .map(({ description, memoryBytes, memoryFreeBytes }) => ({ name: description, memoryBytes, memoryFreeBytes })),
    hasPassedSelfTest: command.selfTestModelPath !== null,
  });
  return new StageLoop(decoder, { wire: command.wire, stateShape, report });
}

dieWithParent();
let loop: StageLoop | null = null;
process.on("disconnect", () => process.exit(0));
process.on("message", (command: StageCommand) => {
  if (command.kind === "load") loop = load(command);
  else for (const one of command.commands) loop?.take(one);
});
