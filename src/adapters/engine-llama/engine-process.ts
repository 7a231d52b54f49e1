/**
 * The engine's process seen from its parent: started with a bare environment, watched, and its end explained. A process
 * that owes an answer and is silent for longer than the bound is killed: a hung driver cannot be talked to.
 */
import { type ChildProcess, fork } from "node:child_process";
import { fileURLToPath } from "node:url";
import type { EngineExit } from "../../ports/engine.ts";
import { StderrRing } from "./stderr-ring.ts";

const OUT_OF_MEMORY =
  /out of memory|failed to allocate|bad_alloc|cudaMalloc failed|ErrorOutOfDeviceMemory|insufficient memory|unable to allocate/i;
const DETAIL_LINES = 6;
/** A healthy step may be slow (long prompts, a busy machine): the bound grows by this many usual gaps between reports. */
const GAPS_BORNE = 10;
/** But to no more than this many times the bound. */
export const BOUND_GROWTH_MAX = 6;
const GAP_SMOOTHING = 0.1;

/** The file beside this one that the process runs. */
export type ChildEntry = "engine-child" | "stage-child";

export interface EngineProcessOptions<Report> {
  readonly entry: ChildEntry;
  readonly environment: Record<string, string>;
  /** Silence that is borne while the model loads, and while an answer is owed after that. */
  readonly loadSilenceMsMax: number;
  readonly silenceMsMax: number;
  readonly onReport: (report: Report) => void;
}

export class EngineProcess<Command extends object, Report> {
  readonly #child: ChildProcess;
  readonly #options: EngineProcessOptions<Report>;
  readonly #stderr = new StderrRing();
  readonly exited: Promise<EngineExit>;
  #watchdog: NodeJS.Timeout | null = null;
  #heardAtMs = performance.now();
  #owesAnswer = false;
  #isLoading = true;
  #usualGapMs = 0;
  #endCause: "closed" | "hung" | null = null;
  #isGone = false;

  constructor(options: EngineProcessOptions<Report>) {
    this.#options = options;
    // In the published package both files are .js: the child is whatever this file is.
    const entry = fileURLToPath(new URL(`./${options.entry}${import.meta.url.slice(-3)}`, import.meta.url));
    this.#child = fork(entry, [], {
      serialization: "advanced",
      stdio: ["ignore", "ignore", "pipe", "ipc"],
      env: options.environment,
      execArgv: [],
    });
    this.#child.stderr?.setEncoding("utf8").on("data", (chunk: string) => this.#stderr.push(chunk));
    this.#child.on("message", (message) => this.#hear(message));
    this.exited = new Promise((resolve) => {
      const settle = (code: number | null, signal: NodeJS.Signals | null, cause: Error | null): void => {
        this.#isGone = true;
        this.#stopWatching();
        resolve(this.#explain(code, signal, cause));
      };
      this.#child.once("close", (code, signal) => settle(code, signal, null));
      this.#child.once("error", (cause) => settle(null, null, cause));
    });
  }

  get processId(): number {
    return this.#child.pid ?? 0;
  }

  get stderr(): StderrRing {
    return this.#stderr;
  }

  send(command: Command): void {
    if (this.#isGone || !this.#child.connected) return;
    // A channel that breaks here is a process that is going: `exited` tells.
    this.#child.send(command, () => undefined);
  }

  /** From here on the shorter bound on silence holds. */
  finishLoading(): void {
    this.#isLoading = false;
    this.expectAnswer(false);
  }

  /** While an answer is owed, silence is watched. */
  expectAnswer(owes: boolean): void {
    if (owes === this.#owesAnswer) return;
    this.#owesAnswer = owes;
    this.#stopWatching();
    if (!owes || this.#isGone) return;
    this.#heardAtMs = performance.now();
    this.#watch();
  }

  ranOutOfMemory(): boolean {
    return this.#stderr.matches(OUT_OF_MEMORY);
  }

  kill(cause: "closed" | "hung"): void {
    this.#endCause ??= cause;
    this.#child.kill("SIGKILL");
  }

  #hear(message: unknown): void {
    const nowMs = performance.now();
    if (this.#owesAnswer) this.#usualGapMs += GAP_SMOOTHING * (nowMs - this.#heardAtMs - this.#usualGapMs);
    this.#heardAtMs = nowMs;
    // The channel carries what the entry of this same package sends, and nothing else.
    this.#options.onReport(message as Report);
  }

  #watch(): void {
    const silentMs = performance.now() - this.#heardAtMs;
    const leftMs = this.#silenceMsMax() - silentMs;
    if (leftMs <= 0) {
      this.kill("hung");
      return;
    }
    this.#watchdog = setTimeout(() => this.#watch(), Math.ceil(leftMs));
    this.#watchdog.unref();
  }

  #silenceMsMax(): number {
    const { loadSilenceMsMax, silenceMsMax } = this.#options;
    if (this.#isLoading) return loadSilenceMsMax;
    return Math.min(silenceMsMax + GAPS_BORNE * this.#usualGapMs, BOUND_GROWTH_MAX * silenceMsMax);
  }

  #stopWatching(): void {
    if (this.#watchdog !== null) clearTimeout(this.#watchdog);
    this.#watchdog = null;
  }

  #explain(code: number | null, signal: NodeJS.Signals | null, cause: Error | null): EngineExit {
    const how = cause !== null ? cause.message : signal !== null ? `ended by ${signal}` : `exit code ${code}`;
    const lines = this.#stderr.lastLines(DETAIL_LINES).join(" | ");
    const detail = lines === "" ? how : `${how}: ${lines}`;
    if (this.#endCause === "closed") return { cause: "closed", detail: how };
    if (this.#endCause === "hung") return { cause: "hung", detail: `silent for too long, ${detail}` };
    return { cause: this.ranOutOfMemory() ? "out-of-memory" : "crashed", detail };
  }
}
