/** The real engine over the bundled model, for suites that need one. */
import { fileURLToPath } from "node:url";
import { engineEnvironment } from "../../src/adapters/engine-llama/child-environment.ts";
import { LlamaEngineHost } from "../../src/adapters/engine-llama/engine-host.ts";
import type { LlamaEngineHostOptions } from "../../src/adapters/engine-llama/engine-host-options.ts";
import { modelId, sha256Hex } from "../../src/domain/ids.ts";
import { DEFAULT_SAMPLING, type SampledToken } from "../../src/domain/sampling.ts";
import type { Engine, EngineLoadSpec, EngineUsage, GenerateEvent, GenerateTask } from "../../src/ports/engine.ts";

export const TINY_PATH = fileURLToPath(new URL("../../models/tiny-q8_0.gguf", import.meta.url));
/** "And God said unto Moses", with the beginning-of-sequence token. */
export const PROMPT: readonly number[] = [1, 301, 392, 393, 325, 692];

export function engineHost(options: Partial<LlamaEngineHostOptions> = {}): LlamaEngineHost {
  return new LlamaEngineHost({
    variant: "cpu",
    libraryDirectory: null,
    selfTestModelPath: TINY_PATH,
    environment: engineEnvironment(process.env),
    ...options,
  });
}

export function loadTiny(host: LlamaEngineHost, spec: Partial<EngineLoadSpec> = {}): Promise<Engine> {
  const whole: EngineLoadSpec = {
    modelId: modelId("tiny"),
    weightsPath: TINY_PATH,
    weightsSha256: sha256Hex("0".repeat(64)),
    contextTokens: 1024,
    sequencesMax: 4,
    threads: 1,
    gpuLayers: 0,
    ...spec,
  };
  return host.load(whole, { signal: new AbortController().signal });
}

export function taskOf(task: Partial<GenerateTask> = {}): GenerateTask {
  return {
    tokenIds: PROMPT,
    generatedCount: 0,
    tokensMax: 32,
    sampling: DEFAULT_SAMPLING,
    seed: sha256Hex("5e".repeat(32)),
    choice: 0,
    stopStrings: [],
    grammar: null,
    cacheScope: "one tenant",
    ignoreStopTokens: false,
    topLogprobs: null,
    ...task,
  };
}

export interface Generated {
  readonly tokens: readonly SampledToken[];
  readonly tokenIds: readonly number[];
  readonly reason: string;
  readonly usage: EngineUsage;
}

/** Runs a task to its end; rejects with `code: message` when it fails. */
export function generate(engine: Engine, task: Partial<GenerateTask> = {}): Promise<Generated> {
  return new Promise((resolve, reject) => {
    const tokens: SampledToken[] = [];
    engine.generate(taskOf(task), (event: GenerateEvent) => {
      if (event.kind === "tokens") tokens.push(...event.tokens);
      else if (event.kind === "failed") reject(new Error(`${event.code}: ${event.message}`));
      else
        resolve({ tokens, tokenIds: tokens.map(({ tokenId }) => tokenId), reason: event.reason, usage: event.usage });
    });
  });
}
