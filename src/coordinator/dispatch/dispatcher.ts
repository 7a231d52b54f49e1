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
  GridOutlook,
  OutlookQuestion,
  RequestTerms,
} from "../../domain/generation.ts";
import type { NodeId } from "../../domain/ids.ts";
import type { Refusal } from "../../domain/refusal.ts";
import type { SampledToken } from "../../domain/sampling.ts";
import { WaitingRoom } from "../../scheduler/admission/admission.ts";
import type { Trouble } from "../../scheduler/attempts/failover.ts";
import { LeaseTable } from "../../scheduler/attempts/lease-table.ts";
import type { AttemptEnd } from "../../wire/agent-link.ts";
import { ChainStalls } from "../chains/chain-stalls.ts";
import type { NodeView, RosterHandlers } from "../roster.ts";
import { acceptEmbedding, acceptGeneration, type WorkDoor, workInQuestion } from "./accept-request.ts";
import { AdmissionDesk } from "./admission-desk.ts";
import { demandOf } from "./demand.ts";
import { DISPATCH_OPTIONS, type DispatchOptions } from "./dispatch-options.ts";
import type { DispatchStats } from "./dispatch-stats.ts";
import type { DispatcherPorts } from "./dispatcher-ports.ts";
import { DrainGate, draining } from "./drain-gate.ts";
import { GridIndex } from "./grid-index.ts";
import { Hedges } from "./hedges.ts";
import { LostAttempts } from "./lost-attempts.ts";
import { MatchLog } from "./match-log.ts";
import { Matcher } from "./matcher.ts";
import { Preempter } from "./preempt.ts";
import { ReplicaPool } from "./replica-pool.ts";
import { RunningAttempts } from "./running-attempts.ts";
import { Watch } from "./watch.ts";
import type { RunningAttempt, Work } from "./work.ts";
import { type Statement, WorkInbox } from "./work-inbox.ts";

export class Dispatcher implements Dispatch {
  readonly pool: ReplicaPool;
  readonly admission: AdmissionDesk;
  readonly matchLog: MatchLog;
  readonly #ports: DispatcherPorts;
  readonly #options: DispatchOptions;
  readonly #leases: LeaseTable;
  readonly #waiting: WaitingRoom<Work>;
  readonly #running: RunningAttempts;
  readonly #matcher: Matcher;
  readonly #inbox: WorkInbox;
  readonly #watch: Watch;
  readonly #hedges: Hedges;
  readonly #preempter: Preempter;
  readonly #lost: LostAttempts;
  readonly #gate: DrainGate;
  readonly #stalls: ChainStalls;
  #counts = { started: 0, failed: 0 };
  #isMatchQueued = false;
  #isStopped = false;

