/**
 * What nodes have and have given away, as of the last write of the one writer. Derived from the tables when it is first asked for;
 * forgotten whenever a write failed, so that it is derived again.
 */
import { sql } from "kysely";
import { assert } from "../../domain/assert.ts";
import type { LeaseNode } from "../../domain/durable-lease.ts";
import { nodeId as asNodeId, type NodeId } from "../../domain/ids.ts";
import type { WriteConnection } from "./database.ts";

export class LeaseNodes {
  #known: Map<NodeId, LeaseNode> | null = null;

  /** As this transaction sees them. */
  async on(connection: WriteConnection): Promise<ReadonlyMap<NodeId, LeaseNode>> {
    this.#known ??= new Map((await nodesOf(connection)).map((node) => [node.nodeId, node]));
    return this.#known;
  }

  /** Negative slots are given back. */
  take(slotsTaken: ReadonlyMap<NodeId, number>): void {
    for (const [nodeId, slots] of slotsTaken) {
      const node = this.#known?.get(nodeId);
      assert(node !== undefined, `${nodeId} of a lease was offered`);
      assert(node.slotsUsed + slots >= 0, `${nodeId} gives back no more than it gave`);
      this.#known?.set(nodeId, { ...node, slotsUsed: node.slotsUsed + slots });
    }
  }

  offered(node: Omit<LeaseNode, "slotsUsed">): void {
    this.#known?.set(node.nodeId, { ...node, slotsUsed: this.#known.get(node.nodeId)?.slotsUsed ?? 0 });
  }

  forget(): void {
    this.#known = null;
  }
}

/** By node id. */
export async function nodesOf(connection: WriteConnection): Promise<readonly LeaseNode[]> {
  const found = await sql<{ node_id: string; node_epoch: number; slots: number; slots_used: number }>`
    select n.node_id, n.node_epoch, n.slots, coalesce(l.used, 0) as slots_used from lease_nodes n
    left join (select node_id, cast(sum(slots) as bigint) as used from leases group by node_id) l on l.node_id = n.node_id
    order by n.node_id`.execute(connection);
  return found.rows.map((row) => ({
    nodeId: asNodeId(row.node_id),
    nodeEpoch: row.node_epoch,
    slots: row.slots,
    slotsUsed: row.slots_used,
  }));
}
