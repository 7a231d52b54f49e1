/**
 * Law 5: a node that fell silent gets no new work past the stated bounds, and every accepted request ends: answered in
 * full, or refused with a reason, within its deadline and a little. That holds while faults go on, and after they stop the
 * grid has to serve again: the probes that the load puts at the end are answered. In a run without faults everybody is.
 */
import type { GenerationEvent } from "../../domain/generation.ts";
import type { RequestId } from "../../domain/ids.ts";
import { LIVENESS } from "../../domain/node.ts";
import type { Checker, Observation, Report } from "../observation.ts";

/** The coordinator looks every `checkMs`, on a clock that may run one per cent off. */
const CLOCK_SLACK = 1.02;
const SILENT_NO_WORK_MS = (LIVENESS.suspectMs + LIVENESS.checkMs) * CLOCK_SLACK;
const SILENT_NO_ORDERS_MS = (LIVENESS.deadMs + LIVENESS.checkMs) * CLOCK_SLACK;
/** On top of the deadline: how often it is looked at, and the node's last word after it. */
export const ANSWER_GRACE_MS = 1_000;

interface Waiting {
  byMs: number;
  /** Choices whose stream has no end yet. */
  open: number;
}

export class AnswerChecker implements Checker {
  readonly name = "answers";
  readonly #report: Report;
  readonly #isProbe: (requestId: RequestId) => boolean;
  readonly #isCalm: boolean;
  readonly #waiting = new Map<RequestId, Waiting>();
  /** Answered and not settled. */
  readonly #unsettled = new Set<RequestId>();
  readonly #heardMs = new Map<number, number>();
  readonly #ended = new Map<string, number>();
  readonly #refusals = new Map<string, number>();
  #moved = 0;
  #frozenSinceMs: number | null = null;

  constructor(options: { report: Report; isProbe: (requestId: RequestId) => boolean; isCalm: boolean }) {
    this.#isCalm = options.isCalm;
    this.#report = options.report;
    this.#isProbe = options.isProbe;
  }

  observe(observation: Observation, nowMs: number): void {
    switch (observation.kind) {
      case "host":
        if (observation.host === "coordinator") this.#coordinator(observation.change, nowMs);
        break;
      case "message":
      case "noise":
        this.#heardMs.set(observation.connection, nowMs);
        break;
      case "order":
        this.#ordered(observation, nowMs);
        break;
      case "asked":
        this.#unsettled.add(observation.request.terms.requestId);
        break;
      case "accepted": {
        const { terms, choices } = observation.request;
        const byMs = nowMs + terms.deadlineMs * CLOCK_SLACK + ANSWER_GRACE_MS;
        this.#waiting.set(terms.requestId, { byMs, open: choices });
        break;
      }
      case "embedded":
      case "left":
        this.#waiting.delete(observation.requestId);
        break;
      case "generation": {
        const waiting = this.#waiting.get(observation.requestId);
        if (waiting === undefined || !isEnd(observation.event)) break;
        waiting.open -= 1;
        if (waiting.open === 0) this.#waiting.delete(observation.requestId);
        break;
      }
      case "outcome": {
        const { outcome, requestId } = observation;
        this.#waiting.delete(requestId);
        this.#unsettled.delete(requestId);
        count(this.#ended, outcome.kind);
        if (outcome.kind === "refused") count(this.#refusals, outcome.code);
        if (outcome.kind === "answered" || (outcome.kind === "refused" && isTenantsOwn(outcome.code))) break;
        const why = outcome.kind === "refused" ? `refused: ${outcome.code}` : outcome.kind;
        if (this.#isProbe(requestId)) this.#break(`${requestId}, asked after the faults were over, was ${why}`);
        if (this.#isCalm && outcome.kind !== "cancelled") this.#break(`${requestId}, asked in peace, was ${why}`);
        break;
      }
    }
  }

  afterEvent(nowMs: number): void {
    if (this.#frozenSinceMs !== null) return;
    for (const [requestId, { byMs }] of this.#waiting) {
      if (nowMs <= byMs) continue;
      this.#waiting.delete(requestId);
      this.#break(`${requestId} has no answer ${ANSWER_GRACE_MS} ms after its deadline`);
    }
  }

  atEnd(): void {
    for (const requestId of this.#unsettled) this.#break(`${requestId} is not settled at the end of the run`);
  }

  /** How requests ended, why some were refused, and how many streams moved. */
  counts(): {
    readonly outcomes: Readonly<Record<string, number>>;
    readonly refusals: Readonly<Record<string, number>>;
    readonly moved: number;
  } {
    return { outcomes: sorted(this.#ended), refusals: sorted(this.#refusals), moved: this.#moved };
  }

  /** While the coordinator was frozen it could neither hear nor answer. */
  #coordinator(change: string, nowMs: number): void {
    if (change === "frozen") this.#frozenSinceMs = nowMs;
    if (this.#frozenSinceMs === null || change === "frozen") return;
    const frozenMs = nowMs - this.#frozenSinceMs;
    this.#frozenSinceMs = null;
    for (const waiting of this.#waiting.values()) waiting.byMs += frozenMs;
    for (const [connection, heardMs] of this.#heardMs) this.#heardMs.set(connection, heardMs + frozenMs);
  }

  #ordered(order: Extract<Observation, { kind: "order" }>, nowMs: number): void {
    // Until it is welcomed a node waits for the coordinator's store and owes no word.
    if (order.message.type === "welcome") this.#heardMs.set(order.connection, nowMs);
    const silentMs = nowMs - (this.#heardMs.get(order.connection) ?? nowMs);
    const { type } = order.message;
    if (order.message.type === "attempt.start" && order.message.work.kind === "generate") {
      if (order.message.work.generatedCount > 0) this.#moved += 1;
    }
    if (type === "attempt.start" && silentMs > SILENT_NO_WORK_MS) {
      this.#break(`${order.node}, silent for ${Math.round(silentMs)} ms, got a new attempt`);
    }
    if (type === "replica.load" && silentMs > SILENT_NO_ORDERS_MS) {
      this.#break(`${order.node}, silent for ${Math.round(silentMs)} ms, got a new replica`);
    }
  }

  #break(what: string): void {
    this.#report({ law: 5, what });
  }
}

/** The tenant has too little money: no fault of the grid. */
function isTenantsOwn(code: string): boolean {
  return code === "insufficient-funds" || code === "budget-exceeded";
}

function isEnd(event: GenerationEvent): boolean {
  return event.kind === "end" || event.kind === "failed";
}

function count(counts: Map<string, number>, what: string): void {
  counts.set(what, (counts.get(what) ?? 0) + 1);
}

function sorted(counts: ReadonlyMap<string, number>): Readonly<Record<string, number>> {
  return Object.fromEntries([...counts].sort(([a], [b]) => (a < b ? -1 : 1)));
}
