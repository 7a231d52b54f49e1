/**
 * Lets requests into the waiting room or says why not, and keeps the books that this takes: how long attempts of each model
 * last, what each tenant used, when a request that waits should start, and how far that was off.
 */
import type { GridOutlook } from "../../domain/generation.ts";
import type { LeaseId, ModelId, NodeId, ReplicaId } from "../../domain/ids.ts";
import { formatUsd } from "../../domain/money.ts";
import type { Refusal } from "../../domain/refusal.ts";
import type { ServiceTier } from "../../domain/tier.ts";
import type { Clock } from "../../ports/clock.ts";
import type { Entrance, WaitingRoom } from "../../scheduler/admission/admission.ts";
import { COLD_START_GUESS_MS, expectedWaitMs, retryAfterMs } from "../../scheduler/admission/eta.ts";
import { priceBound } from "../../scheduler/admission/price-bound.ts";
import { helpForWaiting } from "../../scheduler/admission/refusal-help.ts";
import { type RequestSize, SlotTimes, slotWorth } from "../../scheduler/admission/slot-times.ts";
import { type SharesSummary, TenantShares } from "../../scheduler/admission/tenant-shares.ts";
import type { NodeFact, ReplicaFact } from "../../scheduler/placement/snapshot.ts";
import type { RunningAttempt, Work } from "./work.ts";

export interface AdmissionPorts {
  readonly clock: Clock;
  readonly waiting: WaitingRoom<Work>;
  readonly pool: {
    ready(modelId: ModelId): readonly ReplicaFact[];
    replica(replicaId: ReplicaId): ReplicaFact | null;
    node(nodeId: NodeId): NodeFact | null;
    /** Why no chain of the model serves; null when one does, or it has none. */
    readonly chains: { describe(modelId: ModelId): string | null };
  };
  /** The clock of leases. */
  patientMs(): number;
}

type DeskOutlook = Pick<GridOutlook, "refusal" | "waitMs" | "firstTokenMs" | "queuePosition" | "outputShare">;

/** Told once for each attempt that starts. */
export interface WaitListener {
  onWait(wait: { readonly tier: ServiceTier; readonly waitedMs: number; readonly etaErrorMs: number | null }): void;
}

interface HeldSlot {
  readonly modelId: ModelId;
  readonly isBackground: boolean;
  readonly worth: number;
  readonly chargedSeconds: number;
  readonly expectedMs: number;
  readonly startedAtMs: number;
  readonly size: RequestSize;
}

/** A flex request may be refused: when it would start at twice its deadline, by what was measured, waiting is in vain. */
const HOPELESS_FACTOR = 2;
/** An attempt that lasts longer than expected is taken to need this part of the expectation still. */
const OVERDUE_REST = 0.1;
/** Weight of the newest cold start. */
const COLD_WEIGHT = 0.3;

export class AdmissionDesk {
  readonly #ports: AdmissionPorts;
  readonly #services = new SlotTimes();
  readonly #shares = new TenantShares();
  readonly #held = new Map<LeaseId, HeldSlot>();
  readonly #coldMs = new Map<ModelId, number>();
  readonly #listeners: WaitListener[] = [];

  constructor(ports: AdmissionPorts) {
    this.#ports = ports;
  }

  subscribe(listener: WaitListener): void {
    this.#listeners.push(listener);
  }

  shares(): SharesSummary {
    return this.#shares.summary(this.#ports.clock.monoMs());
  }

  /** Null once the work waits in its queue. */
  enter(work: Work): Refusal | null {
    const { waiting } = this.#ports;
    work.shareCost = this.#services.expectedCost(sizeOf(work));
    const hopeless = this.#hopeless(work);
    if (hopeless !== null) return hopeless;
    const entrance = waiting.enter(work);
    return entrance === "entered" ? null : this.#turnedAway(work, entrance);
  }

