/**
 * An engine without weights or process, in virtual time: the tokens are those of the scripted model under the real sampler, one
 * for each running sequence at every step, so that a stream which moves between scripted engines goes on as it would have.
 * It can be made slow, hang and crash.
 */
import { FallowError } from "../../domain/fault.ts";
import type { Clock, Timer } from "../../ports/clock.ts";
import { pause } from "../../ports/clock.ts";
import type {
  Engine,
  EngineExit,
  EngineHost,
  EngineInfo,
  EngineLoadOptions,
  EngineLoadSpec,
  EngineSequence,
  EngineStats,
  GenerateEvent,
  GenerateTask,
} from "../../ports/engine.ts";
import { SCRIPTED_EMBEDDING_LENGTH } from "./scripted-layers.ts";
import { SCRIPTED_STOP_TOKEN, SCRIPTED_VOCAB_SIZE, ScriptedText } from "./scripted-model.ts";

export const SCRIPTED_NUMERIC_CLASS = "scripted/1";

export interface ScriptedPace {
  readonly loadMs: number;
  readonly prefillMsPerToken: number;
  /** Time between the tokens of a sequence; all running ones step together. */
  readonly stepMs: number;
}

export const SCRIPTED_PACE: ScriptedPace = { loadMs: 400, prefillMsPerToken: 0.5, stepMs: 20 };

export interface ScriptedEngineOptions {
  readonly clock: Clock;
  readonly pace?: ScriptedPace;
  readonly memoryBytes?: (spec: EngineLoadSpec) => number;
  /** Of a model; one where it is not told. */
  readonly layerCount?: (spec: EngineLoadSpec) => number;
  /** Its background sequences stand still while others run; otherwise it runs all alike. */
  readonly holdsBack?: boolean;
}

export class ScriptedEngines implements EngineHost {
  /** Those that are not closed or crashed, in the order in which they were loaded. */
  readonly alive = new Set<ScriptedEngine>();
  /** Codes of the next loads' failures. */
  readonly loadFaults: string[] = [];
  readonly #options: ScriptedEngineOptions;

  constructor(options: ScriptedEngineOptions) {
    this.#options = options;
  }

  async load(spec: EngineLoadSpec, options: EngineLoadOptions): Promise<Engine> {
    const { clock, pace = SCRIPTED_PACE } = this.#options;
    await pause(clock, pace.loadMs / 2, options.signal);
    options.onProgress?.(0.5);
    await pause(clock, pace.loadMs / 2, options.signal);
    if (options.signal.aborted) throw new FallowError("engine-load-failed", "the load was given up");
    const fault = this.loadFaults.shift();
    if (fault !== undefined) throw new FallowError(fault, `planted: ${fault}`);
    options.onProgress?.(1);
    const memoryBytes = this.#options.memoryBytes?.(spec) ?? 0;
    const layerCount = this.#options.layerCount?.(spec) ?? 1;
    const { holdsBack = false } = this.#options;
    const engine = new ScriptedEngine(spec, { clock, pace, memoryBytes, layerCount, holdsBack });
    this.alive.add(engine);
    void engine.exited.then(() => this.alive.delete(engine));
    return engine;
  }
}

interface RunningSequence {
  readonly text: ScriptedText;
  readonly task: GenerateTask;
  readonly readyAtMs: number;
  readonly onEvent: (event: GenerateEvent) => void;
  outputTokens: number;
}

export class ScriptedEngine implements Engine {
  readonly info: EngineInfo;
  readonly exited: Promise<EngineExit>;
  readonly #clock: Clock;
  readonly #pace: ScriptedPace;
  readonly #memoryBytes: number;
  readonly #layerCount: number;
  readonly #running = new Set<RunningSequence>();
  readonly #exit = Promise.withResolvers<EngineExit>();
  #timer: Timer | null = null;
  #tokensGenerated = 0;
  #promptTokens = 0;
  #isHung = false;
  #isGone = false;
  #slowdown = 1;

  constructor(
    spec: EngineLoadSpec,
    options: { clock: Clock; pace: ScriptedPace; memoryBytes: number; layerCount: number; holdsBack?: boolean },
  ) {
    this.#clock = options.clock;
    this.#pace = options.pace;
    this.#memoryBytes = options.memoryBytes;
    this.#layerCount = options.layerCount;
    this.info = {
      libraryVersion: "scripted",
      variant: "cpu",
      numericClass: SCRIPTED_NUMERIC_CLASS,
      vocabSize: SCRIPTED_VOCAB_SIZE,
      embeddingLength: SCRIPTED_EMBEDDING_LENGTH,
      contextTokens: spec.contextTokens,
      sequencesMax: spec.sequencesMax,
      layersOffloaded: 0,
      processId: 0,
      ...(options.holdsBack === true ? { holdsBack: true } : {}),
    };
    this.exited = this.#exit.promise;
  }

