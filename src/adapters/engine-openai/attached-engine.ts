/**
 * One model on a server as the rest of the agent sees it: an engine like others, without a process of its own. The server is looked at every
 * second; when it is gone, or holds the model no more, the engine has `exited`, and whoever keeps the replica loads it again as soon as the
 * server is back.
 *
 * | seen                                             | what follows                                          |
 * | ------------------------------------------------ | ----------------------------------------------------- |
 * | health answers                                   | nothing                                               |
 * | no connection, `MISSES_MAX` times in a row        | exited, `crashed`: running sequences fail             |
 * | health says nothing, `MISSES_MAX` times in a row  | exited, `hung`; not while some sequence gets tokens   |
 * | another list of models, without this one          | exited, `crashed`                                     |
 */
import { abilitiesNeeded, type EngineAbility } from "../../domain/attached-engine.ts";
import { FallowError } from "../../domain/fault.ts";
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
import type { Tokenizer } from "../../ports/tokenizer.ts";
import { AttachedSequence } from "./attached-sequence.ts";
import type { Dialect } from "./dialect.ts";
import type { ServerHttp } from "./server-http.ts";
import type { TextTokens } from "./text-tokens.ts";

export interface AttachedEngineParts {
  readonly info: EngineInfo & { readonly lacks: readonly EngineAbility[] };
  readonly server: ServerHttp;
  readonly dialect: Dialect;
  readonly servedAs: string;
  readonly tokenizer: Tokenizer;
  readonly text: TextTokens;
  readonly times: AttachedTimes;
  /** Called once; the engine has `exited` when this has resolved. */
  release?(exit: EngineExit): Promise<void>;
}

export interface AttachedTimes {
  /** A long prompt on a slow machine, behind others in the server's own queue. */
  readonly firstByteMsMax: number;
  readonly silenceMsMax: number;
  readonly lookMs: number;
}

export const ATTACHED_TIMES: AttachedTimes = { firstByteMsMax: 120_000, silenceMsMax: 15_000, lookMs: 1_000 };

/** Beyond the server's own number, in its queue: it is not known how it shares. */
const QUEUE_FACTOR = 2;
const MISSES_MAX = 3;
/** How many looks at its health come before one at its list of models. */
const LIST_EVERY = 5;
/** A health that takes longer is none: the busiest servers answer it beside their work. */
const HEALTH_MS_MAX = 5_000;

export class AttachedEngine implements Engine {
  readonly info: AttachedEngineParts["info"];
  readonly exited: Promise<EngineExit>;
  readonly #parts: AttachedEngineParts;
  readonly #running = new Set<AttachedSequence>();
  readonly #closing = new AbortController();
  #settleExit: (exit: EngineExit) => void = () => undefined;
  #exit: EngineExit | null = null;
  #timer: NodeJS.Timeout | null = null;
  #misses = 0;
  #looks = 0;
  #tokensGenerated = 0;
  #promptTokens = 0;
  #heardAtMs = 0;

  constructor(parts: AttachedEngineParts) {
    this.#parts = parts;
    this.info = parts.info;
    this.exited = new Promise((resolve) => {
      this.#settleExit = resolve;
    });
    this.#lookLater();
  }

