/** Durable leases of the memory store. */
import { assert } from "../../domain/assert.ts";
import { type DurableLease, grantLeases, LEASE_BATCH_MAX, type LeaseNode } from "../../domain/durable-lease.ts";
import type { LeaseRef, LeaseStore } from "../../ports/store.ts";
import type { MemoryDisk, MemoryRead, MemoryWrite } from "./memory-disk.ts";
import { byKey } from "./memory-ledger.ts";

const EPOCH = "leases.epoch";

export function memoryLeases(read: MemoryRead, write: MemoryWrite): LeaseStore {
  return {
    offer: (nodes) => write((disk) => bounded(nodes).flatMap((node) => offered(disk, node))),
    grant: (wants) =>
      write((disk) => {
        const lastEpoch = Number(disk.meta.get(EPOCH) ?? "0");
        const granting = grantLeases({ nodes: disk.leaseNodes, leases: disk.leases, lastEpoch }, bounded(wants));
        disk.meta.set(EPOCH, String(granting.lastEpoch));
        for (const lease of granting.granted) disk.leases.set(lease.leaseId, lease);
        for (const [nodeId, slots] of granting.slotsTaken) take(disk, nodeId, slots);
        return granting.outcomes;
      }),
    renew: (renewals) =>
      write((disk) =>
        bounded(renewals).map((renewal) => {
          const lease = found(disk, renewal);
          if (lease === null) return false;
          disk.leases.set(lease.leaseId, { ...lease, endsAtMs: Math.max(lease.endsAtMs, renewal.endsAtMs) });
          return true;
        }),
      ),
    end: (refs) =>
      write((disk) =>
        bounded(refs).map((ref) => {
          const lease = found(disk, ref);
          if (lease !== null) removed(disk, lease);
          return lease !== null;
        }),
      ),
    expire: ({ nowMs, limit }) =>
      write((disk) => {
        const passed = [...disk.leases.values()].filter(({ endsAtMs }) => endsAtMs <= nowMs);
        passed.sort((a, b) => a.endsAtMs - b.endsAtMs || byKey<DurableLease>(({ leaseId }) => leaseId)(a, b));
        return passed.slice(0, limit).map((lease) => removed(disk, lease));
      }),
    live: ({ after, limit }) =>
      read((disk) => {
        const live = [...disk.leases.values()].filter(({ leaseId }) => after === null || leaseId > after);
        return live.sort(byKey(({ leaseId }) => leaseId)).slice(0, limit);
      }),
    nodes: () => read((disk) => [...disk.leaseNodes.values()].sort(byKey(({ nodeId }) => nodeId))),
  };
}

function offered(disk: MemoryDisk, node: Omit<LeaseNode, "slotsUsed">): readonly DurableLease[] {
  const before = disk.leaseNodes.get(node.nodeId);
  if (before !== undefined && node.nodeEpoch < before.nodeEpoch) return [];
  const isNew = before?.nodeEpoch !== node.nodeEpoch;
  const ended = isNew
    ? [...disk.leases.values()].filter(({ parts }) => parts.some(({ nodeId }) => nodeId === node.nodeId))
    : [];
  for (const lease of ended) removed(disk, lease);
  disk.leaseNodes.set(node.nodeId, { ...node, slotsUsed: disk.leaseNodes.get(node.nodeId)?.slotsUsed ?? 0 });
  return ended.sort(byKey(({ leaseId }) => leaseId));
}

function found(disk: MemoryDisk, ref: LeaseRef): DurableLease | null {
  const lease = disk.leases.get(ref.leaseId);
  return lease?.epoch === ref.epoch ? lease : null;
}

function removed(disk: MemoryDisk, lease: DurableLease): DurableLease {
  disk.leases.delete(lease.leaseId);
  for (const { nodeId, slots } of lease.parts) take(disk, nodeId, -slots);
  return lease;
}

function take(disk: MemoryDisk, nodeId: LeaseNode["nodeId"], slots: number): void {
  const node = disk.leaseNodes.get(nodeId);
  assert(node !== undefined, `${nodeId} of a live lease was offered`);
  assert(node.slotsUsed + slots >= 0, `${nodeId} gives back no more than it gave`);
  disk.leaseNodes.set(nodeId, { ...node, slotsUsed: node.slotsUsed + slots });
}

function bounded<T>(batch: readonly T[]): readonly T[] {
  assert(batch.length <= LEASE_BATCH_MAX, `${batch.length} leases in one call, at most ${LEASE_BATCH_MAX}`);
  return batch;
}
