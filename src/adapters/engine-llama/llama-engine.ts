/**
 * One loaded model as the rest of the agent sees it. Keeps which sequences run, turns the child's reports into their
 * events, refuses what must not reach native code, and ends everything with a reason when the process ends.
 */
import { createHash } from "node:crypto";
import { absurd } from "../../domain/assert.ts";
import { FallowError } from "../../domain/fault.ts";
import { sha256Hex } from "../../domain/ids.ts";
import type { SampledToken } from "../../domain/sampling.ts";
import type {
  Engine,
  EngineExit,
  EngineFailure,
  EngineInfo,
  EngineSequence,
  EngineStats,
  GenerateEvent,
  GenerateTask,
  KvState,
} from "../../ports/engine.ts";
import type { ChildCommand, ChildReport, ExportedState, StepCounters, StepReport } from "./child-protocol.ts";
import type { EngineProcess } from "./engine-process.ts";
import { readResidentBytes } from "./resident-memory.ts";

type OnEvent = (event: GenerateEvent) => void;

interface Waiting {
  readonly resolve: (report: ChildReport) => void;
  readonly reject: (fault: FallowError) => void;
}

const NO_COUNTERS: StepCounters = { running: 0, queued: 0, promptTokensDecoded: 0, promptTokensCached: 0 };

export class LlamaEngine implements Engine {
  readonly info: EngineInfo;
  readonly exited: Promise<EngineExit>;
  readonly #process: EngineProcess<ChildCommand, ChildReport>;
  readonly #sequencesOpenMax: number;
  readonly #sequences = new Map<number, OnEvent>();
  readonly #waiting = new Map<number, Waiting>();
  #nextKey = 1;
  #exit: EngineExit | null = null;
  #isClosing = false;
  #counters = NO_COUNTERS;
  #tokensGenerated = 0;

