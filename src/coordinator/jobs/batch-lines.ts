/**
 * Runs the lines of one batch until each has a result, or it is told to stop. Everything happens on an event: a line got a slot, was answered, its
 * pause is over, a chunk was read.
 */
import type { BatchCounts, BatchRecord } from "../../domain/batch.ts";
import { describeFault } from "../../domain/fault.ts";
import type { BlobReader } from "../../ports/blob-files.ts";
import type { Timer } from "../../ports/clock.ts";
import type { ApiKey } from "../../ports/store.ts";
import { linesToBegin } from "../../scheduler/jobs/feed.ts";
import { waitMs } from "../../scheduler/jobs/line-outcome.ts";
import { linesPerSecond, restMs, startPace, stepPace } from "../../scheduler/jobs/pace.ts";
import { ClaimedLines, type PendingLine } from "./claimed-lines.ts";
import type { JobMetrics } from "./job-metrics.ts";
import type { JobOptions } from "./job-options.ts";
import type { JobPorts } from "./job-ports.ts";
import { ResultWriter } from "./result-writer.ts";
import { type LineAnswer, runLine } from "./run-line.ts";

export interface BatchLinesPorts extends JobPorts {
  readonly metrics: JobMetrics;
  /** Lines in flight of all batches. */
  readonly flight: { lines: number };
}

export interface BatchLinesStart {
  readonly record: BatchRecord;
  readonly counts: BatchCounts;
  readonly key: ApiKey;
  readonly holder: string;
  readonly reader: BlobReader;
}

export interface LinesProgress {
  readonly counts: BatchCounts;
  readonly linesInFlight: number;
  readonly linesPerSecond: number | null;
  readonly restMs: number | null;
  readonly waitsFor: string | null;
}

/** Claims are renewed this often in the time of one. */
const RENEWALS_PER_CLAIM = 4;

export class BatchLines {
  readonly #ports: BatchLinesPorts;
  readonly #options: JobOptions;
  readonly #record: BatchRecord;
  #key: ApiKey;
  readonly #lines: ClaimedLines;
  readonly #writer: ResultWriter;
  readonly #abort = new AbortController();
  readonly #over = Promise.withResolvers<void>();
  readonly #timers = new Set<Timer>();
  readonly #endsAtMonoMs: number;
  #counts: BatchCounts;
  #pace;
  #running = 0;
  #waiting = 0;
  /** Retries that are paused. */
  #resting = 0;
  #refusalsInRow = 0;
  #waitUntilMs = 0;
  #waitsFor: string | null = null;
  #isPaused: boolean;
  #isStopped = false;
  #isPumping = false;

  constructor(ports: BatchLinesPorts, options: JobOptions, start: BatchLinesStart) {
    const { record } = start;
    const { clock } = ports;
    this.#ports = ports;
    this.#options = options;
    this.#record = record;
    this.#key = start.key;
    this.#counts = start.counts;
    this.#isPaused = record.isPaused;
    this.#pace = startPace(clock.monoMs());
    this.#endsAtMonoMs = clock.monoMs() + Math.max(0, record.expiresAtMs - clock.wallMs());
    const { batchId, endpoint } = record;
    this.#lines = new ClaimedLines(ports, options, { batchId, endpoint, holder: start.holder, reader: start.reader });
    const epochOf = (chunk: number) => this.#lines.epochOf(chunk);
    const onCommit: ConstructorParameters<typeof ResultWriter>[0]["onCommit"] = (outcome) => this.#committed(outcome);
    this.#writer = new ResultWriter({ ...ports, epochOf, onCommit }, { batchId, commitMs: options.commitMs });
  }

