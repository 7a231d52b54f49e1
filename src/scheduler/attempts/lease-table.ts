/**
 * Who may do what where: the live leases, and the recently ended ones so that a late chunk is told from a foreign one. The
 * state table is in domain/lease.ts. No clock and no I/O: every call carries the time.
 *
 * A grant is a compare-and-swap: the plan names the roster version and the number of leases it saw on the replica, and is
 * refused when either has changed since. Epochs only grow, within a start of the coordinator by the counter and across
 * starts by the boot number.
 */
import { assert } from "../../domain/assert.ts";
import type { AttemptId, LeaseId, NodeId, ReplicaId } from "../../domain/ids.ts";
import { EPOCHS_PER_BOOT, type Lease, type LeaseState } from "../../domain/lease.ts";
import { no, type Outcome, ok } from "../../domain/refusal.ts";

/** Late chunks of this many past leases are told from foreign ones; at 1,000 leases a second that is the last minute. */
export const PAST_LEASES_MAX = 65_536;

export interface LeaseRecord {
  readonly lease: Lease;
  readonly state: LeaseState;
}

export interface GrantWant {
  readonly leaseId: LeaseId;
  readonly attemptId: AttemptId;
  readonly nodeId: NodeId;
  readonly replicaId: ReplicaId;
  /** Of a chain: the node of its first stage. */
  readonly headNodeId?: NodeId;
  readonly nowMs: number;
  readonly ttlMs: number;
}

/** What the plan saw, against what is so now. */
export interface GrantCheck {
  readonly versionSeen: number;
  readonly versionNow: number;
  readonly slotsLeasedSeen: number;
  /** Slots of the replica now; 0 when it is no longer ready. */
  readonly slotsNow: number;
}

export type GrantRefusal = "version-changed" | "slots-changed" | "slots-full" | "attempt-has-lease";

export class LeaseTable {
  readonly #boot: number;
  readonly #onLeased: (replicaId: ReplicaId, leased: number) => void;
  #counter = 0;
  readonly #live = new Map<LeaseId, Lease>();
  readonly #past = new Map<LeaseId, LeaseRecord>();
  readonly #liveByReplica = new Map<ReplicaId, Set<LeaseId>>();
  readonly #leaseByAttempt = new Map<AttemptId, LeaseId>();

  /** `onLeased` hears of every change in how many leases are live on a replica. */
  constructor(options: { boot: number; onLeased?: (replicaId: ReplicaId, leased: number) => void }) {
    assert(Number.isSafeInteger(options.boot * EPOCHS_PER_BOOT), `boot ${options.boot} leaves epochs whole numbers`);
    this.#boot = options.boot;
    this.#onLeased = options.onLeased ?? (() => undefined);
  }

  grant(want: GrantWant, check: GrantCheck): Outcome<Lease, GrantRefusal> {
    assert(!this.#live.has(want.leaseId) && !this.#past.has(want.leaseId), `${want.leaseId} was never granted before`);
    const leased = this.leasedOn(want.replicaId);
    if (check.versionSeen !== check.versionNow) return no("version-changed");
    if (check.slotsLeasedSeen !== leased) return no("slots-changed");
    if (leased >= check.slotsNow) return no("slots-full");
    if (this.#leaseByAttempt.has(want.attemptId)) return no("attempt-has-lease");
    this.#counter += 1;
    assert(this.#counter < EPOCHS_PER_BOOT, "fewer than 2^32 leases in one life of the coordinator");
    const lease: Lease = {
      leaseId: want.leaseId,
      epoch: this.#boot * EPOCHS_PER_BOOT + this.#counter,
      attemptId: want.attemptId,
      nodeId: want.nodeId,
      replicaId: want.replicaId,
      ...(want.headNodeId === undefined ? {} : { headNodeId: want.headNodeId }),
      grantedAtMs: want.nowMs,
      endsAtMs: want.nowMs + want.ttlMs,
    };
    this.#live.set(lease.leaseId, lease);
    this.#leaseByAttempt.set(lease.attemptId, lease.leaseId);
    const onReplica = this.#liveByReplica.get(lease.replicaId) ?? new Set();
    onReplica.add(lease.leaseId);
    this.#liveByReplica.set(lease.replicaId, onReplica);
    this.#onLeased(lease.replicaId, onReplica.size);
    return ok(lease);
  }

  /** Moves the end of a live lease; never earlier. */
  renew(leaseId: LeaseId, until: { nowMs: number; ttlMs: number }): void {
    const lease = this.#live.get(leaseId);
    if (lease === undefined) return;
    this.#live.set(leaseId, { ...lease, endsAtMs: Math.max(lease.endsAtMs, until.nowMs + until.ttlMs) });
  }

  /** The attempt ended well: the slot is free. False when the lease was not live. */
  end(leaseId: LeaseId): boolean {
    return this.#close(leaseId, "ended");
  }

  /** Node lost, moved or cancelled: nothing of it counts any more. False when the lease was not live. */
  revoke(leaseId: LeaseId): boolean {
    return this.#close(leaseId, "dead");
  }

  /** Kills the leases whose end has passed, and returns them in the order they were granted. */
  expire(nowMs: number): readonly Lease[] {
    const expired = [...this.#live.values()].filter((lease) => lease.endsAtMs <= nowMs);
    for (const lease of expired) this.#close(lease.leaseId, "dead");
    return expired;
  }

  find(leaseId: LeaseId): LeaseRecord | null {
    const lease = this.#live.get(leaseId);
    return lease === undefined ? (this.#past.get(leaseId) ?? null) : { lease, state: "live" };
  }

  leasedOn(replicaId: ReplicaId): number {
    return this.#liveByReplica.get(replicaId)?.size ?? 0;
  }

  /** In the order they were granted. */
  live(): readonly Lease[] {
    return [...this.#live.values()];
  }

  #close(leaseId: LeaseId, state: "ended" | "dead"): boolean {
    const lease = this.#live.get(leaseId);
    if (lease === undefined) return false;
    this.#live.delete(leaseId);
    this.#leaseByAttempt.delete(lease.attemptId);
    const onReplica = this.#liveByReplica.get(lease.replicaId);
    onReplica?.delete(leaseId);
    if (onReplica?.size === 0) this.#liveByReplica.delete(lease.replicaId);
    this.#onLeased(lease.replicaId, onReplica?.size ?? 0);
    this.#past.set(leaseId, { lease, state });
    for (const oldest of this.#past.keys()) {
      if (this.#past.size <= PAST_LEASES_MAX) break;
      this.#past.delete(oldest);
    }
    return true;
  }
}
