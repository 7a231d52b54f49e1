/**
 * The attempts that run, by lease: one for each piece of work, or two while a hedge races for the first token. Whatever ends an
 * attempt goes through here, so that its lease, its slot, its books and its node are told together, and once.
 */
import type { LeaseId, NodeId, ReplicaId } from "../../domain/ids.ts";
import { leaseId as asLeaseId } from "../../domain/ids.ts";
import { SHARED_SLOTS_LEAST } from "../../inference/batch-policy.ts";
import type { Clock } from "../../ports/clock.ts";
import type { Log } from "../../ports/log.ts";
import { decideFailover, describeTrouble, type Trouble } from "../../scheduler/attempts/failover.ts";
import type { LeaseTable } from "../../scheduler/attempts/lease-table.ts";
import type { Roster } from "../roster.ts";
import type { AdmissionDesk } from "./admission-desk.ts";
import type { ReplicaPool } from "./replica-pool.ts";
import type { AttemptClosing, RunningAttempt, Work } from "./work.ts";

/**
 * Background attempts on a node that is not shared. Whoever comes there waits for the step that runs, and a step grows with its sequences; so does the decoding
 * of their histories when they come back.
 */
const BACKGROUND_SLOTS_MAX = 8;

export interface RunningPorts {
  readonly clock: Clock;
  readonly log: Log;
  readonly roster: Pick<Roster, "send">;
  readonly leases: LeaseTable;
  readonly pool: Pick<ReplicaPool, "touch" | "noteEffort" | "replica" | "node">;
  readonly desk: Pick<AdmissionDesk, "ended">;
}

export class RunningAttempts {
  readonly #ports: RunningPorts;
  readonly #byLease = new Map<LeaseId, Work>();
  /** Leases of work that is not background, by the small node that it is on. */
  readonly #keepers = new Map<NodeId, Set<LeaseId>>();
  /** Leases of background work, by the small node that it is on. */
  readonly #guests = new Map<NodeId, Set<LeaseId>>();
  readonly #kept = new Set<NodeId>();

  constructor(ports: RunningPorts) {
    this.#ports = ports;
  }

  /** Attempts, hedges included. */
  get size(): number {
    return this.#byLease.size;
  }