  #turnedAway(work: Work, entrance: Exclude<Entrance, "entered">): Refusal {
    const { waiting } = this.#ports;
    const full =
      entrance === "tier-full"
        ? `${waiting.lengthMax} requests of tier ${work.tier} are waiting already`
        : `${waiting.tenantLengthMax} requests of this tenant are waiting in tier ${work.tier} already, which is one tenant's part of the queue`;
    const waitMs = this.#expectedWaitMs(work);
    const message = `${full}${this.#obstacle(work)}; this one would start in about ${seconds(waitMs)} s and cost at most ${this.#mostUsd(work)} USD. What helps: ${helpForWaiting(work.tier)}`;
    return {
      code: work.tier === "flex" ? "resource-unavailable" : "queue-full",
      message,
      param: null,
      retryAfterMs: retryAfterMs(waitMs),
    };
  }

  /** It waited as long as it wants to, and has not started. */
  gaveUp(work: Work): Refusal {
    const waitMs = this.#expectedWaitMs(work);
    const waitedMs = this.#ports.clock.monoMs() - work.queuedAtMs;
    const message = `no slot fell free for this ${work.tier} request within the ${seconds(waitedMs)} s that it waits${this.#obstacle(work)}; one that comes now would start in about ${seconds(waitMs)} s. Nothing is charged. What helps: ${helpForWaiting(work.tier)}`;
    const code = work.tier === "flex" ? "resource-unavailable" : "no-capacity";
    return { code, message, param: null, retryAfterMs: retryAfterMs(waitMs) };
  }

  /** What `enter` would say, and when the work would start; nothing enters. */
  outlook(work: Work): DeskOutlook {
    work.shareCost = this.#services.expectedCost(sizeOf(work));
    const waitMs = this.#expectedWaitMs(work);
    const isMeasured = this.#services.isMeasured(work.modelId);
    const firstTokenMs = waitMs + (isMeasured ? this.prefillMs(work.modelId, work.promptTokens()) : 0);
    const hopeless = this.#hopeless(work);
    const queuePosition = this.#ports.waiting.before(work).filter(({ modelId }) => modelId === work.modelId).length;
    const told = { waitMs, firstTokenMs, queuePosition, outputShare: this.#services.outputShare(work.modelId) };
    if (hopeless !== null) return { ...told, refusal: hopeless };
    const entrance = this.#ports.waiting.entrance(work);
    return { ...told, refusal: entrance === "entered" ? null : this.#turnedAway(work, entrance) };
  }

  /** After a match: whoever still waits is told by the books when it should start. */
  promise(work: Work): void {
    if (work.phase !== "waiting" || work.expectedStartMs !== null) return;
    work.expectedStartMs = this.#ports.clock.monoMs() + this.#expectedWaitMs(work);
    work.isColdStart = this.#ports.pool.ready(work.modelId).length === 0;
  }

  /** A stream that waits again costs what is left of it. */
  reprice(work: Work): void {
    work.shareCost = this.#services.expectedCost(sizeOf(work));
  }

  /** Before the attempt's first token. */
  started(work: Work, attempt: RunningAttempt): void {
    this.#hold(work, attempt, work.shareCost);
    this.#ports.waiting.charge(work, work.shareCost);
    this.#tellWait(work, this.#ports.clock.monoMs());
  }

  /** A second attempt beside the first: its tenant's share pays for what it takes, and nothing is expected of it. */
  hedged(work: Work, attempt: RunningAttempt): void {
    this.#hold(work, attempt, 0);
  }

  #hold(work: Work, attempt: RunningAttempt, chargedSeconds: number): void {
    const { pool } = this.#ports;
    const replica = pool.replica(attempt.lease.replicaId);
    const decodeTokPerSecond = pool.node(attempt.lease.nodeId)?.decodeTokPerSecond ?? null;
    const size = sizeOf(work);
    this.#held.set(attempt.lease.leaseId, {
      modelId: work.modelId,
      isBackground: work.isBackground,
      worth: slotWorth({ slots: replica?.slots ?? 1, decodeTokPerSecond }),
      chargedSeconds,
      expectedMs: this.#services.expectedMs(size),
      startedAtMs: this.#ports.patientMs(),
      size,
    });
  }

  /** The slot is free again. `isWhole`: it ran to its end, so that others may be expected to take as long. */
  ended(work: Work, attempt: RunningAttempt, isWhole: boolean): void {
    const { leaseId } = attempt.lease;
    const held = this.#held.get(leaseId);
    if (held === undefined) return;
    this.#held.delete(leaseId);
    const heldMs = Math.max(0, this.#ports.patientMs() - held.startedAtMs);
    const deviceSeconds = (heldMs / 1_000) * held.worth;
    this.#ports.waiting.charge(work, deviceSeconds - held.chargedSeconds);
    this.#shares.record({ tenantId: work.tenantId, deviceSeconds, nowMs: this.#ports.clock.monoMs() });
    if (!isWhole || attempt.wasHeldBack === true) return;
    this.#services.record({ ...held.size, heldMs, outputTokens: attempt.acknowledgedTokens, worth: held.worth });
  }

  /** What a running attempt still needs, if left alone. */
  restMs(attempt: RunningAttempt): number {
    const held = this.#held.get(attempt.lease.leaseId);
    return held === undefined ? 0 : this.#restOf(held);
  }

  /** Time to decode so many tokens of a prompt of this model, by what was measured. */
  prefillMs(modelId: ModelId, promptTokens: number): number {
    return this.#services.expectedMs({ modelId, promptTokens, outputTokensMax: 0 });
  }

  #restOf(held: HeldSlot): number {
    const heldMs = this.#ports.patientMs() - held.startedAtMs;
    return Math.max(held.expectedMs - heldMs, held.expectedMs * OVERDUE_REST);
  }

  #expectedWaitMs(work: Work): number {
    const { pool, waiting } = this.#ports;
    const fitting = pool.ready(work.modelId).filter(({ contextTokens }) => contextTokens >= work.tokensNeeded());
    const aheadMs: number[] = [];
    for (const other of waiting.before(work)) {
      if (other.modelId === work.modelId) aheadMs.push(this.#services.expectedMs(sizeOf(other)));
    }
    const runningRestMs: number[] = [];
    let takenBack = 0;
    for (const held of this.#held.values()) {
      // What gives way at once is waited for by nobody.
      if (held.isBackground && !work.isBackground) takenBack += held.modelId === work.modelId ? 1 : 0;
      else if (held.modelId === work.modelId) runningRestMs.push(this.#restOf(held));
    }
    return expectedWaitMs({
      slots: fitting.reduce((sum, { slots }) => sum + slots, 0),
      slotsFree: fitting.reduce((sum, { slots, slotsLeased }) => sum + Math.max(0, slots - slotsLeased), takenBack),
      aheadMs,
      runningRestMs,
      coldStartMs: this.#coldMs.get(work.modelId) ?? COLD_START_GUESS_MS,
    });
  }

  #hopeless(work: Work): Refusal | null {
    if (work.isBackground || work.tier !== "flex" || !this.#services.isMeasured(work.modelId)) return null;
    if (this.#ports.pool.ready(work.modelId).length === 0) return null;
    const waitMs = this.#expectedWaitMs(work);
    const patienceMs = work.deadlineAtMs - this.#ports.clock.monoMs();
    if (waitMs < HOPELESS_FACTOR * patienceMs) return null;
    const message = `a flex request would start in about ${seconds(waitMs)} s, and its deadline is ${seconds(patienceMs)} s; it would cost at most ${this.#mostUsd(work)} USD. What helps: ${helpForWaiting("flex")}`;
    return { code: "resource-unavailable", message, param: null, retryAfterMs: retryAfterMs(waitMs) };
  }

  /** Of a model whose chain does not serve: which stage is missing. */
  #obstacle(work: Work): string {
    const chain = this.#ports.pool.chains.describe(work.modelId);
    return chain === null ? "" : `, and ${chain}`;
  }

  #mostUsd(work: Work): string {
    const { modelId: _, ...tokens } = sizeOf(work);
    return formatUsd(priceBound({ ...tokens, price: work.terms.price, choices: 1 }));
  }

  #tellWait(work: Work, nowMs: number): void {
    if (work.isTold) return;
    work.isTold = true;
    const waitedMs = nowMs - work.queuedAtMs;
    const etaErrorMs = work.expectedStartMs === null ? null : Math.abs(nowMs - work.expectedStartMs);
    if (work.isColdStart) {
      const before = this.#coldMs.get(work.modelId) ?? waitedMs;
      this.#coldMs.set(work.modelId, before + COLD_WEIGHT * (waitedMs - before));
    }
    for (const listener of this.#listeners) listener.onWait({ tier: work.tier, waitedMs, etaErrorMs });
  }
}

function sizeOf(work: Work): RequestSize {
  return { modelId: work.modelId, promptTokens: work.promptTokens(), outputTokensMax: work.tokensLeft() };
}

function seconds(ms: number): string {
  return (ms / 1_000).toFixed(ms < 10_000 ? 1 : 0);
}