  generate(task: GenerateTask, onEvent: (event: GenerateEvent) => void): EngineSequence {
    const refusal = this.#refusalOf(task);
    if (refusal !== null) {
      let isAborted = false;
      queueMicrotask(() => {
        if (!isAborted) onEvent({ kind: "failed", ...refusal });
      });
      return {
        abort: () => {
          isAborted = true;
        },
      };
    }
    const { times, release: _, ...parts } = this.#parts;
    const sequence = new AttachedSequence(task, {
      ...parts,
      ...times,
      onEvent: (event) => {
        this.#note(event, task);
        onEvent(event);
      },
    });
    this.#running.add(sequence);
    void sequence.run().finally(() => this.#running.delete(sequence));
    return {
      abort: () => {
        sequence.abort();
        this.#running.delete(sequence);
      },
    };
  }

  /** How a server makes one vector of a text is its own affair: vectors of two kinds must not meet in one index. */
  embed(): Promise<readonly Float32Array[]> {
    const { kind } = this.#parts.dialect;
    return Promise.reject(new FallowError("ability-missing", `a ${kind} server is asked for no embeddings`));
  }

  exportState(): Promise<KvState | null> {
    return Promise.resolve(null);
  }

  importState(): Promise<boolean> {
    return Promise.resolve(false);
  }

  stats(): EngineStats {
    return {
      sequencesRunning: Math.min(this.#running.size, this.info.sequencesMax),
      sequencesQueued: Math.max(0, this.#running.size - this.info.sequencesMax),
      tokensGenerated: this.#tokensGenerated,
      promptTokensDecoded: this.#promptTokens,
      promptTokensCached: 0,
      // The server's own affair.
      memoryBytes: 0,
    };
  }

  async close(): Promise<void> {
    this.#end({ cause: "closed", detail: "the engine is closed" });
    await this.exited;
  }

  #note(event: GenerateEvent, task: GenerateTask): void {
    this.#heardAtMs = performance.now();
    if (event.kind === "tokens") this.#tokensGenerated += event.tokens.length;
    if (event.kind === "end") this.#promptTokens += task.tokenIds.length;
    // A stream that breaks is the first sign of a server that is gone.
    if (event.kind === "failed" && event.code === "engine-crashed") this.#lookNow();
  }

  #refusalOf(task: GenerateTask): { readonly code: EngineFailure; readonly message: string } | null {
    const { info } = this;
    if (this.#exit !== null) return { code: "engine-closed", message: this.#exit.detail };
    if (this.#running.size >= info.sequencesMax * QUEUE_FACTOR) {
      return { code: "engine-overloaded", message: `${this.#running.size} sequences run or wait on the server` };
    }
    const missing = abilitiesNeeded(task).filter((ability) => info.lacks.includes(ability));
    if (missing.length > 0) {
      const message = `this ${this.#parts.dialect.kind} server cannot do what the request needs: ${missing.join(", ")}`;
      return { code: "ability-missing", message };
    }
    const { tokenIds, sampling, tokensMax } = task;
    if (tokenIds.length === 0 || tokenIds.length + tokensMax > info.contextTokens) {
      const message = `${tokenIds.length} and ${tokensMax} tokens in a context of ${info.contextTokens}`;
      return { code: "context-exceeded", message };
    }
    const ids = [...tokenIds, ...sampling.logitBias.map(([tokenId]) => tokenId)];
    const outside = ids.find((tokenId) => !Number.isInteger(tokenId) || tokenId < 0 || tokenId >= info.vocabSize);
    if (outside === undefined) return null;
    return { code: "token-out-of-vocabulary", message: `token ${outside} is not below ${info.vocabSize}` };
  }

  #lookLater(): void {
    this.#timer = setTimeout(() => void this.#look(), this.#parts.times.lookMs);
    this.#timer.unref();
  }

  #lookNow(): void {
    if (this.#timer === null || this.#exit !== null) return;
    clearTimeout(this.#timer);
    this.#timer = null;
    void this.#look();
  }

  async #look(): Promise<void> {
    this.#timer = null;
    try {
      await this.#ask();
      this.#misses = 0;
    } catch (thrown) {
      if (this.#exit !== null) return;
      const code = thrown instanceof FallowError ? thrown.code : "attached-broken";
      const detail = thrown instanceof Error ? thrown.message : String(thrown);
      if (code === "attached-model-missing") return this.#end({ cause: "crashed", detail });
      const isBusy = code === "attached-silent" && performance.now() - this.#heardAtMs < HEALTH_MS_MAX;
      this.#misses = isBusy ? 0 : this.#misses + 1;
      if (this.#misses >= MISSES_MAX) {
        return this.#end({ cause: code === "attached-silent" ? "hung" : "crashed", detail });
      }
    }
    if (this.#exit === null) this.#lookLater();
  }

  async #ask(): Promise<void> {
    const { server, dialect, servedAs } = this.#parts;
    const { signal } = this.#closing;
    this.#looks += 1;
    await server.touch(dialect.healthPath, { signal, withinMs: HEALTH_MS_MAX });
    if (this.#looks % LIST_EVERY !== 0) return;
    const models = await dialect.models(server, signal);
    if (models.some((model) => model.servedAs === servedAs)) return;
    throw new FallowError("attached-model-missing", `the server holds ${servedAs} no more`);
  }

  #end(exit: EngineExit): void {
    if (this.#exit !== null) return;
    this.#exit = exit;
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    this.#closing.abort();
    const code = exit.cause === "closed" ? "engine-closed" : exit.cause === "hung" ? "engine-hung" : "engine-crashed";
    for (const sequence of [...this.#running]) sequence.fail(code, exit.detail);
    this.#running.clear();
    void Promise.allSettled([this.#parts.tokenizer.close(), this.#parts.release?.(exit)]).then(() =>
      this.#settleExit(exit),
    );
  }
}