  generate(task: GenerateTask, onEvent: (event: GenerateEvent) => void): EngineSequence {
    if (this.#isGone) {
      queueMicrotask(() => onEvent({ kind: "failed", code: "engine-closed", message: "the engine is closed" }));
      return { abort: () => undefined };
    }
    const readyAtMs = this.#clock.monoMs() + task.tokenIds.length * this.#pace.prefillMsPerToken;
    const sequence = { text: new ScriptedText(task, this.#layerCount), task, readyAtMs, onEvent, outputTokens: 0 };
    this.#running.add(sequence);
    this.#promptTokens += task.tokenIds.length;
    this.#keepStepping();
    return { abort: () => void this.#running.delete(sequence) };
  }

  async embed(inputs: readonly (readonly number[])[], signal: AbortSignal): Promise<readonly Float32Array[]> {
    const tokens = inputs.reduce((sum, input) => sum + input.length, 0);
    await pause(this.#clock, tokens * this.#pace.prefillMsPerToken, signal);
    if (this.#isGone || signal.aborted) throw new FallowError("engine-closed", "the engine is closed");
    return inputs.map(scriptedEmbedding);
  }

  exportState(): Promise<null> {
    return Promise.resolve(null);
  }

  importState(): Promise<boolean> {
    return Promise.resolve(false);
  }

  stats(): EngineStats {
    return {
      sequencesRunning: this.#running.size,
      sequencesQueued: 0,
      tokensGenerated: this.#tokensGenerated,
      promptTokensDecoded: this.#promptTokens,
      promptTokensCached: 0,
      memoryBytes: this.#isGone ? 0 : this.#memoryBytes,
    };
  }

  close(): Promise<void> {
    this.#end({ cause: "closed", detail: "closed" }, "engine-closed");
    return Promise.resolve();
  }

  crash(): void {
    this.#end({ cause: "crashed", detail: "planted" }, "engine-crashed");
  }

  /** Gives no more tokens and says nothing. */
  hang(): void {
    this.#isHung = true;
  }

  /** Steps take this many times longer from now on. */
  slowDown(factor: number): void {
    this.#slowdown = factor;
  }

  #end(exit: EngineExit, code: "engine-closed" | "engine-crashed"): void {
    if (this.#isGone) return;
    this.#isGone = true;
    this.#timer?.cancel();
    for (const sequence of [...this.#running]) {
      this.#running.delete(sequence);
      sequence.onEvent({ kind: "failed", code, message: exit.detail });
    }
    this.#exit.resolve(exit);
  }

  #keepStepping(): void {
    if (this.#timer !== null || this.#running.size === 0 || this.#isGone) return;
    this.#timer = this.#clock.setTimer(this.#pace.stepMs * this.#slowdown, () => {
      this.#timer = null;
      if (!this.#isHung) this.#step();
      this.#keepStepping();
    });
  }

  #step(): void {
    const nowMs = this.#clock.monoMs();
    const holdsBack = this.info.holdsBack === true && [...this.#running].some(({ task }) => task.isBackground !== true);
    for (const sequence of [...this.#running]) {
      if (holdsBack && sequence.task.isBackground === true) continue;
      if (sequence.readyAtMs > nowMs || !this.#running.has(sequence)) continue;
      const tokenId = sequence.text.next();
      sequence.outputTokens += 1;
      this.#tokensGenerated += 1;
      const hasLogprobs = sequence.task.topLogprobs !== null;
      sequence.onEvent({ kind: "tokens", tokens: [{ tokenId, logprob: hasLogprobs ? -0.5 : null, top: [] }] });
      const { task, outputTokens } = sequence;
      const isStop = tokenId === SCRIPTED_STOP_TOKEN && !task.ignoreStopTokens;
      if (!isStop && outputTokens < task.tokensMax) continue;
      if (!this.#running.delete(sequence)) continue;
      const usage = { promptTokens: task.tokenIds.length, cachedTokens: 0, outputTokens };
      sequence.onEvent({ kind: "end", reason: isStop ? "stop-token" : "length", usage });
    }
  }
}

/** Unit length, and another for every other input. */
export function scriptedEmbedding(tokenIds: readonly number[]): Float32Array {
  const vector = new Float32Array(SCRIPTED_EMBEDDING_LENGTH);
  for (const [at, tokenId] of tokenIds.entries()) {
    const index = at % SCRIPTED_EMBEDDING_LENGTH;
    vector[index] = (vector[index] ?? 0) + tokenId + 1;
  }
  const length = Math.hypot(...vector);
  return vector.map((value) => value / length);
}
