/**
 * One choice of a request (or one embedding request) on its way through its attempts: what it still needs, what each attempt
 * did, and where it stands.
 *
 * | phase   | placed  | trouble, may go on | last token or attempt ended | finish called | nothing can go on |
 * | ------- | ------- | ------------------ | --------------------------- | ------------- | ----------------- |
 * | waiting | running | bug                | bug                         | done          | done, failed      |
 * | running | bug     | waiting            | done, ended                 | closing       | done, failed      |
 * | closing | bug     | done               | done                        | closing       | done              |
 * | done    | bug     | bug                | bug                         | done          | bug               |
 */
import { assert } from "../../domain/assert.ts";
import type { EngineAbility } from "../../domain/attached-engine.ts";
import type { AttemptEnding, AttemptRecord } from "../../domain/attempt.ts";
import type { RequestTerms } from "../../domain/generation.ts";
import type { LeaseId, ModelId, NodeId } from "../../domain/ids.ts";
import type { Lease } from "../../domain/lease.ts";
import type { Refusal } from "../../domain/refusal.ts";
import type { SampledToken, StopReason } from "../../domain/sampling.ts";
import type { ServiceTier } from "../../domain/tier.ts";
import type { QueueEntry } from "../../scheduler/admission/admission.ts";
import { isEngineDeath, isRequestFault, isRetry, type Trouble } from "../../scheduler/attempts/failover.ts";
import { startPace, type TokenPace } from "../../scheduler/attempts/stall.ts";
import { type Effort, startEffort } from "../../scheduler/placement/observed-speed.ts";
import type { AttemptStart } from "../../wire/agent-link.ts";
import type { CrewStage } from "../chains/chain.ts";

export type WorkPhase = "waiting" | "running" | "closing" | "done";

/** The attempt that runs now. */
export interface RunningAttempt {
  readonly lease: Lease;
  readonly nodePublicKeyHex: string;
  /** Of a chain: all stages, in order; null: the whole model runs on the lease's node. */
  readonly crew: readonly CrewStage[] | null;
  /** Length of the prompt that this attempt was given, tokens of earlier attempts included. */
  readonly promptTokens: number;
  nextSeq: number;
  /** All that the node sent under this lease; those after `finish` are hashed but neither delivered nor paid. */
  readonly receivedTokenIds: number[];
  acknowledgedTokens: number;
  pace: TokenPace;
  /** Its acknowledged tokens in time. */
  effort: Effort;
  /** When the last token that was needed arrived; the node owes its end. */
  completedAtMs: number | null;
  /** Background, and its engine stopped it for others at some time: its pace says nothing about the node. */
  wasHeldBack?: boolean;
}

/** Requests without a tenant share as one. */
const NO_TENANT = "none";

/** How long a node is left alone on which the request failed before it was asked again: others are mostly free by then, and it may be the only one. */
const AVOIDED_MS = 20_000;

export interface AttemptBeginning {
  readonly lease: Lease;
  readonly nodePublicKeyHex: string;
  readonly crew?: readonly CrewStage[] | null;
  /** By the clock of leases. */
  readonly nowMs: number;
}

export interface AttemptClosing {
  readonly ending: AttemptEnding;
  readonly detail: string | null;
  readonly statement: { readonly json: string; readonly signatureHex: string } | null;
}

export abstract class Work implements QueueEntry {
  readonly terms: RequestTerms;
  /** The stages of a chain cannot do it. */
  readonly needsWhole: boolean = false;
  readonly choice: number;
  readonly queuedAtMs: number;
  readonly deadlineAtMs: number;
  /** Bounds what may come: ids at or above it are no tokens. */
  readonly vocabSize: number;
  /** Names it in the queue's order. */
  readonly entryId: string;
  /** Normalised device-seconds that its next attempt is expected to take. */
  shareCost = 0;
  /** When it was expected to start, as told when it began to wait; null when it did not have to. */
  expectedStartMs: number | null = null;
  /** No replica of its model was ready when it began to wait. */
  isColdStart = false;
  /** Its wait was told. */
  isTold = false;
  /** How often it gave its slot to a request of a higher tier. */
  preemptions = 0;
  phase: WorkPhase = "waiting";
  current: RunningAttempt | null = null;
  /** A second attempt beside the current one, until either of them gives the first token. */
  hedge: RunningAttempt | null = null;
  /** Of the attempts that ended badly; what bounds the moves. */
  readonly counts = { troubles: 0, retries: 0, engineDeaths: 0, requestFaults: 0, chainChanges: 0 };
  /** Not placed before this, after a failed attempt when the retry budget is spent. */
  notBeforeMs = 0;
  /** When `finish` was called; the node owes its statement. */
  closingAtMs: number | null = null;
  /** Since when no node could ever run it; null while some could. */
  orphanSinceMs: number | null = null;
  readonly #records: AttemptRecord[] = [];
  readonly #avoided = new Map<NodeId, number>();
  readonly #doneWaiters: (() => void)[] = [];

  constructor(start: { terms: RequestTerms; choice: number; nowMs: number; vocabSize: number }) {
    this.terms = start.terms;
    this.choice = start.choice;
    this.vocabSize = start.vocabSize;
    this.entryId = `${start.terms.requestId}#${start.choice}`;
    this.queuedAtMs = start.nowMs;
    this.deadlineAtMs = start.nowMs + start.terms.deadlineMs;
    for (const nodeId of start.terms.avoidedNodeIds ?? []) this.avoid(nodeId, start.nowMs + AVOIDED_MS);
  }

  get modelId(): ModelId {
    return this.terms.modelId;
  }
  get tier(): ServiceTier {
    return this.terms.tier;
  }
  get isBackground(): boolean {
    return this.terms.isBackground === true;
  }
  get tenantId(): string {
    return this.terms.tenantId ?? NO_TENANT;
  }

