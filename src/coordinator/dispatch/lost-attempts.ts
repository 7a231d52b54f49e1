/**
 * What becomes of work whose attempt is over before its answer is: it moves, ends, or gives up (scheduler/attempts/failover.ts decides). Work that moves
 * waits before all others. A chain is the only one of its model mostly, and its last node is not to blame: nothing is avoided, and the work goes on
 * on the same chain as soon as that serves again.
 */
import { sequenceIdOf } from "../../domain/chain.ts";
import type { ReplicaId } from "../../domain/ids.ts";
import type { Refusal } from "../../domain/refusal.ts";
import type { Clock } from "../../ports/clock.ts";
import type { Crypto } from "../../ports/crypto.ts";
import type { Log } from "../../ports/log.ts";
import type { WaitingRoom } from "../../scheduler/admission/admission.ts";
import {
  asChainTrouble,
  chainFailurePauseMs,
  chainPauseMs,
  decideFailover,
  describeTrouble,
  isEngineDeath,
  type Trouble,
} from "../../scheduler/attempts/failover.ts";
import { RetryBudget } from "../../scheduler/retries/retry-budget.ts";
import type { AdmissionDesk } from "./admission-desk.ts";
import type { ReplicaPool } from "./replica-pool.ts";
import { isStillAtWork, type RunningAttempts } from "./running-attempts.ts";
import type { RunningAttempt, Work } from "./work.ts";

export interface LostAttemptsPorts {
  readonly clock: Clock;
  readonly crypto: Pick<Crypto, "sha256">;
  readonly log: Log;
  readonly running: RunningAttempts;
  readonly waiting: WaitingRoom<Work>;
  readonly desk: Pick<AdmissionDesk, "reprice">;
  readonly pool: Pick<ReplicaPool, "chains">;
  settle(work: Work): void;
  fail(work: Work, reason: Refusal): void;
  tellStarted(work: Work, attempt: RunningAttempt): void;
  matchSoon(): void;
}

export class LostAttempts {
  readonly budget: RetryBudget;
  readonly #ports: LostAttemptsPorts;
  /** Since the start. */
  moved = 0;

  constructor(ports: LostAttemptsPorts) {
    this.#ports = ports;
    this.budget = new RetryBudget(ports.clock.monoMs());
  }

  /** The running attempt is over and its answer is not. */
  lose(work: Work, attempt: RunningAttempt, seen: Trouble): void {
    const { running, matchSoon, pool } = this.#ports;
    const trouble = attempt.crew === null ? seen : asChainTrouble(seen);
    if (work.hedge !== null) {
      if (running.loseOneOfTwo(work, attempt, trouble) && work.current !== null) {
        this.moved += 1;
        this.#ports.tellStarted(work, work.current);
      }
      matchSoon();
      return;
    }
    if (work.current !== attempt) return;
    this.#loseOnly(work, attempt, trouble);
    // What a last stage sends is the chain's word: who lies is replaced.
    if (trouble.kind === "spoilt" && attempt.crew !== null) pool.chains.accuse(attempt.lease.replicaId, trouble.detail);
  }

  /** Nothing of it goes on: stages of chains that worked on it may forget it. */
  over(work: Work): void {
    const { terms, choice } = work;
    const { crypto, pool } = this.#ports;
    if (work.records().every(({ stages }) => stages === undefined)) return;
    const sequence = sequenceIdOf({ requestId: terms.requestId, choice }, (data) => crypto.sha256(data));
    pool.chains.answersOver.add(terms.modelId, sequence);
  }

  /** The chain that this stage stood for has other stages from now on, or does not serve. */
  chainBroke(tail: ReplicaId, detail: string): void {
    for (const { work, attempt } of this.#ports.running.attempts()) {
      if (attempt.lease.replicaId === tail) this.lose(work, attempt, { kind: "chain-changed", detail });
    }
  }

  #loseOnly(work: Work, attempt: RunningAttempt, trouble: Trouble): void {
    const { running, settle, matchSoon, log } = this.#ports;
    const { leaseId, nodeId } = attempt.lease;
    const detail = describeTrouble(trouble);
    const isClosing = work.phase === "closing";
    const completion = work.completion();
    const isOver = isClosing || completion !== null;
    if (!isOver) work.countTrouble(trouble);
    const decision = decideFailover(trouble, work.counts);
    const ending = isClosing ? work.finishEnding() : completion !== null ? "finished" : decision.ending;
    running.revoke(work, { ending, detail, statement: null, isNodeTold: isStillAtWork(trouble) });
    if (isOver) {
      settle(work);
      if (!isClosing && completion !== null) work.deliverEnd(completion);
      matchSoon();
      return;
    }
    const { requestId } = work.terms;
    log.info({ requestId, nodeId, leaseId, detail, next: decision.kind }, "attempt lost");
    if (decision.kind === "give-up") this.#ports.fail(work, decision.reason);
    else this.#waitAgain(work, attempt, { trouble, avoidNodeMs: decision.avoidNodeMs });
  }

  #waitAgain(work: Work, { crew, lease }: RunningAttempt, after: { trouble: Trouble; avoidNodeMs: number }): void {
    const { clock, desk, waiting, matchSoon } = this.#ports;
    const { trouble, avoidNodeMs } = after;
    const nowMs = clock.monoMs();
    if (trouble.kind === "chain-changed") {
      work.notBeforeMs = nowMs + chainPauseMs(work.counts.chainChanges);
    } else if (avoidNodeMs > 0) {
      if (crew === null) work.avoid(lease.nodeId, nowMs + avoidNodeMs);
      const budgetMs = isEngineDeath(trouble) ? nowMs : this.budget.take(nowMs);
      // Nobody else can take it: a little later the chain itself knows whether a stage is gone.
      if (crew !== null) work.notBeforeMs = Math.max(budgetMs, nowMs + chainFailurePauseMs(work.counts.troubles));
      else if (!isEngineDeath(trouble)) work.notBeforeMs = budgetMs;
    }
    this.moved += 1;
    work.phase = "waiting";
    desk.reprice(work);
    waiting.enterMoved(work);
    work.deliverWaiting();
    matchSoon();
  }
}
