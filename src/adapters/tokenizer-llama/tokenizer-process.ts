/** The tokenising process seen from its parent: one question, one answer, and a bound on how long it may take. */
import { type ChildProcess, fork } from "node:child_process";
import { fileURLToPath } from "node:url";
import { FallowError } from "../../domain/fault.ts";
import type { LlamaLibraryFiles } from "../engine-llama/llama-library.ts";
import { StderrRing } from "../engine-llama/stderr-ring.ts";
import type { TokenizerCommand, TokenizerReport } from "./tokenizer-protocol.ts";

/** A megabyte of text takes about a second; a vocabulary of 256,000 words loads in one or two. */
const ANSWER_MS_MAX = 20_000;
const DETAIL_LINES = 4;

interface Waiting {
  readonly resolve: (report: TokenizerReport) => void;
  readonly reject: (fault: FallowError) => void;
  readonly timer: NodeJS.Timeout;
}

type Question = Extract<TokenizerCommand, { key: number }>;

export class TokenizerProcess {
  readonly #child: ChildProcess;
  readonly #stderr = new StderrRing();
  readonly #waiting = new Map<number, Waiting>();
  readonly closed: Promise<void>;
  #isGone = false;

  constructor(options: { readonly library: LlamaLibraryFiles; readonly environment: Record<string, string> }) {
    const entry = fileURLToPath(new URL(`./tokenizer-child${import.meta.url.slice(-3)}`, import.meta.url));
    this.#child = fork(entry, [], {
      serialization: "advanced",
      stdio: ["ignore", "ignore", "pipe", "ipc"],
      env: options.environment,
      execArgv: [],
    });
    this.#child.stderr?.setEncoding("utf8").on("data", (chunk: string) => this.#stderr.push(chunk));
    this.#child.on("message", (message) => this.#take(message));
    this.closed = new Promise((resolve) => {
      const settle = (how: string): void => {
        this.#end(how);
        resolve();
      };
      this.#child.once("close", (code, signal) => settle(signal === null ? `exit code ${code}` : `ended by ${signal}`));
      this.#child.once("error", (cause) => settle(cause.message));
    });
    this.#child.send({ kind: "start", library: options.library });
  }

  get isGone(): boolean {
    return this.#isGone;
  }

  get processId(): number {
    return this.#child.pid ?? 0;
  }

  /** Rejects with `tokenizer-crashed` when the process ends or takes too long. */
  ask(question: Question): Promise<TokenizerReport> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => this.kill(), ANSWER_MS_MAX);
      timer.unref();
      this.#waiting.set(question.key, { resolve, reject, timer });
      if (this.#isGone) this.#end("it is gone");
      // A channel that breaks here is a process that is going: its end answers.
      else this.#child.send(question, () => undefined);
    });
  }

  kill(): void {
    this.#child.kill("SIGKILL");
  }

  #take(message: unknown): void {
    // The channel carries what `tokenizer-child.ts` of this same package sends, and nothing else.
    const report = message as TokenizerReport;
    const waiting = this.#waiting.get(report.key);
    if (waiting === undefined) return;
    this.#waiting.delete(report.key);
    clearTimeout(waiting.timer);
    waiting.resolve(report);
  }

  #end(how: string): void {
    this.#isGone = true;
    const lines = this.#stderr.lastLines(DETAIL_LINES).join(" | ");
    for (const waiting of this.#waiting.values()) {
      clearTimeout(waiting.timer);
      waiting.reject(new FallowError("tokenizer-crashed", `the tokenizer's process ended: ${how} ${lines}`));
    }
    this.#waiting.clear();
  }
}
