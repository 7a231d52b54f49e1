/**
 * Jobs that bring models into the grid: a few at once, the others in line. Notes and partial files outlive the process, so a coordinator
 * that was killed goes on where it was. Whoever watches a job is given its newest view whenever it reads: a slow reader holds nothing up.
 */
import { assert } from "../../domain/assert.ts";
import { describeFault, FallowError } from "../../domain/fault.ts";
import { toHex } from "../../domain/hex.ts";
import { type Outcome, ok, refuse } from "../../domain/refusal.ts";
import { type Clock, pause } from "../../ports/clock.ts";
import type { Log } from "../../ports/log.ts";
import type { Random } from "../../ports/random.ts";
import type { ModelRecord } from "../../ports/store.ts";
import { parseJson } from "../../wire/json-frame.ts";
import { isResting, type JobNote, type JobState, type JobView, jobNoteSchema } from "./intake-job.ts";
import { JobProgress } from "./job-progress.ts";
import type { ModelTerms } from "./model-catalogue.ts";
import { type IntakePorts, type IntakeWatch, runIntake } from "./run-intake.ts";

export interface ModelIntakePorts extends IntakePorts {
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
}

export interface IntakeRequest {
  readonly reference: string;
  readonly terms: ModelTerms;
}

/** Two downloads fill most lines; more would share them. As many files of this machine are read beside them. */
const RUNNING_MAX = 2;
/** Jobs that wait, run or rest with partial files: each may hold a model's size of disk. */
export const JOBS_MAX = 64;
/** Of those that are done the last are remembered. */
const DONE_KEPT = 32;
const JOB_ID_BYTES = 8;
/** A reader that asks again at once gets the next view after so long. */
const VIEW_MS = 200;

/** Faults after which the same request would end the same way: the partial files are of no use. */
const FINAL = new Set(["model-source-invalid", "model-source-refused", "model-source-unsafe", "model-source-changed"]);

const SHOWN_STATES: readonly JobState[] = ["queued", "running", "paused", "failed"];

interface Job {
  note: JobNote;
  state: JobState;
  readonly progress: JobProgress;
  record: ModelRecord | null;
  run: { readonly stop: AbortController; readonly ended: Promise<void> } | null;
}

export class ModelIntake {
  readonly #ports: ModelIntakePorts;
  readonly #jobs = new Map<string, Job>();
  #isStopped = false;
  #fetchedBytes = 0;

  constructor(ports: ModelIntakePorts) {
    this.#ports = ports;
  }

  /** Takes up what an earlier run left. A note that cannot be read is logged and its partial files are left alone. */
  async start(): Promise<void> {
    const { incoming, log } = this.#ports;
    for (const { jobId, note } of await incoming.notes()) {
      const parsed = jobNoteSchema.safeParse(parseJson(note));
      if (parsed.success && parsed.data.jobId === jobId) this.#put(parsed.data);
      else log.error({ jobId }, "intake job cannot be read");
    }
    this.#next();
  }