  constructor(ports: DispatcherPorts, options: Partial<DispatchOptions> = {}) {
    this.#ports = ports;
    this.#options = { ...DISPATCH_OPTIONS, ...options };
    const { clock } = ports;
    this.#gate = new DrainGate(clock);
    const leases = new LeaseTable({
      boot: ports.boot,
      onLeased: (replicaId, leased) => grid.leased(replicaId, leased),
    });
    this.#leases = leases;
    this.#waiting = new WaitingRoom({ lengthMax: this.#options.queueLengthMax });
    this.pool = new ReplicaPool(
      {
        ...ports,
        leasedOn: (replicaId) => leases.leasedOn(replicaId),
        onNodeChange: (nodeId) => grid.mark(nodeId),
        demand: () => demandOf(this.#waiting.all()),
        onChange: () => this.#matchSoon(),
        onChainBreak: (tail, detail) => this.#lost.chainBroke(tail, detail),
      },
      this.#options,
    );
    const grid = new GridIndex({ roster: ports.roster, pool: this.pool, horizonMs: this.#options.horizonMs });
    this.matchLog = new MatchLog(clock);
    this.#watch = new Watch(this.#watchPorts(), this.#options);
    const patientMs = () => this.#watch.patientMs();
    this.admission = new AdmissionDesk({ clock, waiting: this.#waiting, pool: this.pool, patientMs });
    const index = { grid, matchLog: this.matchLog };
    const closedToBackground = () => this.#running.keptNodes;
    const matched = { leases, pool: this.pool, waiting: this.#waiting, patientMs, closedToBackground };
    this.#matcher = new Matcher({ ...ports, ...index, ...matched }, this.#options);
    this.#running = new RunningAttempts({ ...ports, leases, pool: this.pool, desk: this.admission });
    const books = { waiting: this.#waiting, running: this.#running, desk: this.admission, pool: this.pool };
    this.#lost = new LostAttempts({
      ...books,
      clock,
      crypto: ports.crypto,
      log: ports.log,
      settle: (work) => this.#settle(work),
      fail: (work, reason) => this.#fail(work, reason),
      tellStarted: (work, attempt) => this.#tellStarted(work, attempt),
      matchSoon: () => this.#matchSoon(),
    });
    this.#stalls = new ChainStalls({ ...ports, chains: this.pool.chains });
    this.#preempter = new Preempter({ ...books, log: ports.log });
    this.#hedges = new Hedges({
      ready: (modelId) => this.pool.ready(modelId),
      patientMs,
      place: (work) => this.#placeHedge(work),
    });
    this.#inbox = new WorkInbox({ ...ports, leases, patientMs }, this.#options, {
      find: (leaseId) => this.#running.under(leaseId),
      onTokens: (work, tokens) => this.#tokens(work, tokens),
      onEnd: (work, end) => this.#end(work, end),
      onFirst: (work, attempt) => this.#won(work, attempt),
      onSpoilt: (work, attempt, detail) => this.#lost.lose(work, attempt, { kind: "spoilt", detail }),
      onFailed: (work, attempt, failure) => this.#lost.lose(work, attempt, { kind: "failed", ...failure }),
    });
    ports.roster.subscribe(grid.hearing(this.#rosterHandlers()));
  }

  #watchPorts(): ConstructorParameters<typeof Watch>[0] {
    return {
      clock: this.#ports.clock,
      leases: this.#leases,
      running: () => this.#running.works(),
      waiting: () => this.#waiting.all(),
      hasAlternative: (work) => this.#matcher.hasAlternative(work),
      impossibility: (work) => this.#matcher.impossibility(work),
      onTrouble: (work, attempt, trouble) => this.#lost.lose(work, attempt, trouble),
      onFail: (work, reason) => this.#fail(work, reason),
      gaveUp: (work) => this.admission.gaveUp(work),
      describe: (work) => this.pool.chains.describe(work.modelId),
      onTick: () => {
        this.#preempter.leaveHeld(this.#watch.patientMs());
        this.#match();
        this.#stalls.look(this.#running.attempts(), this.#watch.patientMs());
        this.#hedges.consider(this.#running.works());
      },
    };
  }

  #rosterHandlers(): RosterHandlers {
    return {
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
    };
  }

  start(): void {
    this.pool.start();
  }

  /** Everything ends at once: running attempts are cancelled, waiting requests fail with `draining`, and nothing new comes. May be called twice. */
  endAll(): void {
    this.#gate.isClosed = true;
    for (const work of this.#all()) this.#fail(work, draining("ends what runs"));
  }

  /** Ends everything, and looks at nothing any more. May be called twice. */
  stop(): void {
    if (this.#isStopped) return;
    this.endAll();
    this.#isStopped = true;
    this.#watch.stop();
    this.pool.stop();
  }

  /** Refuses new requests; resolves when the running ones have ended, or after `withinMs`. */
  drain(withinMs: number): Promise<void> {
    this.#gate.isClosed = true;
    if (this.#all().length === 0) return Promise.resolve();
    return this.#gate.whenIdle(withinMs);
  }

  stats(): DispatchStats {
    const { breaches, lateMessages } = this.#inbox;
    const { won: hedgesWon, lost: hedgesLost } = this.#hedges.counts;
    return {
      ...this.#counts,
      moved: this.#lost.moved,
      preempted: this.#preempter.preempted,
      hedgesWon,
      hedgesLost,
      running: this.#running.size,
      waiting: this.#waiting.size,
      breaches,
      lateMessages,
    };
  }

  generate(request: GenerationRequest, onEvent: (event: GenerationEvent) => void): Generation {
    return acceptGeneration(request, onEvent, this.#door(request.terms));
  }

  embed(request: EmbeddingRequest, signal: Cancellation): Promise<EmbeddingOutcome> {
    return acceptEmbedding(request, signal, this.#door(request.terms));
  }

  /** Reads what admission and the matcher know; nothing is queued, counted or planned. */
  outlook(question: OutlookQuestion): GridOutlook {
    const work = workInQuestion(question, this.#ports.clock.monoMs());
    const ready = this.pool.ready(work.modelId);
    const regions = new Set(ready.flatMap(({ nodeId }) => this.pool.node(nodeId)?.region ?? []));
    const told = this.admission.outlook(work);
    const impossible = this.#gate.isClosed ? draining("takes no new requests") : this.#matcher.impossibility(work);
    return {
      ...told,
      refusal: impossible ?? told.refusal,
      readyReplicas: ready.length,
      regions: [...regions].sort(),
    };
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
    this.matchLog.explains.asked(work);
    const refusal = this.#refusalFor(work);
    if (refusal !== null) {
      this.#counts.failed += 1;
      this.matchLog.explains.ended(work, refusal);
      work.settle();
      work.deliverFailure(refusal);
      return;
    }
    this.#watch.keepTicking();
    if (work.terms.isProbe !== true) this.pool.noteArrival(work);
    this.#match();
    this.admission.promise(work);
  }

  /** Null once the work waits in its queue. */
  #refusalFor(work: Work): Refusal | null {
    if (this.#gate.isClosed) return draining("takes no new requests");
    const impossible = this.#matcher.impossibility(work);
    return impossible ?? this.admission.enter(work);
  }

  async #finish(work: Work): Promise<ReturnType<Work["records"]>> {
    if (work.phase === "waiting") {
      this.#waiting.leave(work);
      this.#settle(work);
    } else if (work.phase === "running" && work.current !== null) {
      this.#running.dropHedge(work, "the request was finished");
      work.phase = "closing";
      work.closingAtMs = this.#ports.clock.monoMs();
      this.#running.cancel(work.current);
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
    const onPlaced = (work: Work, node: NodeView) => this.#placed(work, node, nowMs);
    this.#matcher.placeWaiting(onPlaced);
    if (this.#waiting.size === 0) return;
    const wanting = this.#preempter.makeRoom(nowMs);
    if (wanting.size > 0) this.#matcher.placeWaiting(onPlaced, (work) => wanting.has(work));
    if (this.#waiting.size > 0) this.pool.planSoon();
  }

  #placed(work: Work, node: NodeView, nowMs: number): void {
    const attempt = work.current;
    if (attempt === null) return;
    this.#running.began(work, attempt);
    if (!work.isBackground) this.#preempter.giveWay(attempt.lease.nodeId);
    this.#counts.started += 1;
    if (work.counts.troubles === 0) this.#lost.budget.started();
    this.#hedges.started();
    this.admission.started(work, attempt);
    work.orphanSinceMs = null;
    const { leaseId, attemptId, replicaId } = attempt.lease;
    const waitedMs = Math.round(nowMs - work.queuedAtMs);
    this.#ports.log.debug(
      { requestId: work.terms.requestId, nodeId: node.nodeId, replicaId, attemptId, leaseId, waitedMs },
      "lease granted",
    );
    work.deliverStarted(node.nodeId, waitedMs);
  }

  #placeHedge(work: Work): boolean {
    const attempt = this.#matcher.placeHedge(work);
    if (attempt === null) return false;
    this.#running.began(work, attempt);
    this.#preempter.giveWay(attempt.lease.nodeId);
    this.admission.hedged(work, attempt);
    return true;
  }

  #tokens(work: Work, tokens: readonly SampledToken[]): void {
    const attempt = work.current;
    if (attempt !== null && attempt.acknowledgedTokens === tokens.length) this.#hedges.firstToken(work, attempt);
    work.deliverTokens(tokens);
    if (work.phase !== "running" || work.current === null || work.completion() === null) return;
    work.current.completedAtMs = this.#watch.patientMs();
  }

  #end(work: Work, end: { reason: AttemptEnd["reason"]; statement: Statement | null }): void {
    if (work.current === null) return;
    const isClosing = work.phase === "closing";
    this.#running.end(work, {
      ending: isClosing ? work.finishEnding() : "finished",
      detail: null,
      statement: end.statement,
    });
    this.#settle(work);
    if (!isClosing && end.reason !== "cancelled") work.deliverEnd(end.reason);
    this.#matchSoon();
  }

  /** Of two attempts this one gave the first token. */
  #won(work: Work, attempt: RunningAttempt): void {
    const isHedge = this.#running.settleRace(work, attempt);
    this.#hedges.counts[isHedge ? "won" : "lost"] += 1;
    if (isHedge) this.#tellStarted(work, attempt);
    this.#matchSoon();
  }

  #tellStarted(work: Work, attempt: RunningAttempt): void {
    work.deliverStarted(attempt.lease.nodeId, Math.round(this.#ports.clock.monoMs() - work.queuedAtMs));
  }

  /** Ends work that waits or runs with a refusal. */
  #fail(work: Work, reason: Refusal): void {
    if (work.phase === "done") return;
    this.#running.dropHedge(work, reason.message);
    const isClosing = work.phase === "closing";
    if (work.current !== null) {
      const ending = isClosing ? work.finishEnding() : reason.code === "deadline-exceeded" ? "timed-out" : "cancelled";
      this.#running.revoke(work, { ending, detail: reason.message, statement: null, isNodeTold: true });
    }
    this.#waiting.leave(work);
    this.#settle(work, reason);
    if (isClosing) return;
    this.#counts.failed += 1;
    work.deliverFailure(reason);
    this.#matchSoon();
  }

  #settle(work: Work, refusal: Refusal | null = null): void {
    work.settle();
    this.#lost.over(work);
    this.matchLog.explains.ended(work, refusal);
    if (this.#running.size + this.#waiting.size === 0) this.#gate.idle();
  }

  #withdraw(nodeId: NodeId, trouble: Trouble): void {
    for (const { work, attempt } of this.#running.attempts()) {
      // Attempts on chains end with their chain, which looks for itself.
      if (attempt.lease.nodeId === nodeId && attempt.crew === null) this.#lost.lose(work, attempt, trouble);
    }
    this.pool.observe(nodeId);
    this.pool.planSoon();
  }

  #all(): readonly Work[] {
    return [...this.#running.works(), ...this.#waiting.all()];
  }
}