  /** Each once, also while two attempts of it run; in the order in which they started. */
  works(): readonly Work[] {
    return [...new Set(this.#byLease.values())];
  }

  /** A copy. */
  attempts(): readonly { readonly work: Work; readonly attempt: RunningAttempt }[] {
    return [...this.#byLease].flatMap(([leaseId, work]) => {
      const attempt = work.attemptUnder(leaseId);
      return attempt === null ? [] : [{ work, attempt }];
    });
  }

  under(leaseId: string): Work | null {
    return this.#byLease.get(asLeaseId(leaseId)) ?? null;
  }

  began(work: Work, attempt: RunningAttempt): void {
    const { leaseId, nodeId, replicaId } = attempt.lease;
    this.#byLease.set(leaseId, work);
    if (this.#hasRoomBeside(nodeId, replicaId)) return;
    if (work.isBackground) {
      const guests = this.#guests.get(nodeId) ?? new Set();
      this.#guests.set(nodeId, guests.add(leaseId));
      if (guests.size >= BACKGROUND_SLOTS_MAX) this.#kept.add(nodeId);
      return;
    }
    const keepers = this.#keepers.get(nodeId) ?? new Set();
    this.#keepers.set(nodeId, keepers.add(leaseId));
    this.#kept.add(nodeId);
  }

  #leave(nodeId: NodeId, leaseId: LeaseId): void {
    const [keepers, guests] = [this.#keepers.get(nodeId), this.#guests.get(nodeId)];
    if (keepers?.delete(leaseId) === true && keepers.size === 0) this.#keepers.delete(nodeId);
    if (guests?.delete(leaseId) === true && guests.size === 0) this.#guests.delete(nodeId);
    if (!this.#keepers.has(nodeId) && (guests?.size ?? 0) < BACKGROUND_SLOTS_MAX) this.#kept.delete(nodeId);
  }

  /**
   * On a CPU, and on small GPUs, every sequence slows the others down (bench batch-interference: a first token came after 63 ms instead of 10), so
   * background work begins on no node that somebody else uses.
   */
  #hasRoomBeside(nodeId: NodeId, replicaId: ReplicaId): boolean {
    const { pool } = this.#ports;
    const replica = pool.replica(replicaId);
    const device = pool.node(nodeId)?.devices.find(({ deviceId }) => deviceId === replica?.deviceId);
    return device?.kind === "gpu" && (replica?.slots ?? 0) >= SHARED_SLOTS_LEAST;
  }

  /** Somebody's work that is not background runs on this small node. */
  isUsed(nodeId: NodeId): boolean {
    return this.#keepers.has(nodeId);
  }

  /** Nodes on which no background work may begin, as they are at any moment: the set changes. */
  get keptNodes(): ReadonlySet<NodeId> {
    return this.#kept;
  }

  /** The node's own end. */
  end(work: Work, end: AttemptClosing): void {
    const { leases, pool } = this.#ports;
    // Only what was answered whole and stands under the node's signature says how fast it is.
    if (work.current !== null && end.ending === "finished" && end.statement !== null && !isHeldBack(work.current)) {
      pool.noteEffort(work.current);
    }
    if (work.current !== null) leases.end(work.current.lease.leaseId);
    this.#free(work, work.close(end), true);
  }

  /** Lost, moved or cancelled; the node is told when it may still work on it. */
  revoke(work: Work, end: AttemptClosing & { readonly isNodeTold: boolean }): RunningAttempt {
    const attempt = work.close(end);
    this.#kill(work, attempt, end.isNodeTold);
    return attempt;
  }

  cancel(attempt: RunningAttempt): void {
    const { leaseId, epoch, nodeId, headNodeId } = attempt.lease;
    this.#ports.roster.send(nodeId, { type: "attempt.cancel", leaseId, epoch });
    if (headNodeId !== undefined) this.#ports.roster.send(headNodeId, { type: "attempt.cancel", leaseId, epoch });
  }

  /** Of two attempts this one gave the first token: the other is cancelled and counts for nothing. True when the hedge won. */
  settleRace(work: Work, winner: RunningAttempt): boolean {
    const isHedge = winner === work.hedge;
    const loser = isHedge ? work.promoteHedge(LOST_THE_RACE) : work.closeHedge(LOST_THE_RACE);
    this.#kill(work, loser, true);
    return isHedge;
  }

  /** One of two attempts went wrong: the other goes on, and nothing was delivered yet. True when it was the first one. */
  loseOneOfTwo(work: Work, attempt: RunningAttempt, trouble: Trouble): boolean {
    const { leaseId, nodeId } = attempt.lease;
    const detail = describeTrouble(trouble);
    work.countTrouble(trouble);
    const decision = decideFailover(trouble, work.counts);
    const end = { ending: decision.ending, detail, statement: null };
    const isFirst = attempt === work.current;
    if (isFirst) work.promoteHedge(end);
    else work.closeHedge(end);
    this.#kill(work, attempt, isStillAtWork(trouble));
    if (decision.kind === "move" && decision.avoidNodeMs > 0) {
      work.avoid(nodeId, this.#ports.clock.monoMs() + decision.avoidNodeMs);
    }
    this.#ports.log.info({ requestId: work.terms.requestId, nodeId, leaseId, detail }, "one of two attempts lost");
    return isFirst;
  }

  dropHedge(work: Work, detail: string): void {
    if (work.hedge === null) return;
    this.#kill(work, work.closeHedge({ ending: "cancelled", detail, statement: null }), true);
  }

  #kill(work: Work, attempt: RunningAttempt, isNodeTold: boolean): void {
    this.#ports.leases.revoke(attempt.lease.leaseId);
    this.#free(work, attempt, false);
    if (isNodeTold) this.cancel(attempt);
  }

  #free(work: Work, attempt: RunningAttempt, isWhole: boolean): void {
    const { leaseId, nodeId } = attempt.lease;
    this.#byLease.delete(leaseId);
    this.#leave(nodeId, leaseId);
    if (work.terms.isProbe !== true) this.#ports.pool.touch(attempt.lease.replicaId);
    this.#ports.desk.ended(work, attempt, isWhole);
  }
}

function isHeldBack({ wasHeldBack }: RunningAttempt): boolean {
  return wasHeldBack === true;
}

/** Whether the node may go on with an attempt that went wrong so. */
export function isStillAtWork(trouble: Trouble): boolean {
  // A chain's stages drop what runs when they are told who is in it; a cancel would make them forget what they hold of the sequence.
  return trouble.kind !== "chain-changed" && trouble.kind !== "node-gone" && trouble.kind !== "failed";
}

const LOST_THE_RACE: AttemptClosing = {
  ending: "cancelled",
  detail: "another attempt of the same choice gave the first token",
  statement: null,
};
