/**
 * A lease is an attempt's right to one sequence slot of a replica, with an epoch and an end time.
 *
 * | state  | granted by plan | node acknowledges | chunk arrives      | attempt ends | revoked (node lost, moved, cancelled) | end time passes |
 * | ------ | --------------- | ----------------- | ------------------ | ------------ | ------------------------------------- | --------------- |
 * | (none) | live            | ignored: unknown  | ignored: unknown   | ignored      | ignored                               | -               |
 * | live   | bug             | live              | live, time renewed | ended        | dead                                  | dead            |
 * | ended  | bug             | ignored: late     | ignored: late      | ignored      | ignored                               | ended           |
 * | dead   | bug             | ignored: dead     | ignored: dead      | ignored      | ignored                               | dead            |
 *
 * Epochs grow for ever: `boot * 2^32 + counter`, where boot is the durable count of coordinator starts. A chunk carries
 * its lease id and epoch, so nothing of a dead lease, or of a coordinator's earlier life, reaches a client.
 */
import type { AttemptId, LeaseId, NodeId, ReplicaId } from "./ids.ts";

export interface Lease {
  readonly leaseId: LeaseId;
  readonly epoch: number;
  readonly attemptId: AttemptId;
  readonly nodeId: NodeId;
  readonly replicaId: ReplicaId;
  /** Of a chain: the node of its first stage, which works on the attempt too. */
  readonly headNodeId?: NodeId;
  /** Monotonic clock of the coordinator. */
  readonly grantedAtMs: number;
  readonly endsAtMs: number;
}

export type LeaseState = "live" | "ended" | "dead";

export const EPOCHS_PER_BOOT = 2 ** 32;
