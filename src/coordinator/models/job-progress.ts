/** How far a job is, for people; and who waits for it to change. */
import type { Clock } from "../../ports/clock.ts";
import type { ResolvedSource } from "../../ports/model-source.ts";
import type { JobStep, JobView } from "./intake-job.ts";

/** The rate is that of the last seconds: a mean since the start says nothing after a pause. */
const RATE_WINDOW_MS = 5_000;
/** Samples closer than this are one. */
const SAMPLE_MS = 250;

type ProgressFacts = Pick<
  JobView,
  "step" | "doneBytes" | "totalBytes" | "fetchedBytes" | "bytesPerSecond" | "files" | "waiting" | "chosen"
>;

export class JobProgress {
  readonly #clock: Clock;
  readonly #waiters = new Set<() => void>();
  #samples: { readonly atMs: number; readonly fetchedBytes: number }[] = [];
  #step: JobStep | null = null;
  #doneBytes = 0;
  #totalBytes: number | null = null;
  #fetchedBytes = 0;
  #files = 0;
  #waiting: string | null = null;
  #chosen: string | null = null;
  /** Grows with each change; from 1. */
  version = 1;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  step(step: JobStep): void {
    this.#step = step;
    this.#waiting = null;
    this.changed();
  }

  resolved({ files, chosen }: ResolvedSource, totalBytes: number): void {
    this.#files = files.length;
    // A resumed job names its file exactly: what was chosen first stays said.
    this.#chosen ??= chosen;
    this.#totalBytes = totalBytes;
    this.changed();
  }

  bytes({ doneBytes, cameBytes }: { doneBytes: number; cameBytes: number }): void {
    this.#doneBytes = doneBytes;
    this.#fetchedBytes += cameBytes;
    this.#waiting = null;
    const atMs = this.#clock.monoMs();
    const last = this.#samples.at(-1);
    if (last === undefined || atMs - last.atMs >= SAMPLE_MS) {
      this.#samples.push({ atMs, fetchedBytes: this.#fetchedBytes });
      this.#samples = this.#samples.filter((one) => atMs - one.atMs <= RATE_WINDOW_MS);
    }
    this.changed();
  }

  waiting(why: string): void {
    this.#waiting = why;
    this.changed();
  }

  /** A new run: what came in an earlier one is counted no more. */
  again(): void {
    this.#fetchedBytes = 0;
    this.#samples = [];
    this.#waiting = null;
    this.changed();
  }

  changed(): void {
    this.version++;
    for (const wake of [...this.#waiters]) wake();
    this.#waiters.clear();
  }

  /** Resolves at the next change, at the abort, or after `withinMs`. */
  whenChanged(clock: Clock, { withinMs, signal }: { withinMs: number; signal: AbortSignal }): Promise<void> {
    return new Promise((resolve) => {
      if (signal.aborted) return resolve();
      const done = () => {
        timer.cancel();
        this.#waiters.delete(done);
        signal.removeEventListener("abort", done);
        resolve();
      };
      const timer = clock.setTimer(withinMs, done);
      signal.addEventListener("abort", done, { once: true });
      this.#waiters.add(done);
    });
  }

  facts(isRunning: boolean): ProgressFacts {
    return {
      step: isRunning ? this.#step : null,
      doneBytes: this.#doneBytes,
      totalBytes: this.#totalBytes,
      fetchedBytes: this.#fetchedBytes,
      bytesPerSecond: isRunning && this.#step === "fetching" ? this.#rate() : null,
      files: this.#files,
      waiting: isRunning ? this.#waiting : null,
      chosen: this.#chosen,
    };
  }

  #rate(): number | null {
    const first = this.#samples[0];
    const tookMs = first === undefined ? 0 : this.#clock.monoMs() - first.atMs;
    if (first === undefined || tookMs < SAMPLE_MS) return null;
    return Math.round(((this.#fetchedBytes - first.fetchedBytes) * 1_000) / tookMs);
  }
}