  /** Beyond plain text: what a server that a node attached may lack. */
  abstract needs(): readonly EngineAbility[];
  /** Context that a replica must have. */
  abstract tokensNeeded(): number;
  /** Tokens that the node decodes before the first answer. */
  abstract promptTokens(): number;
  /** Tokens whose KV cache may be met again; null when that does not matter. */
  abstract prefix(): readonly number[] | null;
  abstract tokensLeft(): number;
  /** How many of these, from the first on, the answer still takes: none after its last token, none after a stop token. */
  abstract room(tokenIds: readonly number[]): number;
  abstract wireWork(): AttemptStart["work"];
  /** Why the answer is complete although the node has not said so; null while it is not. */
  abstract completion(): StopReason | "embedded" | null;
  /** Null when this end fits what was received, else what is wrong with it. */
  abstract endProblem(reason: string): string | null;
  abstract deliverStarted(nodeId: NodeId, queuedMs: number): void;
  abstract deliverTokens(tokens: readonly SampledToken[]): void;
  abstract deliverEnd(reason: StopReason | "embedded"): void;
  abstract deliverFailure(reason: Refusal): void;
  abstract finishEnding(): AttemptEnding;

  /** It lost its node and waits for another. */
  deliverWaiting(): void {
    // Most do not ask to be told.
  }

  records(): readonly AttemptRecord[] {
    return [...this.#records];
  }

  begin(start: AttemptBeginning): RunningAttempt {
    assert(this.phase === "waiting" && this.current === null, "an attempt starts while its work waits");
    this.current = this.#attempt(start);
    this.phase = "running";
    return this.current;
  }

  beginHedge(start: AttemptBeginning): RunningAttempt {
    const first = this.current;
    assert(this.phase === "running" && first !== null && this.hedge === null, "a hedge starts beside one attempt");
    assert(first.nextSeq === 0, "a hedge starts before the first token");
    this.hedge = this.#attempt(start);
    return this.hedge;
  }

  /** The attempt under this lease, while it lives. */
  attemptUnder(leaseId: LeaseId): RunningAttempt | null {
    if (this.current?.lease.leaseId === leaseId) return this.current;
    return this.hedge?.lease.leaseId === leaseId ? this.hedge : null;
  }

  /** Writes down how the running attempt ended; the phase is the caller's. */
  close(end: AttemptClosing): RunningAttempt {
    const attempt = this.current;
    assert(attempt !== null && this.hedge === null, "an attempt that ends was running, and runs alone");
    this.current = null;
    this.#write(attempt, end);
    return attempt;
  }

  /** The hedge ended and the first attempt goes on. */
  closeHedge(end: AttemptClosing): RunningAttempt {
    const attempt = this.hedge;
    assert(attempt !== null, "a hedge that ends was running");
    this.hedge = null;
    this.#write(attempt, end);
    return attempt;
  }

  /** The first attempt ended and the hedge goes on in its place. */
  promoteHedge(end: AttemptClosing): RunningAttempt {
    const { current, hedge } = this;
    assert(current !== null && hedge !== null, "a hedge that takes over runs beside an attempt");
    this.current = hedge;
    this.hedge = null;
    this.#write(current, end);
    return current;
  }

  #attempt(start: AttemptBeginning): RunningAttempt {
    return {
      lease: start.lease,
      nodePublicKeyHex: start.nodePublicKeyHex,
      crew: start.crew ?? null,
      promptTokens: this.promptTokens(),
      nextSeq: 0,
      receivedTokenIds: [],
      acknowledgedTokens: 0,
      pace: startPace(start.nowMs),
      effort: startEffort(start.nowMs),
      completedAtMs: null,
    };
  }

  #write(attempt: RunningAttempt, end: AttemptClosing): void {
    this.#records.push({
      attemptId: attempt.lease.attemptId,
      leaseId: attempt.lease.leaseId,
      epoch: attempt.lease.epoch,
      nodeId: attempt.lease.nodeId,
      nodePublicKeyHex: attempt.nodePublicKeyHex,
      choice: this.choice,
      acknowledgedTokens: attempt.acknowledgedTokens,
      ending: end.ending,
      detail: end.detail,
      statementJson: end.statement?.json ?? null,
      signatureHex: end.statement?.signatureHex ?? null,
      ...(attempt.crew === null ? {} : { stages: attempt.crew.map(({ nodeId, layers }) => ({ nodeId, layers })) }),
    });
  }

  countTrouble(trouble: Trouble): void {
    if (trouble.kind === "chain-changed") {
      this.counts.chainChanges += 1;
      return;
    }
    this.counts.troubles += 1;
    if (isRetry(trouble)) this.counts.retries += 1;
    if (isEngineDeath(trouble)) this.counts.engineDeaths += 1;
    if (isRequestFault(trouble)) this.counts.requestFaults += 1;
  }

  avoid(nodeId: NodeId, untilMs: number): void {
    this.#avoided.set(nodeId, untilMs);
  }

  avoided(nowMs: number): ReadonlySet<NodeId> {
    for (const [nodeId, untilMs] of this.#avoided) if (untilMs <= nowMs) this.#avoided.delete(nodeId);
    return new Set(this.#avoided.keys());
  }

  /** Nothing follows. */
  settle(): void {
    assert(this.current === null && this.hedge === null, "no attempt runs when its work is done");
    this.phase = "done";
    for (const wake of this.#doneWaiters.splice(0)) wake();
  }

  whenDone(): Promise<void> {
    if (this.phase === "done") return Promise.resolve();
    return new Promise((resolve) => this.#doneWaiters.push(resolve));
  }
}