  /** Running jobs are cut and go on at the next start. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    const running = [...this.#jobs.values()].flatMap(({ run }) => (run === null ? [] : [run]));
    for (const { stop } of running) stop.abort(new FallowError("aborted", "the coordinator stops"));
    await Promise.all(running.map(({ ended }) => ended));
  }

  /** A job for the reference; the one that rests or runs when there is one with the same terms. */
  async add(request: IntakeRequest): Promise<Outcome<JobView>> {
    const terms = givenTerms(request.terms);
    const same = [...this.#jobs.values()].find((job) => isSame(job, request.reference, terms));
    if (same !== undefined) {
      if (isResting(same.state)) await this.#resume(same, terms);
      return ok(this.#view(same));
    }
    const open = [...this.#jobs.values()].filter(
      ({ state, note }) => !isResting(state) || note.resolved !== null,
    ).length;
    if (open >= JOBS_MAX) {
      return refuse("queue-full", `${open} models are on their way, at most ${JOBS_MAX} may be: cancel one`, {});
    }
    const { random, clock, incoming } = this.#ports;
    const note: JobNote = {
      version: 1,
      jobId: `job_${toHex(random.bytes(JOB_ID_BYTES))}`,
      reference: request.reference,
      terms,
      createdAtMs: Math.floor(clock.wallMs()),
      isWaiting: false,
      error: null,
      resolved: null,
    };
    await incoming.note(note.jobId, JSON.stringify(note));
    const job = this.#put(note);
    this.#next();
    return ok(this.#view(job));
  }

  /** Jobs that are not done, by state, and the bytes that came from sources since the start. */
  stats(): { readonly jobs: ReadonlyMap<JobState, number>; readonly fetchedBytes: number } {
    const states = [...this.#jobs.values()].map(({ state }) => state);
    const count = (state: JobState) => states.filter((one) => one === state).length;
    return { jobs: new Map(SHOWN_STATES.map((state) => [state, count(state)])), fetchedBytes: this.#fetchedBytes };
  }

  /** Newest first. */
  list(): readonly JobView[] {
    return [...this.#jobs.values()].map((job) => this.#view(job)).reverse();
  }

  get(jobId: string): JobView | null {
    const job = this.#jobs.get(jobId);
    return job === undefined ? null : this.#view(job);
  }

  /** The record of a job that is done. */
  recordOf(jobId: string): ModelRecord | null {
    return this.#jobs.get(jobId)?.record ?? null;
  }

  /** Stops it and keeps what came: the same request goes on from there. False when there is no such job, or it is done. */
  async pause(jobId: string): Promise<boolean> {
    const job = this.#jobs.get(jobId);
    if (job === undefined || job.state === "done") return false;
    await this.#halt(job);
    if (!isResting(job.state)) await this.#rest(job, "paused", null);
    this.#next();
    return true;
  }

  /** Stops it and deletes what came. False when there is no such job. */
  async cancel(jobId: string): Promise<boolean> {
    const job = this.#jobs.get(jobId);
    if (job === undefined) return false;
    await this.#halt(job);
    if (job.state !== "done") {
      job.state = "failed";
      job.note = { ...job.note, error: { code: "cancelled", message: "it was cancelled" } };
    }
    this.#jobs.delete(jobId);
    job.progress.changed();
    await this.#ports.incoming.discard(jobId);
    this.#next();
    return true;
  }

  /** The newest view, when it differs from the one that was seen; at the latest after `withinMs`. Null when the job is gone. */
  async viewAfter(
    jobId: string,
    seen: number,
    wait: { withinMs: number; signal: AbortSignal },
  ): Promise<SeenView | null> {
    const job = this.#jobs.get(jobId);
    if (job === undefined) return null;
    if (seen > 0) {
      if (job.progress.version === seen) await job.progress.whenChanged(this.#ports.clock, wait);
      // Several changes are one view; the end is told at once.
      if (!isResting(job.state)) await pause(this.#ports.clock, VIEW_MS, wait.signal);
    }
    return { version: job.progress.version, view: this.#view(job) };
  }

  /** Resolves when nothing more happens by itself. */
  async whenResting(jobId: string, signal: AbortSignal): Promise<JobView | null> {
    for (;;) {
      const job = this.#jobs.get(jobId);
      if (job === undefined) return null;
      if (isResting(job.state) || signal.aborted) return this.#view(job);
      await job.progress.whenChanged(this.#ports.clock, { withinMs: 60_000, signal });
    }
  }

  #put(note: JobNote): Job {
    const state = !note.isWaiting ? "queued" : note.error === null ? "paused" : "failed";
    const job: Job = { note, state, progress: new JobProgress(this.#ports.clock), record: null, run: null };
    this.#jobs.set(note.jobId, job);
    return job;
  }

  #next(): void {
    if (this.#isStopped) return;
    for (const job of [...this.#jobs.values()]) {
      if (job.state !== "queued" || job.run !== null) continue;
      const running = [...this.#jobs.values()].filter((one) => one.run !== null && isLocal(one) === isLocal(job));
      if (running.length >= RUNNING_MAX) continue;
      const stop = new AbortController();
      job.state = "running";
      job.run = { stop, ended: this.#run(job, stop.signal) };
      job.progress.changed();
    }
  }

  async #run(job: Job, signal: AbortSignal): Promise<void> {
    // Never in the turn that starts it: `run` is set by then.
    await Promise.resolve();
    const { log, incoming } = this.#ports;
    const { jobId, reference } = job.note;
    try {
      const added = await runIntake(job.note, this.#ports, this.#watch(job, signal));
      if (added.ok) {
        job.record = added.value;
        job.state = "done";
        log.info({ jobId, reference, modelId: added.value.manifest.modelId }, "model came");
        await incoming.discard(jobId);
      } else {
        await this.#rest(job, "failed", { code: added.reason.code, message: added.reason.message }, "throw away");
      }
    } catch (thrown) {
      if (!signal.aborted) await this.#failed(job, thrown);
    } finally {
      job.run = null;
      job.progress.changed();
      this.#forgetDone();
      this.#next();
    }
  }

  async #failed(job: Job, thrown: unknown): Promise<void> {
    const { log } = this.#ports;
    const code = thrown instanceof FallowError ? thrown.code : "internal";
    const message = thrown instanceof FallowError ? thrown.message : describeFault(thrown);
    // What was never resolved has no partial files.
    const isFinal = FINAL.has(code) || job.note.resolved === null;
    log.warn(
      { jobId: job.note.jobId, reference: job.note.reference, code, cause: describeFault(thrown) },
      "model did not come",
    );
    await this.#rest(job, "failed", { code, message }, isFinal ? "throw away" : "keep");
  }

  #watch(job: Job, signal: AbortSignal): IntakeWatch {
    const { progress } = job;
    return {
      signal,
      step: (step) => progress.step(step),
      resolved: (source, totalBytes) => progress.resolved(source, totalBytes),
      progress: (told) => {
        this.#fetchedBytes += told.cameBytes;
        progress.bytes(told);
      },
      waiting: (why) => progress.waiting(why),
      keep: async (resolved) => {
        job.note = { ...job.note, resolved };
        await this.#ports.incoming.note(job.note.jobId, JSON.stringify(job.note));
      },
    };
  }

  /** Leaves a job for somebody to ask for again. What cannot be written is logged: the job rests all the same. */
  async #rest(
    job: Job,
    state: "paused" | "failed",
    error: JobNote["error"],
    partial: "keep" | "throw away" = "keep",
  ): Promise<void> {
    const { incoming, log } = this.#ports;
    const { jobId } = job.note;
    const resolved = partial === "keep" ? job.note.resolved : null;
    const cut = error === null ? null : { ...error, message: error.message.slice(0, 4_096) };
    job.note = { ...job.note, isWaiting: true, error: cut, resolved };
    job.state = state;
    try {
      if (partial === "throw away") await incoming.discard(jobId);
      else await incoming.note(jobId, JSON.stringify(job.note));
    } catch (thrown) {
      log.error({ jobId, cause: describeFault(thrown) }, "intake job cannot be written");
    }
    job.progress.changed();
  }

  async #resume(job: Job, terms: JobNote["terms"]): Promise<void> {
    job.note = { ...job.note, terms, isWaiting: false, error: null };
    job.progress.again();
    await this.#ports.incoming.note(job.note.jobId, JSON.stringify(job.note));
    job.state = "queued";
    this.#next();
  }

  async #halt(job: Job): Promise<void> {
    const { run } = job;
    if (run === null) return;
    run.stop.abort(new FallowError("aborted", "the job was stopped"));
    await run.ended;
    assert(job.run === null, "a run that ended is over");
  }

  #forgetDone(): void {
    const done = [...this.#jobs.entries()].filter(
      ([, { state, note }]) => state === "done" || (state === "failed" && note.resolved === null),
    );
    for (const [jobId] of done.slice(0, Math.max(0, done.length - DONE_KEPT))) this.#jobs.delete(jobId);
  }

  #view({ note, state, progress, record }: Job): JobView {
    const { jobId, reference, createdAtMs, error } = note;
    const modelId = record?.manifest.modelId ?? null;
    return { jobId, reference, state, ...progress.facts(state === "running"), error, modelId, createdAtMs };
  }
}

export interface SeenView {
  readonly version: number;
  readonly view: JobView;
}

/** A job that rests is taken up with other terms too; one that runs has its own. */
function isSame({ note, state }: Job, reference: string, terms: JobNote["terms"]): boolean {
  if (state === "done" || note.reference !== reference || note.terms.id !== terms.id) return false;
  return isResting(state) || JSON.stringify(note.terms) === JSON.stringify(terms);
}

/** Files of this machine wait for no download. */
function isLocal({ note }: Job): boolean {
  return /^(\/|[A-Za-z]:[\\/])/.test(note.reference);
}

/** Keys that are undefined are left out: a note is JSON. */
function givenTerms(terms: ModelTerms): JobNote["terms"] {
  const { id, inputMicroUsdPerMtok, outputMicroUsdPerMtok, warmReplicas, draftModelId } = terms;
  return {
    ...(id === undefined ? {} : { id }),
    ...(inputMicroUsdPerMtok === undefined ? {} : { inputMicroUsdPerMtok }),
    ...(outputMicroUsdPerMtok === undefined ? {} : { outputMicroUsdPerMtok }),
    ...(warmReplicas === undefined ? {} : { warmReplicas }),
    ...(draftModelId === undefined ? {} : { draftModelId }),
  };
}
