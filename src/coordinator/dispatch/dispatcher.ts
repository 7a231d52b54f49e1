/**
 * Brings every accepted request to its end: answered in full, or refused with a reason. A request waits in its tier, gets a
 * lease on a replica, streams; when its attempt ends badly it waits again, before all others, with its tokens so far.
 * Decisions are the scheduler room's; this file carries them out and owns the state.
 *
 * Everything happens in one turn of the event loop or in a tick: no promise is awaited between a plan and its lease.
 */
import type {
  Cancellation,
  Dispatch,
  EmbeddingOutcome,
  EmbeddingRequest,
  Generation,
  GenerationEvent,
  GenerationRequest,
  RequestTerms,
} from "../../domain/generation.ts";
import type { NodeId } from "../../domain/ids.ts";
import { leaseId as asLeaseId, type LeaseId } from "../../domain/ids.ts";
import type { Refusal } from "../../domain/refusal.ts";
import type { SampledToken } from "../../domain/sampling.ts";
import type { Clock } from "../../ports/clock.ts";
import type { Crypto } from "../../ports/crypto.ts";
import type { Ids } from "../../ports/ids.ts";
import type { Log } from "../../ports/log.ts";
import { WaitingRoom } from "../../scheduler/admission/admission.ts";
import type { SharesSummary } from "../../scheduler/admission/tenant-shares.ts";
import { decideFailover, describeTrouble, type Trouble } from "../../scheduler/attempts/failover.ts";
import { LeaseTable } from "../../scheduler/attempts/lease-table.ts";
import { RetryBudget } from "../../scheduler/retries/retry-budget.ts";
import type { AttemptEnd } from "../../wire/agent-link.ts";
import type { NodeView, Roster } from "../roster.ts";
import { acceptEmbedding, acceptGeneration, type WorkDoor } from "./accept-request.ts";
import { AdmissionDesk, type WaitListener } from "./admission-desk.ts";
import { demandOf } from "./demand.ts";
import { DISPATCH_OPTIONS, type DispatchOptions } from "./dispatch-options.ts";
import { Matcher } from "./matcher.ts";
import { ReplicaPool } from "./replica-pool.ts";
import type { ServedModels } from "./served-models.ts";
import { Watch } from "./watch.ts";
import type { Work } from "./work.ts";
import { type Statement, WorkInbox } from "./work-inbox.ts";

export interface DispatcherPorts {
  readonly gridId: string;
  readonly boot: number;
  readonly clock: Clock;
  readonly ids: Ids;
  readonly crypto: Crypto;
  readonly log: Log;
  readonly roster: Roster;
  readonly models: ServedModels;
}

/** Counted since the start, but for `running` and `waiting`. */
export interface DispatchStats {
  readonly running: number;
  readonly waiting: number;
  readonly started: number;
  readonly moved: number;
  readonly failed: number;
  readonly breaches: number;
  readonly lateMessages: number;
}

export class Dispatcher implements Dispatch {
  readonly pool: ReplicaPool;
  readonly #ports: DispatcherPorts;
  readonly #options: DispatchOptions;
  readonly #leases: LeaseTable;
  readonly #waiting: WaitingRoom<Work>;
  readonly #running = new Map<LeaseId, Work>();
  readonly #matcher: Matcher;
  readonly #inbox: WorkInbox;
  readonly #watch: Watch;
  readonly #desk: AdmissionDesk;
  readonly #budget: RetryBudget;
  readonly #idleWaiters: (() => void)[] = [];
  #counts = { started: 0, moved: 0, failed: 0 };
  #isMatchQueued = false;
  #isDraining = false;
  #isStopped = false;