  constructor(parts: { info: EngineInfo; process: EngineProcess<ChildCommand, ChildReport>; queueMax: number }) {
    this.info = parts.info;
    this.#process = parts.process;
    this.#sequencesOpenMax = parts.info.sequencesMax + parts.queueMax;
    this.exited = parts.process.exited.then((exit) => this.#endAll(exit));
  }

  generate(task: GenerateTask, onEvent: OnEvent): EngineSequence {
    const refusal = this.#refusalOf(task);
    const key = this.#nextKey++;
    this.#sequences.set(key, onEvent);
    if (refusal !== null) {
      queueMicrotask(() => this.#finish(key, { kind: "failed", ...refusal }));
      return { abort: () => void this.#sequences.delete(key) };
    }
    this.#process.send({ kind: "generate", key, ...task, tokenIds: Int32Array.from(task.tokenIds) });
    this.#updateWatch();
    return { abort: () => this.#abort(key) };
  }

  async embed(inputs: readonly (readonly number[])[], signal: AbortSignal): Promise<readonly Float32Array[]> {
    signal.throwIfAborted();
    for (const tokenIds of inputs) {
      const refusal = this.#refusalOfTokens(tokenIds, 0);
      if (refusal !== null) throw new FallowError(refusal.code, refusal.message);
    }
    if (inputs.length === 0) return [];
    const key = this.#nextKey++;
    const onAbort = (): void => {
      this.#process.send({ kind: "abort", key });
      this.#settle(key)?.reject(new FallowError("aborted", "the request for embeddings was aborted"));
    };
    signal.addEventListener("abort", onAbort, { once: true });
    try {
      const report = await this.#ask(key, { kind: "embed", key, inputs: inputs.map((ids) => Int32Array.from(ids)) });
      if (report.kind !== "embedded") throw unexpected(report);
      return report.vectors;
    } finally {
      signal.removeEventListener("abort", onAbort);
    }
  }

  async exportState(tokenIds: readonly number[]): Promise<KvState | null> {
    const key = this.#nextKey++;
    const report = await this.#ask(key, { kind: "export", key, tokenIds: Int32Array.from(tokenIds) });
    if (report.kind !== "exported") throw unexpected(report);
    return report.state === null ? null : withDigest(report.state);
  }

  async importState(state: KvState): Promise<boolean> {
    if (digestOf(state.data) !== state.sha256) return false;
    if (this.#refusalOfTokens(state.tokenIds, 0) !== null) return false;
    const key = this.#nextKey++;
    const { cacheScope, data } = state;
    const exported = { cacheScope, tokenIds: Int32Array.from(state.tokenIds), data };
    const report = await this.#ask(key, { kind: "import", key, state: exported });
    if (report.kind !== "imported") throw unexpected(report);
    return report.isAccepted;
  }

  stats(): EngineStats {
    return {
      sequencesRunning: this.#counters.running,
      sequencesQueued: this.#counters.queued,
      tokensGenerated: this.#tokensGenerated,
      promptTokensDecoded: this.#counters.promptTokensDecoded,
      promptTokensCached: this.#counters.promptTokensCached,
      memoryBytes: this.#exit === null ? readResidentBytes(this.#process.processId) : 0,
    };
  }

  async close(): Promise<void> {
    this.#isClosing = true;
    this.#process.kill("closed");
    await this.exited;
  }

  /** What the child says. */
  take(report: ChildReport): void {
    switch (report.kind) {
      case "step":
        this.#takeStep(report);
        break;
      case "embedded":
      case "exported":
      case "imported":
        this.#settle(report.key)?.resolve(report);
        break;
      case "request-failed":
        this.#settle(report.key)?.reject(new FallowError(report.code, report.message));
        break;
      case "ready":
      case "load-progress":
      case "load-failed":
        break;
      default:
        absurd(report);
    }
  }

  #takeStep(step: StepReport): void {
    this.#counters = step.counters;
    this.#tokensGenerated += step.tokens.length / 2;
    for (let pair = 0; 2 * pair < step.tokens.length; pair++) {
      const asked = step.logprobs?.get(pair) ?? null;
      const token: SampledToken = {
        tokenId: step.tokens[2 * pair + 1] ?? 0,
        logprob: asked?.logprob ?? null,
        top: asked?.top ?? [],
      };
      this.#sequences.get(step.tokens[2 * pair] ?? 0)?.({ kind: "tokens", tokens: [token] });
    }
    for (const { key, reason, ...usage } of step.ends) this.#finish(key, { kind: "end", reason, usage });
    for (const { key, code, message } of step.failures) this.#finish(key, { kind: "failed", code, message });
    this.#updateWatch();
  }

  #finish(key: number, event: GenerateEvent): void {
    const onEvent = this.#sequences.get(key);
    this.#sequences.delete(key);
    onEvent?.(event);
  }

  #abort(key: number): void {
    if (!this.#sequences.delete(key)) return;
    this.#process.send({ kind: "abort", key });
    this.#updateWatch();
  }

  #ask(key: number, command: ChildCommand): Promise<ChildReport> {
    if (this.#exit !== null || this.#isClosing) return Promise.reject(this.#gone());
    return new Promise((resolve, reject) => {
      this.#waiting.set(key, { resolve, reject });
      this.#process.send(command);
      this.#updateWatch();
    });
  }

  #settle(key: number): Waiting | undefined {
    const waiting = this.#waiting.get(key);
    this.#waiting.delete(key);
    this.#updateWatch();
    return waiting;
  }

  #updateWatch(): void {
    this.#process.expectAnswer(this.#sequences.size > 0 || this.#waiting.size > 0);
  }

  #refusalOf(task: GenerateTask): { code: EngineFailure; message: string } | null {
    if (this.#exit !== null || this.#isClosing) return { code: "engine-closed", message: "the engine is closed" };
    if (this.#sequences.size >= this.#sequencesOpenMax) {
      const message = `${this.#sequences.size} sequences run or wait; at most ${this.#sequencesOpenMax} may`;
      return { code: "engine-overloaded", message };
    }
    const { logitBias } = task.sampling;
    const bias = logitBias.find(([tokenId]) => !this.#isInVocabulary(tokenId));
    if (bias !== undefined) return this.#outOfVocabulary(bias[0]);
    return this.#refusalOfTokens(task.tokenIds, 1);
  }

  #refusalOfTokens(tokenIds: readonly number[], room: number): { code: EngineFailure; message: string } | null {
    const { contextTokens } = this.info;
    if (tokenIds.length === 0 || tokenIds.length + room > contextTokens) {
      const message = `${tokenIds.length} tokens do not fit: 1 to ${contextTokens - room} are possible`;
      return { code: "context-exceeded", message };
    }
    const outside = tokenIds.find((tokenId) => !this.#isInVocabulary(tokenId));
    return outside === undefined ? null : this.#outOfVocabulary(outside);
  }

  #isInVocabulary(tokenId: number): boolean {
    return Number.isInteger(tokenId) && tokenId >= 0 && tokenId < this.info.vocabSize;
  }

  #outOfVocabulary(tokenId: number): { code: EngineFailure; message: string } {
    return { code: "token-out-of-vocabulary", message: `token ${tokenId} is not below ${this.info.vocabSize}` };
  }

  #gone(): FallowError {
    const failure = failureOf(this.#exit);
    return new FallowError(failure.code, failure.message);
  }

  #endAll(exit: EngineExit): EngineExit {
    this.#exit = exit;
    this.#counters = { ...this.#counters, running: 0, queued: 0 };
    const failure = failureOf(exit);
    for (const key of [...this.#sequences.keys()]) this.#finish(key, { kind: "failed", ...failure });
    for (const key of [...this.#waiting.keys()]) this.#settle(key)?.reject(this.#gone());
    return exit;
  }
}

/** How a sequence fails because of how its engine ended. */
export function failureOf(exit: EngineExit | null): { readonly code: EngineFailure; readonly message: string } {
  const detail = exit?.detail ?? "the engine is closed";
  switch (exit?.cause) {
    case undefined:
    case "closed":
      return { code: "engine-closed", message: detail };
    case "crashed":
      return { code: "engine-crashed", message: detail };
    case "hung":
      return { code: "engine-hung", message: detail };
    case "out-of-memory":
      return { code: "engine-out-of-memory", message: detail };
  }
}

function withDigest(state: ExportedState): KvState {
  const { cacheScope, data } = state;
  return { cacheScope, tokenIds: Array.from(state.tokenIds), data, sha256: sha256Hex(digestOf(data)) };
}

function digestOf(data: Uint8Array): string {
  return createHash("sha256").update(data).digest("hex");
}

function unexpected(report: ChildReport): FallowError {
  return new FallowError("engine-crashed", `the engine answered a request with ${report.kind}`);
}