  /** Resolves when every line has its result, or after `stop`. */
  run(): Promise<void> {
    this.#renewLater();
    if (this.#isDone()) this.#over.resolve();
    else this.#pump();
    return this.#over.promise;
  }

  /** Ends what runs, which is then not charged; what has ended is written. Its claims are free for whoever goes on. May be called twice. */
  async stop(): Promise<void> {
    if (this.#isStopped) return await this.#over.promise;
    this.#isStopped = true;
    this.#abort.abort();
    for (const timer of this.#timers) timer.cancel();
    await this.#quiet();
    try {
      await this.#writer.flush();
      await this.#lines.release();
    } finally {
      this.#over.resolve();
    }
  }

  /** As it stands by now: its rules hold for every line that has not begun. */
  useKey(key: ApiKey): void {
    this.#key = key;
  }

  pause(isPaused: boolean): void {
    this.#isPaused = isPaused;
    this.#pump();
  }

  /** It is paused, or was told that nothing of it can run; nothing is in flight. */
  get isIdle(): boolean {
    return this.#running + this.#waiting === 0 && (this.#isPaused || this.#waitsFor !== null);
  }

  progress(): LinesProgress {
    const pace = stepPace(this.#pace, { nowMs: this.#ports.clock.monoMs(), lines: 0 });
    const left = this.#counts.lines - this.#counts.completed - this.#counts.failed;
    return {
      counts: this.#counts,
      linesInFlight: this.#running + this.#waiting,
      linesPerSecond: linesPerSecond(pace),
      restMs: this.#isPaused ? null : restMs(pace, left),
      waitsFor: this.#waitsFor,
    };
  }

  #isDone(): boolean {
    return this.#counts.completed + this.#counts.failed >= this.#counts.lines;
  }

  /** Begins what may begin. Never re-entered: a line that starts at once calls it again. */
  #pump(): void {
    if (this.#isPumping || this.#isStopped || this.#isPaused) return;
    this.#isPumping = true;
    try {
      const nowMs = this.#ports.clock.monoMs();
      let room = this.#waitUntilMs > nowMs ? 0 : this.#room();
      for (
        let line = room > 0 ? this.#lines.next() : null;
        line !== null;
        line = room > 0 ? this.#lines.next() : null
      ) {
        this.#begin(line);
        room = this.#room();
      }
      const wanted = Math.max(4, this.#running);
      this.#lines.claimAhead(wanted)?.then(
        () => this.#pump(),
        (thrown: unknown) => this.#claimFailed(thrown),
      );
    } finally {
      this.#isPumping = false;
    }
  }

  #room(): number {
    return linesToBegin({
      running: this.#running,
      waiting: this.#waiting,
      inFlight: this.#ports.flight.lines,
      isCareful: this.#lines.isCareful,
    });
  }

  #begin(line: PendingLine): void {
    this.#flight(1);
    this.#waiting += 1;
    let hasSlot = false;
    const moveTo = (slot: boolean) => {
      if (hasSlot === slot) return;
      hasSlot = slot;
      this.#running += slot ? 1 : -1;
      this.#waiting += slot ? -1 : 1;
      if (slot) this.#pump();
    };
    const run = {
      ...{ line, batchId: this.#record.batchId, endpoint: this.#record.endpoint, key: this.#key },
      ...{ endsAtMonoMs: this.#endsAtMonoMs, signal: this.#abort.signal, epoch: this.#lines.epochOf(line.chunk) },
      onStarted: () => moveTo(true),
      onWaiting: () => moveTo(false),
    };
    const isOver = () => {
      if (hasSlot) this.#running -= 1;
      else this.#waiting -= 1;
      this.#flight(-1);
    };
    runLine(run, this.#ports).then(
      (answer) => {
        isOver();
        this.#answered(line, answer);
      },
      (thrown: unknown) => {
        isOver();
        this.#failed(line, thrown);
      },
    );
  }

  #flight(change: 1 | -1): void {
    this.#ports.flight.lines += change;
    this.#ports.metrics.linesInFlight.set(this.#ports.flight.lines);
  }

  #answered(line: PendingLine, answer: LineAnswer): void {
    const { outcome, json, promptTokens, outputTokens } = answer;
    const { metrics } = this.#ports;
    switch (outcome.kind) {
      case "result": {
        this.#refusalsInRow = 0;
        this.#waitsFor = null;
        const kind = outcome.isOk ? "completed" : outcome.isSetAside ? "set-aside" : "failed";
        metrics.lines.inc({ outcome: kind });
        this.#writer.add({ chunk: line.chunk, line: line.line, isOk: outcome.isOk, json, promptTokens, outputTokens });
        break;
      }
      case "retry":
        metrics.lines.inc({ outcome: "retried" });
        line.tries = outcome.tries;
        this.#writer.addTries({ chunk: line.chunk, line: line.line, tries: outcome.tries });
        this.#rest(line, outcome.delayMs);
        break;
      case "wait":
        // What keeps it out may be its own demand, which others do not make.
        this.#lines.putLast(line);
        this.#holdOff(outcome.code);
        break;
      case "dropped":
        this.#lines.putBack(line);
        break;
    }
    this.#pump();
  }

  /** Only the store can fail here. */
  #failed(line: PendingLine, thrown: unknown): void {
    this.#ports.log.warn({ batchId: this.#record.batchId, cause: describeFault(thrown) }, "line put off");
    this.#lines.putBack(line);
    this.#holdOff("storage_unavailable");
  }

