/**
 * A planner in a thread of its own, so that a plan over a large grid never stands in the way of a stream. The thread starts with the
 * first question and does not keep the process alive; one that dies, or that is ended because no answer comes, is started again by the
 * next question.
 */
import { Worker } from "node:worker_threads";
import { FallowError } from "../../domain/fault.ts";
import type { Planner } from "../../ports/planner.ts";
import type { PlannerAnswer, PlannerCall } from "./planner-messages.ts";

export interface WorkerPlannerOptions<Question> {
  /** A module that calls `answerPlans` (planner-thread.ts) with the function that plans. */
  readonly entry: URL;
  /** What of a question goes over without being copied. */
  readonly buffersOf: (question: Question) => readonly ArrayBuffer[];
  /** How long one answer may take; default `ANSWER_MS_MAX`. */
  readonly answerMsMax?: number;
  /** Heap of the thread; default `HEAP_MB_MAX`. */
  readonly heapMbMax?: number;
}

interface Pending<Plan> {
  resolve(plan: Plan): void;
  reject(cause: FallowError): void;
}

/** A thread with a large grid needs some tens of MB; one that needs more than this has a bug, and only the thread dies of it. */
const HEAP_MB_MAX = 512;
/** A plan of 10,000 nodes takes seconds; a thread that is silent for so long is stuck, and its plan would be of another grid. */
const ANSWER_MS_MAX = 60_000;

export class WorkerPlanner<Question, Plan> implements Planner<Question, Plan> {
  readonly #options: WorkerPlannerOptions<Question>;
  readonly #pending = new Map<number, Pending<Plan>>();
  #worker: Worker | null = null;
  #calls = 0;
  /** Runs while an answer is awaited. */
  #patience: ReturnType<typeof setTimeout> | null = null;
  #isStopped = false;

  constructor(options: WorkerPlannerOptions<Question>) {
    this.#options = options;
  }

  plan(question: Question): Promise<Plan> {
    if (this.#isStopped) return Promise.reject(new FallowError("planner-failed", "the planner was stopped"));
    return new Promise((resolve, reject) => {
      const id = this.#calls++;
      const worker = this.#worker ?? this.#start();
      this.#pending.set(id, { resolve, reject });
      worker.ref();
      if (this.#patience === null) this.#wait(worker);
      const call: PlannerCall = { id, question };
      worker.postMessage(call, [...this.#options.buffersOf(question)]);
    });
  }

  async stop(): Promise<void> {
    this.#isStopped = true;
    const worker = this.#worker;
    this.#fail(worker, "the planner was stopped", undefined);
    await worker?.terminate();
  }

  #start(): Worker {
    const { entry, heapMbMax = HEAP_MB_MAX } = this.#options;
    const worker = new Worker(entry, { resourceLimits: { maxOldGenerationSizeMb: heapMbMax } });
    worker.unref();
    worker.on("message", (answer: PlannerAnswer) => this.#settle(worker, answer));
    worker.on("error", (cause) => this.#fail(worker, "the planning thread failed", cause));
    worker.on("exit", (code) => this.#fail(worker, `the planning thread ended with code ${code}`, undefined));
    this.#worker = worker;
    return worker;
  }

  #settle(worker: Worker, { id, plan, fault }: PlannerAnswer): void {
    // An answer that was under way when its thread was given up.
    if (this.#worker !== worker) return;
    const pending = this.#pending.get(id);
    this.#pending.delete(id);
    this.#stopWaiting();
    if (this.#pending.size === 0) worker.unref();
    else this.#wait(worker);
    if (fault !== null) pending?.reject(new FallowError("planner-failed", `the plan could not be made: ${fault}`));
    // The thread answers a question with what the planning function returns for it, whose type this planner has.
    else pending?.resolve(plan as Plan);
  }

  /** For the next answer. */
  #wait(worker: Worker): void {
    const answerMsMax = this.#options.answerMsMax ?? ANSWER_MS_MAX;
    this.#patience = setTimeout(() => {
      this.#fail(worker, `the planning thread gave no answer in ${answerMsMax} ms`, undefined);
      void worker.terminate();
    }, answerMsMax);
    this.#patience.unref();
  }

  #stopWaiting(): void {
    if (this.#patience !== null) clearTimeout(this.#patience);
    this.#patience = null;
  }

  #fail(worker: Worker | null, message: string, cause: unknown): void {
    if (worker === null || this.#worker !== worker) return;
    this.#worker = null;
    this.#stopWaiting();
    const fault = new FallowError("planner-failed", message, { cause });
    for (const { reject } of this.#pending.values()) reject(fault);
    this.#pending.clear();
  }
}
