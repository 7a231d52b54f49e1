/**
 * Looks at all work every `tickMs` while there is any: deadlines, leases that ran out, attempts that stalled, ends that are
 * owed, and waiting work that no node can run any more.
 *
 * It keeps two clocks. Deadlines are the caller's and go by the real one. Leases and stalls measure a node's silence, and
 * while this process itself was held up nobody could be heard: its own pauses are taken out of the patient clock.
 */
import type { Refusal } from "../../domain/refusal.ts";
import type { Clock, Timer } from "../../ports/clock.ts";
import type { Trouble } from "../../scheduler/attempts/failover.ts";
import type { LeaseTable } from "../../scheduler/attempts/lease-table.ts";
import { stalledAtMs } from "../../scheduler/attempts/stall.ts";
import { ownPauseMs } from "../../scheduler/liveness/failure-detector.ts";
import type { DispatchOptions } from "./dispatch-options.ts";
import type { RunningAttempt, Work } from "./work.ts";

export interface WatchPorts {
  readonly clock: Clock;
  readonly leases: LeaseTable;
  running(): readonly Work[];
  waiting(): readonly Work[];
  hasAlternative(work: Work): boolean;
  impossibility(work: Work): Refusal | null;
  onTrouble(work: Work, attempt: RunningAttempt, trouble: Trouble): void;
  onFail(work: Work, reason: Refusal): void;
  /** Why work that may not wait any longer is refused. */
  gaveUp(work: Work): Refusal;
  /** What stands in the way of waiting work, beside that all slots are taken; null when nothing does. */
  describe(work: Work): string | null;
  /** Waiting work may have become placeable by time alone. */
  onTick(): void;
}

/** Whether any node could run waiting work is looked at less often: it costs a walk over all nodes. */
const ORPHAN_CHECK_MS = 1_000;

export class Watch {
  readonly #ports: WatchPorts;
  readonly #options: DispatchOptions;
  #timer: Timer | null = null;
  #lastTickMs = 0;
  #lastOrphanCheckMs = Number.NEGATIVE_INFINITY;
  #pausedMs = 0;

  constructor(ports: WatchPorts, options: DispatchOptions) {
    this.#ports = ports;
    this.#options = options;
  }

  /** Monotonic time without this process's own pauses. */
  patientMs(): number {
    return this.#ports.clock.monoMs() - this.#pausedMs;
  }

  keepTicking(): void {
    if (this.#timer !== null) return;
    this.#lastTickMs = this.#ports.clock.monoMs();
    this.#timer = this.#ports.clock.setTimer(this.#options.tickMs, () => this.#tick());
  }

  stop(): void {
    this.#timer?.cancel();
    this.#timer = null;
  }

  #tick(): void {
    const nowMs = this.#ports.clock.monoMs();
    this.#pausedMs += ownPauseMs({ lastLookMs: this.#lastTickMs, nowMs, plannedMs: this.#options.tickMs });
    this.#timer = null;
    this.#checkDeadlines(nowMs);
    this.#checkPatience(nowMs);
    this.#checkLeases();
    for (const work of this.#ports.running()) this.#checkAttempt(work, nowMs);
    if (nowMs - this.#lastOrphanCheckMs >= ORPHAN_CHECK_MS) this.#checkOrphans(nowMs);
    this.#ports.onTick();
    if (this.#ports.running().length + this.#ports.waiting().length > 0) this.keepTicking();
  }

  #checkDeadlines(nowMs: number): void {
    for (const work of [...this.#ports.running(), ...this.#ports.waiting()]) {
      if (work.deadlineAtMs > nowMs || work.phase === "closing") continue;
      const state = work.phase === "waiting" ? "waiting for a replica" : "answering";
      const obstacle = work.phase === "waiting" ? this.#ports.describe(work) : null;
      const why = obstacle === null ? "" : `: ${obstacle}`;
      const message = `the deadline of ${work.terms.deadlineMs} ms passed while ${state}${why}`;
      this.#ports.onFail(work, { code: "deadline-exceeded", message, param: null, retryAfterMs: null });
    }
  }

  #checkPatience(nowMs: number): void {
    for (const work of this.#ports.waiting()) {
      const { startWithinMs } = work.terms;
      // Told of its start once: what runs already, and lost its node or its slot, is not turned away.
      if (startWithinMs === undefined || work.isTold || nowMs - work.queuedAtMs < startWithinMs) continue;
      this.#ports.onFail(work, this.#ports.gaveUp(work));
    }
  }

  #checkLeases(): void {
    const dead = new Set(this.#ports.leases.expire(this.patientMs()).map((lease) => lease.leaseId));
    if (dead.size === 0) return;
    for (const work of this.#ports.running()) {
      for (const attempt of [work.hedge, work.current]) {
        if (attempt === null || !dead.has(attempt.lease.leaseId)) continue;
        const detail = "no message of the attempt within the lease";
        this.#ports.onTrouble(work, attempt, { kind: "lease-expired", detail });
      }
    }
  }

  #checkAttempt(work: Work, nowMs: number): void {
    const attempt = work.current;
    // While two attempts run for the first token, neither is slow for want of an alternative.
    if (attempt === null || work.hedge !== null) return;
    const owedSinceMs = work.phase === "closing" ? work.closingAtMs : this.#realMs(attempt.completedAtMs);
    if (owedSinceMs !== null) {
      if (nowMs - owedSinceMs < this.#options.statementWaitMs) return;
      this.#ports.onTrouble(work, attempt, { kind: "stalled", detail: "the node's end did not come" });
      return;
    }
    // Its engine stands still for others; `onTick` moves it when that lasts.
    if (attempt.wasHeldBack === true) return;
    if (this.#isStalled(attempt) && this.#ports.hasAlternative(work)) {
      this.#ports.onTrouble(work, attempt, {
        kind: "stalled",
        detail: "slower than its own pace and another replica is free",
      });
    }
  }

  #isStalled(attempt: RunningAttempt): boolean {
    const atMs = stalledAtMs(attempt.pace, { tokens: attempt.promptTokens }, this.#options.stall);
    return this.patientMs() >= atMs;
  }

  #realMs(patientMs: number | null): number | null {
    return patientMs === null ? null : patientMs + this.#pausedMs;
  }

  #checkOrphans(nowMs: number): void {
    this.#lastOrphanCheckMs = nowMs;
    for (const work of this.#ports.waiting()) {
      const impossible = this.#ports.impossibility(work);
      work.orphanSinceMs = impossible === null ? null : (work.orphanSinceMs ?? nowMs);
      if (impossible === null || work.orphanSinceMs === null) continue;
      if (nowMs - work.orphanSinceMs >= this.#options.orphanWaitMs) this.#ports.onFail(work, impossible);
    }
  }
}