  constructor(ports: DispatcherPorts, options: Partial<DispatchOptions> = {}) {
    this.#ports = ports;
    this.#options = { ...DISPATCH_OPTIONS, ...options };
    const { clock } = ports;
    const leases = new LeaseTable({ boot: ports.boot });
    this.#leases = leases;
    this.#waiting = new WaitingRoom({ lengthMax: this.#options.queueLengthMax });
    this.#budget = new RetryBudget(clock.monoMs());
    this.pool = new ReplicaPool(
      {
        ...ports,
        leasedOn: (replicaId) => leases.leasedOn(replicaId),
        demand: () => demandOf(this.#waiting.all()),
        onChange: () => this.#matchSoon(),
      },
      this.#options,
    );
    this.#watch = new Watch(this.#watchPorts(), this.#options);
    const patientMs = () => this.#watch.patientMs();
    this.#desk = new AdmissionDesk({ clock, waiting: this.#waiting, pool: this.pool, patientMs });
    this.#matcher = new Matcher(
      { ...ports, leases, pool: this.pool, waiting: this.#waiting, patientMs },
      this.#options,
    );
    this.#inbox = new WorkInbox({ ...ports, leases, patientMs }, this.#options, {
      find: (leaseId) => this.#running.get(asLeaseId(leaseId)) ?? null,
      onTokens: (work, tokens) => this.#tokens(work, tokens),
      onEnd: (work, end) => this.#end(work, end),
      onSpoilt: (work, detail) => this.#lose(work, { kind: "spoilt", detail }),
      onFailed: (work, failure) => this.#lose(work, { kind: "failed", ...failure }),
    });
    this.#subscribe();
  }

  #watchPorts(): ConstructorParameters<typeof Watch>[0] {
    return {
      clock: this.#ports.clock,
      leases: this.#leases,
      running: () => [...this.#running.values()],
      waiting: () => this.#waiting.all(),
      hasAlternative: (work) => this.#matcher.hasAlternative(work),
      impossibility: (work) => this.#matcher.impossibility(work),
      onTrouble: (work, trouble) => this.#lose(work, trouble),
      onFail: (work, reason) => this.#fail(work, reason),
      onTick: () => this.#match(),
    };
  }

  #subscribe(): void {
    this.#ports.roster.subscribe({
      onOnline: (nodeId) => this.pool.observe(nodeId),
      onReplicas: (nodeId) => this.pool.observe(nodeId),
      onSuspect: (nodeId) => this.#withdraw(nodeId, { kind: "node-suspect", detail: "no message within the bound" }),
      onGone: (nodeId, cause) => this.#withdraw(nodeId, { kind: "node-gone", detail: cause }),
      onWithdrawn: (nodeId, why) => {
        if (why === "yield") this.#withdraw(nodeId, { kind: "node-yielded", detail: "the owner is back" });
        else this.pool.planSoon();
      },
      onWork: (nodeId, message) => {
        if (message.type === "replica.state") this.pool.observe(nodeId);
        else this.#inbox.take(nodeId, message);
      },
    });
  }

  start(): void {
    this.pool.start();
  }

  /** Ends everything at once: running attempts are cancelled, waiting requests fail with `draining`. May be called twice. */
  stop(): void {
    if (this.#isStopped) return;
    this.#isDraining = true;
    for (const work of this.#all()) this.#fail(work, draining("ends what runs"));
    this.#isStopped = true;
    this.#watch.stop();
    this.pool.stop();
  }

  /** Refuses new requests; resolves when the running ones have ended, or after `withinMs`. */
  drain(withinMs: number): Promise<void> {
    this.#isDraining = true;
    if (this.#all().length === 0) return Promise.resolve();
    return new Promise((resolve) => {
      const timer = this.#ports.clock.setTimer(withinMs, resolve);
      this.#idleWaiters.push(() => {
        timer.cancel();
        resolve();
      });
    });
  }

  stats(): DispatchStats {
    const { breaches, lateMessages } = this.#inbox;
    return { ...this.#counts, running: this.#running.size, waiting: this.#waiting.size, breaches, lateMessages };
  }

  /** Who used the grid lately. */
  shares(): SharesSummary {
    return this.#desk.shares();
  }

  /** Waits are told as they end. */
  onWait(listener: WaitListener): void {
    this.#desk.subscribe(listener);
  }

  generate(request: GenerationRequest, onEvent: (event: GenerationEvent) => void): Generation {
    return acceptGeneration(request, onEvent, this.#door(request.terms));
  }

  embed(request: EmbeddingRequest, signal: Cancellation): Promise<EmbeddingOutcome> {
    return acceptEmbedding(request, signal, this.#door(request.terms));
  }

  #door(terms: RequestTerms): WorkDoor {
    return {
      model: this.#ports.models.get(terms.modelId),
      nowMs: this.#ports.clock.monoMs(),
      admit: (work) => this.#admit(work),
      finish: (work) => this.#finish(work),
    };
  }

  #admit(work: Work): void {
    if (work.phase !== "waiting") return;
    const refusal = this.#refusalFor(work);
    if (refusal !== null) {
      this.#counts.failed += 1;
      work.settle();
      work.deliverFailure(refusal);
      return;
    }
    this.#watch.keepTicking();
    this.#match();
    this.#desk.promise(work);
  }

  /** Null once the work waits in its queue. */
  #refusalFor(work: Work): Refusal | null {
    if (this.#isDraining) return draining("takes no new requests");
    const impossible = this.#matcher.impossibility(work);
    return impossible ?? this.#desk.enter(work);
  }

  async #finish(work: Work): Promise<ReturnType<Work["records"]>> {
    if (work.phase === "waiting") {
      this.#waiting.leave(work);
      this.#settle(work);
    } else if (work.phase === "running" && work.current !== null) {
      const { leaseId, epoch, nodeId } = work.current.lease;
      work.phase = "closing";
      work.closingAtMs = this.#ports.clock.monoMs();
      this.#ports.roster.send(nodeId, { type: "attempt.cancel", leaseId, epoch });
    }
    await work.whenDone();
    return work.records();
  }

  #matchSoon(): void {
    if (this.#isMatchQueued || this.#waiting.size === 0) return;
    this.#isMatchQueued = true;
    queueMicrotask(() => {
      this.#isMatchQueued = false;
      if (!this.#isStopped) this.#match();
    });
  }

  #match(): void {
    const nowMs = this.#ports.clock.monoMs();
    this.#matcher.placeWaiting((work, node) => this.#placed(work, node, nowMs));
    if (this.#waiting.size > 0) this.pool.planSoon();
  }

  #placed(work: Work, node: NodeView, nowMs: number): void {
    const attempt = work.current;
    if (attempt === null) return;
    this.#running.set(attempt.lease.leaseId, work);
    this.#counts.started += 1;
    if (work.counts.troubles === 0) this.#budget.started();
    this.#desk.started(work, attempt);
    work.orphanSinceMs = null;
    const { leaseId, attemptId, replicaId } = attempt.lease;
    const waitedMs = Math.round(nowMs - work.queuedAtMs);
    this.#ports.log.debug(
      { requestId: work.terms.requestId, nodeId: node.nodeId, replicaId, attemptId, leaseId, waitedMs },
      "lease granted",
    );
    work.deliverStarted(node.nodeId, waitedMs);
  }

  #tokens(work: Work, tokens: readonly SampledToken[]): void {
    work.deliverTokens(tokens);
    if (work.phase !== "running" || work.current === null || work.completion() === null) return;
    work.current.completedAtMs = this.#watch.patientMs();
  }

  #end(work: Work, end: { reason: AttemptEnd["reason"]; statement: Statement | null }): void {
    const attempt = work.current;
    if (attempt === null) return;
    const isClosing = work.phase === "closing";
    this.#leases.end(attempt.lease.leaseId);
    this.#release(work, {
      isWhole: true,
      ending: isClosing ? work.finishEnding() : "finished",
      detail: null,
      statement: end.statement,
    });
    this.#settle(work);
    if (!isClosing && end.reason !== "cancelled") work.deliverEnd(end.reason);
    this.#matchSoon();
  }

  /** The running attempt is over and its answer is not. */
  #lose(work: Work, trouble: Trouble): void {
    const attempt = work.current;
    if (attempt === null) return;
    const { leaseId, epoch, nodeId } = attempt.lease;
    this.#leases.revoke(leaseId);
    const detail = describeTrouble(trouble);
    const isClosing = work.phase === "closing";
    const completion = work.completion();
    const isOver = isClosing || completion !== null;
    if (!isOver) work.countTrouble(trouble);
    const decision = decideFailover(trouble, work.counts);
    const ending = isClosing ? work.finishEnding() : completion !== null ? "finished" : decision.ending;
    this.#release(work, { ending, detail, statement: null, isWhole: false });
    if (trouble.kind !== "node-gone" && trouble.kind !== "failed") {
      this.#ports.roster.send(nodeId, { type: "attempt.cancel", leaseId, epoch });
    }
    if (isOver) {
      this.#settle(work);
      if (!isClosing && completion !== null) work.deliverEnd(completion);
      this.#matchSoon();
      return;
    }
    const { requestId } = work.terms;
    this.#ports.log.info({ requestId, nodeId, leaseId, detail, next: decision.kind }, "attempt lost");
    if (decision.kind === "give-up") {
      this.#fail(work, decision.reason);
      return;
    }
    const nowMs = this.#ports.clock.monoMs();
    if (decision.avoidNodeMs > 0) {
      work.avoid(nodeId, nowMs + decision.avoidNodeMs);
      work.notBeforeMs = this.#budget.take(nowMs);
    }
    this.#counts.moved += 1;
    work.phase = "waiting";
    this.#desk.reprice(work);
    this.#waiting.enterMoved(work);
    this.#matchSoon();
  }

  /** Ends work that waits or runs with a refusal. */
  #fail(work: Work, reason: Refusal): void {
    if (work.phase === "done") return;
    const { current } = work;
    const isClosing = work.phase === "closing";
    if (current !== null) {
      const { leaseId, epoch, nodeId } = current.lease;
      this.#leases.revoke(leaseId);
      const ending = isClosing ? work.finishEnding() : reason.code === "deadline-exceeded" ? "timed-out" : "cancelled";
      this.#release(work, { ending, detail: reason.message, statement: null, isWhole: false });
      this.#ports.roster.send(nodeId, { type: "attempt.cancel", leaseId, epoch });
    }
    this.#waiting.leave(work);
    this.#settle(work);
    if (isClosing) return;
    this.#counts.failed += 1;
    work.deliverFailure(reason);
    this.#matchSoon();
  }

  #release(work: Work, end: Parameters<Work["close"]>[0] & { readonly isWhole: boolean }): void {
    const { current } = work;
    work.close(end);
    if (current === null) return;
    this.#running.delete(current.lease.leaseId);
    this.pool.touch(current.lease.replicaId);
    this.#desk.ended(work, current, end.isWhole);
  }

  #settle(work: Work): void {
    work.settle();
    if (this.#running.size + this.#waiting.size === 0) for (const wake of this.#idleWaiters.splice(0)) wake();
  }

  #withdraw(nodeId: NodeId, trouble: Trouble): void {
    for (const work of [...this.#running.values()]) {
      if (work.current?.lease.nodeId === nodeId) this.#lose(work, trouble);
    }
    this.pool.observe(nodeId);
    this.pool.planSoon();
  }

  #all(): readonly Work[] {
    return [...this.#running.values(), ...this.#waiting.all()];
  }
}

function draining(what: string): Refusal {
  const message = `the grid is shutting down and ${what}`;
  return { code: "draining", message, param: null, retryAfterMs: DRAIN_RETRY_MS };
}

/** A coordinator restarts within this. */
const DRAIN_RETRY_MS = 5_000;
