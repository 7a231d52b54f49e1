/** Slots of one model's replicas, by the matching index: one node has one part, the replica that the matcher chose. */
import { assert } from "../../domain/assert.ts";
import type { LeasePart } from "../../domain/durable-lease.ts";
import type { NodeId, ReplicaId } from "../../domain/ids.ts";
import { MatchScratch, matchReplica } from "../../scheduler/matching/match.ts";
import type { MatchIndex } from "../../scheduler/matching/match-index.ts";
import type { MatchRequest } from "../../scheduler/matching/match-request.ts";
import type { SlotMatcher } from "./slot-matcher.ts";

export interface IndexAsk {
  readonly request: MatchRequest;
}

export interface OfferedReplica {
  readonly nodeId: NodeId;
  readonly nodeEpoch: number;
  readonly replicaId: ReplicaId;
}

export class IndexSlots implements SlotMatcher<IndexAsk> {
  readonly #index: MatchIndex;
  readonly #scratch = new MatchScratch();
  readonly #offered = new Map<NodeId, OfferedReplica>();
  readonly #byReplica = new Map<ReplicaId, OfferedReplica>();
  readonly #leased = new Map<NodeId, number>();

  constructor(index: MatchIndex) {
    this.#index = index;
  }

  /** The node's slots are those of this replica, under this epoch; what was held under an older one is forgotten. */
  offer(replica: OfferedReplica): void {
    const before = this.#offered.get(replica.nodeId);
    if (before !== undefined) this.#byReplica.delete(before.replicaId);
    this.#offered.set(replica.nodeId, replica);
    this.#byReplica.set(replica.replicaId, replica);
    if (before?.nodeEpoch !== replica.nodeEpoch) this.#set(replica, 0);
  }

  find(ask: IndexAsk, avoided: ReadonlySet<NodeId>): readonly LeasePart[] | null {
    const { request } = ask;
    const excludedNodeIds = avoided.size === 0 ? request.excludedNodeIds : union(request.excludedNodeIds, avoided);
    const replica = matchReplica(this.#index, { ...request, excludedNodeIds }, this.#scratch);
    if (replica === -1) return null;
    const replicaId = this.#index.replicas.ids.key(replica);
    const offered = this.#byReplica.get(replicaId);
    assert(offered !== undefined, `${replicaId} in the index was offered`);
    return [{ nodeId: offered.nodeId, nodeEpoch: offered.nodeEpoch, slots: 1 }];
  }

  hold(parts: readonly LeasePart[]): void {
    for (const part of parts) this.#change(part, part.slots);
  }

  release(parts: readonly LeasePart[]): void {
    for (const part of parts) this.#change(part, -part.slots);
  }

  #change({ nodeId, nodeEpoch }: LeasePart, slots: number): void {
    const offered = this.#offered.get(nodeId);
    if (offered?.nodeEpoch !== nodeEpoch) return;
    this.#set(offered, (this.#leased.get(nodeId) ?? 0) + slots);
  }

  #set({ nodeId, replicaId }: OfferedReplica, leased: number): void {
    assert(leased >= 0, `${nodeId} gives back no more than it gave`);
    this.#leased.set(nodeId, leased);
    this.#index.setLeased(replicaId, leased);
  }
}

function union(a: ReadonlySet<NodeId>, b: ReadonlySet<NodeId>): ReadonlySet<NodeId> {
  return new Set([...a, ...b]);
}
