/**
 * One replica on this node: fetch the weights, start the engine, and start it again when it dies. Nothing here ends the agent.
 *
 * | state   | fetched and self-tested | load fails, may pass | load fails for good | engine dies       | unload, yield, stop |
 * | ------- | ----------------------- | -------------------- | ------------------- | ----------------- | ------------------- |
 * | loading | ready                   | loading, back-off    | failed              | -                 | gone                |
 * | ready   | bug                     | -                    | -                   | loading, back-off | gone                |
 * | failed  | -                       | -                    | -                   | -                 | gone                |
 *
 * After `TRIES_MAX` failures in a row it is `failed`; an engine that served for `STEADY_MS` begins a new row.
 */

import type { EngineAbility } from "../../domain/attached-engine.ts";
import { describeFault, FallowError } from "../../domain/fault.ts";
import { type Clock, pause } from "../../ports/clock.ts";
import type { EngineExit } from "../../ports/engine.ts";
import type { Log } from "../../ports/log.ts";
import type { Random } from "../../ports/random.ts";
import { backoffMs } from "../../scheduler/retries/backoff.ts";
import { type ReplicaLoad, type ReplicaReport, WIRE_BOUNDS } from "../../wire/agent-link.ts";

/** A whole engine, or one of a stage. */
export interface StartedEngine {
  readonly info: {
    readonly numericClass: string;
    readonly lacks?: readonly EngineAbility[];
    readonly holdsBack?: boolean;
  };
  stats(): { readonly memoryBytes: number; readonly sequencesQueued?: number; readonly passesQueued?: number };
  close(): Promise<void>;
  readonly exited: Promise<EngineExit>;
}

export interface StartOptions {
  readonly signal: AbortSignal;
  /** Of the fetching and the loading, 0 to 1. */
  tell(progress: number): void;
}

export interface ReplicaRunPorts<E extends StartedEngine> {
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  /** Brings the weights and starts the engine (start-engine.ts). */
  startEngine(options: StartOptions): Promise<E>;
  /** It serves, or is gone. */
  onEngine?(engine: E | null): void;
  /** Attempts that run on it. */
  slotsBusy(): number;
  /** State or progress changed. */
  onChange(): void;
}

const TRIES_MAX = 5;
const STEADY_MS = 60_000;
const RESTART_BACKOFF = { baseMs: 250, capMs: 30_000 };
/** Progress is told in steps of this. */
const PROGRESS_STEP = 0.1;
/** What a second try does not change. */
const FINAL_FAULTS: ReadonlySet<string> = new Set([
  "engine-library-missing",
  "engine-abi-mismatch",
  "engine-self-test-failed",
  "engine-out-of-memory",
  "attached-model-differs",
  "attached-model-missing",
  "attached-kind-differs",
  "attached-kind-unknown",
  // A server that is away: whoever ordered the load does so again, and may look elsewhere meanwhile.
  "attached-unreachable",
  "attached-overloaded",
  "attached-silent",
  "attached-broken",
  "weights-digest-mismatch",
  "weights-manifest-refused",
  "stage-refused",
  "disk-full",
  "downloads-shut",
]);

type Failure = { readonly code: string; readonly message: string };

export class ReplicaRun<E extends StartedEngine> {
  readonly load: ReplicaLoad;
  readonly #ports: ReplicaRunPorts<E>;
  readonly #abort = new AbortController();
  #state: ReplicaReport["state"] = "loading";
  #progress = 0;
  #failure: Failure | null = null;
  #engine: E | null = null;
  #failuresInRow = 0;
  #ended: Promise<void> = Promise.resolve();

  constructor(load: ReplicaLoad, ports: ReplicaRunPorts<E>) {
    this.load = load;
    this.#ports = ports;
  }

  start(): void {
    this.#ended = this.#run();
  }

  /** The engine that serves now; null while there is none. */
  get engine(): E | null {
    return this.#state === "ready" ? this.#engine : null;
  }

  report(): ReplicaReport {
    const { load } = this;
    const stats = this.#engine?.stats() ?? null;
    const lacks = this.#engine?.info.lacks ?? [];
    return {
      replicaId: load.replicaId,
      state: this.#state,
      progress: this.#progress,
      slots: load.sequencesMax,
      slotsBusy: this.#ports.slotsBusy(),
      queued: stats?.sequencesQueued ?? stats?.passesQueued ?? 0,
      contextTokens: load.contextTokens,
      numericClass: this.#engine?.info.numericClass ?? null,
      memoryBytes: stats?.memoryBytes ?? 0,
      weightsSha256: load.weightsSha256,
      deviceId: load.deviceId,
      ...(load.stage === undefined ? {} : { stage: { first: load.stage.first, count: load.stage.count } }),
      ...(lacks.length === 0 ? {} : { lacks: [...lacks] }),
      ...(this.#engine?.info.holdsBack === true ? { holdsBack: true } : {}),
      failure: this.#failure,
    };
  }

  /** Resolves when the engine's process is gone. May be called twice. */
  async close(): Promise<void> {
    this.#abort.abort();
    await this.#engine?.close();
    await this.#ended;
  }

  async #run(): Promise<void> {
    const { signal } = this.#abort;
    while (!signal.aborted) {
      const failure = await this.#serveOnce(signal);
      if (signal.aborted || failure === null) break;
      this.#failuresInRow += 1;
      this.#failure = failure;
      const isFinal = FINAL_FAULTS.has(failure.code) || this.#failuresInRow >= TRIES_MAX;
      this.#change(isFinal ? "failed" : "loading", 0);
      const { replicaId } = this.load;
      this.#ports.log.warn(
        { replicaId, ...failure, failures: this.#failuresInRow, isFinal },
        "replica lost its engine",
      );
      if (isFinal) return;
      const draw = this.#ports.random.fraction();
      await pause(this.#ports.clock, backoffMs({ failures: this.#failuresInRow - 1, draw }, RESTART_BACKOFF), signal);
    }
    this.#change("gone", this.#progress);
  }

  /** From the weights to the engine's death. Null when it was closed. */
  async #serveOnce(signal: AbortSignal): Promise<Failure | null> {
    const { clock } = this.#ports;
    try {
      const engine = await this.#ports.startEngine({ signal, tell: (progress) => this.#tell(progress) });
      this.#engine = engine;
      if (signal.aborted) {
        await engine.close();
        return null;
      }
      const readyAtMs = clock.monoMs();
      this.#failure = null;
      this.#ports.onEngine?.(engine);
      this.#change("ready", 1);
      const exit = await engine.exited;
      if (clock.monoMs() - readyAtMs >= STEADY_MS) this.#failuresInRow = 0;
      return exit.cause === "closed" ? null : { code: `engine-${exit.cause}`, message: bounded(exit.detail) };
    } catch (thrown) {
      const code = thrown instanceof FallowError ? thrown.code : "engine-load-failed";
      return { code: code.slice(0, WIRE_BOUNDS.textMax), message: bounded(describeFault(thrown)) };
    } finally {
      this.#engine = null;
      this.#ports.onEngine?.(null);
    }
  }

  #tell(progress: number): void {
    if (progress - this.#progress >= PROGRESS_STEP) this.#change(this.#state, progress);
  }

  #change(state: ReplicaReport["state"], progress: number): void {
    this.#state = state;
    this.#progress = progress;
    this.#ports.onChange();
  }
}

function bounded(text: string): string {
  return text.slice(0, WIRE_BOUNDS.textMax);
}
