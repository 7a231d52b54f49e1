/**
 * A durable lease is a task's, a gang's or a batch's right to slots of nodes, kept by the store so that it outlives the
 * coordinator. A running answer's lease (lease.ts) lives in memory instead.
 *
 * | state  | granted        | renewed (same epoch) | ended (same epoch) | end time passes | a node of it has a new epoch |
 * | ------ | -------------- | -------------------- | ------------------ | --------------- | ---------------------------- |
 * | (none) | live           | refused              | refused            | -               | -                            |
 * | live   | replay, or refused when it differs | live, time moved | gone   | gone            | gone                         |
 *
 * A node's capacity is offered under the node's own epoch, which grows whenever what it had is lost (it joined again, its
 * devices changed). A grant names the epoch that the plan saw, and is refused when that is no longer so or the slots are taken:
 * compare-and-swap. A lease over several nodes is granted on all of them or on none. Each lease has an epoch of its own,
 * larger than any before: a late word of an earlier holder is told by it.
 */
import { assert } from "./assert.ts";
import type { LeaseId, NodeId } from "./ids.ts";

/** Nodes of one lease: a gang larger than this is several. */
export const LEASE_NODES_MAX = 64;
/** Leases in one call of the store: bounds how long one transaction holds up the others. */
export const LEASE_BATCH_MAX = 1_024;

export interface LeasePart {
  readonly nodeId: NodeId;
  /** As the plan saw it. */
  readonly nodeEpoch: number;
  readonly slots: number;
}

export interface DurableLease {
  readonly leaseId: LeaseId;
  /** The task, gang or batch it is for. */
  readonly holderId: string;
  readonly epoch: number;
  /** In the order of node ids. */
  readonly parts: readonly LeasePart[];
  /** Wall clock. */
  readonly grantedAtMs: number;
  readonly endsAtMs: number;
}

/** `parts` sorted by node id, each node once. */
export type LeaseWant = Omit<DurableLease, "epoch">;

export interface LeaseNode {
  readonly nodeId: NodeId;
  readonly nodeEpoch: number;
  readonly slots: number;
  readonly slotsUsed: number;
}

export type LeaseRefusal =
  | { readonly code: "node-unknown" | "node-epoch-changed" | "slots-full"; readonly nodeId: NodeId }
  /** The id was granted before for something else. */
  | { readonly code: "lease-differs" };

export type LeaseOutcome =
  | { readonly ok: true; readonly lease: DurableLease; readonly isReplay: boolean }
  | { readonly ok: false; readonly reason: LeaseRefusal };

export interface LeaseBooks {
  /** At least those that are wanted. */
  readonly nodes: ReadonlyMap<NodeId, LeaseNode>;
  /** Live leases, at least those whose ids are wanted. */
  readonly leases: ReadonlyMap<LeaseId, DurableLease>;
  /** Of the newest lease ever granted. */
  readonly lastEpoch: number;
}

export interface Granting {
  /** One for each want, in order. */
  readonly outcomes: readonly LeaseOutcome[];
  readonly granted: readonly DurableLease[];
  /** What each node gives away by it. */
  readonly slotsTaken: ReadonlyMap<NodeId, number>;
  readonly lastEpoch: number;
}

/** Each want sees the effect of those before it. */
export function grantLeases(books: LeaseBooks, wants: readonly LeaseWant[]): Granting {
  const slotsTaken = new Map<NodeId, number>();
  const granted = new Map<LeaseId, DurableLease>();
  let { lastEpoch } = books;
  const outcomes = wants.map((want): LeaseOutcome => {
    assertWant(want);
    const known = granted.get(want.leaseId) ?? books.leases.get(want.leaseId);
    if (known !== undefined) {
      return isSameLease(known, want)
        ? { ok: true, lease: known, isReplay: true }
        : { ok: false, reason: { code: "lease-differs" } };
    }
    const reason = obstacle(books, slotsTaken, want);
    if (reason !== null) return { ok: false, reason };
    lastEpoch += 1;
    const lease: DurableLease = { ...want, epoch: lastEpoch };
    granted.set(lease.leaseId, lease);
    for (const { nodeId, slots } of lease.parts) slotsTaken.set(nodeId, (slotsTaken.get(nodeId) ?? 0) + slots);
    return { ok: true, lease, isReplay: false };
  });
  return { outcomes, granted: [...granted.values()], slotsTaken, lastEpoch };
}

function obstacle(
  books: LeaseBooks,
  slotsTaken: ReadonlyMap<NodeId, number>,
  want: LeaseWant,
): Exclude<LeaseRefusal, { code: "lease-differs" }> | null {
  for (const { nodeId, nodeEpoch, slots } of want.parts) {
    const node = books.nodes.get(nodeId);
    if (node === undefined) return { code: "node-unknown", nodeId };
    if (node.nodeEpoch !== nodeEpoch) return { code: "node-epoch-changed", nodeId };
    if (node.slotsUsed + (slotsTaken.get(nodeId) ?? 0) + slots > node.slots) return { code: "slots-full", nodeId };
  }
  return null;
}

function assertWant({ leaseId, parts, grantedAtMs, endsAtMs }: LeaseWant): void {
  assert(parts.length >= 1 && parts.length <= LEASE_NODES_MAX, `${leaseId} is on 1 to ${LEASE_NODES_MAX} nodes`);
  assert(endsAtMs > grantedAtMs, `${leaseId} ends after it begins`);
  for (const [at, { nodeId, slots }] of parts.entries()) {
    assert(Number.isSafeInteger(slots) && slots >= 1, `${leaseId} takes ${slots} slots, a whole number from 1`);
    const before = parts[at - 1];
    assert(
      before === undefined || before.nodeId < nodeId,
      `${leaseId} names each node once, in the order of their ids`,
    );
  }
}

/** Asked again by a caller that did not hear the answer: times may differ, what it takes may not. */
function isSameLease(lease: DurableLease, want: LeaseWant): boolean {
  if (lease.holderId !== want.holderId || lease.parts.length !== want.parts.length) return false;
  return want.parts.every((part, at) => {
    const other = lease.parts[at];
    return other?.nodeId === part.nodeId && other.nodeEpoch === part.nodeEpoch && other.slots === part.slots;
  });
}