  #claimFailed(thrown: unknown): void {
    this.#ports.log.warn({ batchId: this.#record.batchId, cause: describeFault(thrown) }, "claim put off");
    this.#holdOff("storage_unavailable");
  }

  /** Nothing can run: all lines wait together, longer each time. Those that were refused in the same moment count once. */
  #holdOff(code: string): void {
    const nowMs = this.#ports.clock.monoMs();
    this.#waitsFor = code;
    if (this.#waitUntilMs > nowMs) return;
    this.#refusalsInRow += 1;
    const delayMs = waitMs(this.#refusalsInRow);
    this.#waitUntilMs = nowMs + delayMs;
    this.#after(delayMs, () => this.#pump());
  }

  #rest(line: PendingLine, delayMs: number): void {
    this.#resting += 1;
    this.#after(delayMs, () => {
      this.#resting -= 1;
      this.#lines.putBack(line);
      this.#pump();
    });
  }

  #after(delayMs: number, fire: () => void): void {
    if (this.#isStopped) return;
    const timer = this.#ports.clock.setTimer(delayMs, () => {
      this.#timers.delete(timer);
      if (!this.#isStopped) fire();
    });
    this.#timers.add(timer);
  }

  #renewLater(): void {
    this.#after(this.#options.claimMs / RENEWALS_PER_CLAIM, () => {
      void this.#renew().finally(() => this.#renewLater());
    });
  }

  /** Never rejects: a claim that was not renewed is claimed again. */
  async #renew(): Promise<void> {
    try {
      await this.#lines.renew();
    } catch (thrown) {
      this.#ports.log.warn({ batchId: this.#record.batchId, cause: describeFault(thrown) }, "claims not renewed");
    }
    this.#pump();
  }

  #committed(outcome: { completed: number; failed: number; doneChunks: readonly number[] }): void {
    const { completed, failed, doneChunks } = outcome;
    const { counts } = { counts: this.#counts };
    this.#counts = { ...counts, completed: counts.completed + completed, failed: counts.failed + failed };
    this.#pace = stepPace(this.#pace, { nowMs: this.#ports.clock.monoMs(), lines: completed + failed });
    for (const chunk of doneChunks) this.#lines.forget(chunk);
    if (!this.#isStopped && this.#isDone()) {
      this.#isStopped = true;
      for (const timer of this.#timers) timer.cancel();
      this.#over.resolve();
      return;
    }
    this.#pump();
  }

  /** Lines that were aborted answer within the statement's bound. */
  async #quiet(): Promise<void> {
    while (this.#running + this.#waiting > 0) {
      await new Promise<void>((resolve) => void this.#ports.clock.setTimer(QUIET_LOOK_MS, resolve));
    }
  }
}

const QUIET_LOOK_MS = 10;
