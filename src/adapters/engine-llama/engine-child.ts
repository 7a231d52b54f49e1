/**
 * The process that holds one model. It takes commands over IPC and ends when its parent goes: by the kernel's word on
 * Linux, by the closed channel everywhere. Everything that libllama says goes to standard error, which the parent keeps
 * the end of as the cause of a crash. Imports are few, because a replica's cold start waits for them.
 */
import { absurd } from "../../domain/assert.ts";
import { abiMismatch } from "./abi-check.ts";
import { makeStderrBlocking, writeLastWords } from "./blocking-stderr.ts";
import type { ChildCommand, ChildReport, LoadCommand } from "./child-protocol.ts";
import { EmbeddingQueue } from "./embedding-queue.ts";
import { EngineLoop } from "./engine-loop.ts";
import { selfTestFailure } from "./golden-logits.ts";
import { bindLlama, type LlamaApi } from "./llama-ffi.ts";
import { cpuClass, loadModel, metadataText } from "./loaded-model.ts";
import { dieWithParent } from "./parent-death.ts";

const EXIT_FATAL = 70;

interface Serving {
  readonly loop: EngineLoop;
  readonly embeddings: EmbeddingQueue;
}

function report(message: ChildReport): void {
  process.send?.(message);
}

function fatal(message: string): never {
  writeLastWords(`fallow engine: ${message}`);
  process.exit(EXIT_FATAL);
}

function load(command: LoadCommand): Serving | null {
  const failed = (code: Extract<ChildReport, { kind: "load-failed" }>["code"], message: string): null => {
    report({ kind: "load-failed", code, message });
    return null;
  };
  makeStderrBlocking();
  const api: LlamaApi = bindLlama(command.library);
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
  const result = loadModel(api, { ...command, onProgress });
  if (!result.ok) return failed(result.code, result.message);
  const loaded = result.value;
  const loop = new EngineLoop(loaded, { queueMax: command.queueMax, report, onFatal: fatal });
  report({
    kind: "ready",
    libraryVersion: api.version(),
    variant,
    cpuClass: cpuClass(),
    fileType: metadataText(api, loaded.model, "general.file_type"),
    vocabSize: loaded.vocabulary.size,
    embeddingLength: api.embeddingLength(loaded.model),
    layerCount: api.layerCount(loaded.model),
    gpus: api
      .deviceNames()
      .filter((device) => device.type === 1 || device.type === 2)
      .map(({ description, memoryBytes, memoryFreeBytes }) => ({ name: description, memoryBytes, memoryFreeBytes })),
    hasPassedSelfTest: command.selfTestModelPath !== null,
  });
  const embeddings = new EmbeddingQueue(loaded, {
    report,
    onFatal: fatal,
    submitChore: (chore) => loop.submitChore(chore),
  });
  return { loop, embeddings };
}

function serve(serving: Serving, command: Exclude<ChildCommand, LoadCommand>): void {
  const { loop } = serving;
  switch (command.kind) {
    case "generate":
      loop.submit(command);
      break;
    case "abort":
      serving.embeddings.abort(command.key);
      loop.abort(command.key);
      break;
    case "embed":
      serving.embeddings.submit(command);
      break;
    case "export": {
      const { key, tokenIds } = command;
      loop.submitChore(() => report({ kind: "exported", key, state: loop.slots.snapshot(tokenIds) }));
      break;
    }
    case "import": {
      const { key, state } = command;
      loop.submitChore(() => report({ kind: "imported", key, isAccepted: loop.slots.restore(state) }));
      break;
    }
    default:
      absurd(command);
  }
}

dieWithParent();
let serving: Serving | null = null;
process.on("disconnect", () => process.exit(0));
process.on("message", (command: ChildCommand) => {
  if (command.kind === "load") serving = load(command);
  else if (serving !== null) serve(serving, command);
});
