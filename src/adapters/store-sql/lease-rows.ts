/**
 * Durable leases of tasks, gangs and batches. A batch travels as one JSON parameter, so that every batch is the same few
 * statements, whatever its size: some microseconds a lease, and one commit for all of them.
 */
import { type RawBuilder, sql } from "kysely";
import { assert } from "../../domain/assert.ts";
import {
  type DurableLease,
  grantLeases,
  LEASE_BATCH_MAX,
  type LeaseNode,
  type LeaseOutcome,
  type LeaseWant,
} from "../../domain/durable-lease.ts";
import { leaseId as asLeaseId, nodeId as asNodeId, type LeaseId, type NodeId } from "../../domain/ids.ts";
import type { LeaseRef, LeaseStore } from "../../ports/store.ts";
import type { Tx, WriteConnection } from "./database.ts";
import { countedRows, type JsonRows, jsonRows } from "./json-rows.ts";
import type { Dialect } from "./migrations/migration.ts";
import type { LeaseNodeTable, LeaseTable } from "./tables.ts";

const EPOCH = "leases.epoch";

export class LeaseRows implements LeaseStore {
  readonly #tx: Tx;
  readonly #rows: JsonRows;

  constructor(tx: Tx, dialect: Dialect) {
    this.#tx = tx;
    this.#rows = jsonRows(dialect);
  }

  offer(nodes: readonly Omit<LeaseNode, "slotsUsed">[]): Promise<readonly DurableLease[]> {
    assertBatch(nodes);
    return this.#tx.write(async (connection) => {
      const known = await this.#nodesOf(connection, new Set(nodes.map(({ nodeId }) => nodeId)));
      const newest = new Map<NodeId, Omit<LeaseNode, "slotsUsed">>();
      for (const node of nodes) {
        const before = newest.get(node.nodeId) ?? known.get(node.nodeId);
        if (before === undefined || node.nodeEpoch >= before.nodeEpoch) newest.set(node.nodeId, node);
      }
      const replaced = [...newest.values()].filter(({ nodeId, nodeEpoch }) => {
        const before = known.get(nodeId);
        return before !== undefined && before.nodeEpoch !== nodeEpoch;
      });
      const ended = await this.#removeWhere(connection, this.#on(replaced.map(({ nodeId }) => nodeId)));
      const offered = [...newest.values()].map(({ nodeId, nodeEpoch, slots }) => [nodeId, nodeEpoch, slots]);
      await sql`insert into lease_nodes (node_id, node_epoch, slots, slots_used)
        select a, b, c, 0 from ${this.#rows(offered, ["text", "bigint", "bigint"])} as r where true
        on conflict (node_id) do update set node_epoch = excluded.node_epoch, slots = excluded.slots`.execute(
        connection,
      );
      return ended;
    });
  }

  grant(wants: readonly LeaseWant[]): Promise<readonly LeaseOutcome[]> {
    assertBatch(wants);
    return this.#tx.write(async (connection) => {
      const wanted = new Set(wants.flatMap(({ parts }) => parts.map(({ nodeId }) => nodeId)));
      const nodes = await this.#nodesOf(connection, wanted);
      const leases = await this.#leasesOf(connection, wants);
      const lastEpoch = await epochOf(connection);
      const granting = grantLeases({ nodes, leases, lastEpoch }, wants);
      if (granting.granted.length === 0) return granting.outcomes;
      await sql`insert into meta (name, value) values (${EPOCH}, ${String(granting.lastEpoch)})
        on conflict (name) do update set value = excluded.value`.execute(connection);
      await this.#insert(connection, granting.granted);
      await this.#take(connection, granting.slotsTaken);
      return granting.outcomes;
    });
  }

  renew(renewals: readonly (LeaseRef & { readonly endsAtMs: number })[]): Promise<readonly boolean[]> {
    assertBatch(renewals);
    return this.#tx.write(async (connection) => {
      const rows = renewals.map(({ leaseId, epoch, endsAtMs }) => [leaseId, epoch, endsAtMs]);
      const renewed = await sql<{ lease_id: string; epoch: number }>`update leases
        set ends_at_ms = case when ends_at_ms < r.c then r.c else ends_at_ms end
        from ${this.#rows(rows, ["text", "bigint", "bigint"])} as r
        where leases.lease_id = r.a and leases.epoch = r.b returning lease_id, epoch`.execute(connection);
      return told(renewals, renewed.rows);
    });
  }

  end(refs: readonly LeaseRef[]): Promise<readonly boolean[]> {
    assertBatch(refs);
    return this.#tx.write(async (connection) => {
      const rows = refs.map(({ leaseId, epoch }) => [leaseId, epoch]);
      const ended = await this.#remove(
        connection,
        sql`(lease_id, epoch) in (select a, b from ${this.#rows(rows, ["text", "bigint"])} as r)`,
      );
      const gone = new Set(ended.map(refKey));
      // Named twice in one batch, the second finds nothing.
      return refs.map((ref) => gone.delete(refKey(ref)));
    });
  }

  expire(options: { nowMs: number; limit: number }): Promise<readonly DurableLease[]> {
    return this.#tx.write(async (connection) => {
      const passed = sql`select lease_id from leases where ends_at_ms <= ${options.nowMs}
        group by lease_id, ends_at_ms order by ends_at_ms, lease_id limit ${options.limit}`;
      const ended = await this.#remove(connection, sql`lease_id in (${passed})`);
      return [...ended].sort((a, b) => a.endsAtMs - b.endsAtMs || (a.leaseId < b.leaseId ? -1 : 1));
    });
  }

  async live(page: { after: LeaseId | null; limit: number }): Promise<readonly DurableLease[]> {
    const ids = sql`select distinct lease_id from leases where lease_id > ${page.after ?? ""}
      order by lease_id limit ${page.limit}`;
    const found = await sql<LeaseTable>`select * from leases where lease_id in (${ids})
      order by lease_id, node_id`.execute(this.#tx.reader);
    return leasesFrom(found.rows);
  }

  async nodes(): Promise<readonly LeaseNode[]> {
    const rows = await this.#tx.reader.selectFrom("lease_nodes").selectAll().orderBy("node_id").execute();
    return rows.map(nodeFrom);
  }

  async #nodesOf(connection: WriteConnection, wanted: ReadonlySet<NodeId>): Promise<ReadonlyMap<NodeId, LeaseNode>> {
    const ids = [...wanted].map((nodeId) => [nodeId]);
    const found = await sql<LeaseNodeTable>`select node_id, node_epoch, slots, slots_used from lease_nodes
      where node_id in (select a from ${this.#rows(ids, ["text"])} as r)`.execute(connection);
    return new Map(found.rows.map(nodeFrom).map((node) => [node.nodeId, node]));
  }

  async #leasesOf(
    connection: WriteConnection,
    wants: readonly LeaseWant[],
  ): Promise<ReadonlyMap<LeaseId, DurableLease>> {
    const ids = wants.map(({ leaseId }) => [leaseId]);
    const found = await sql<LeaseTable>`select * from leases
      where lease_id in (select a from ${this.#rows(ids, ["text"])} as r) order by lease_id, node_id`.execute(
      connection,
    );
    return new Map(leasesFrom(found.rows).map((lease) => [lease.leaseId, lease]));
  }

  async #insert(connection: WriteConnection, leases: readonly DurableLease[]): Promise<void> {
    const rows = leases.flatMap(({ leaseId, holderId, epoch, parts, grantedAtMs, endsAtMs }) =>
      parts.map(({ nodeId, nodeEpoch, slots }) => [
        ...[leaseId, nodeId, nodeEpoch, slots],
        ...[holderId, epoch, grantedAtMs, endsAtMs],
      ]),
    );
    const types = ["text", "text", "bigint", "bigint", "text", "bigint", "bigint", "bigint"] as const;
    await sql`insert into leases
      (lease_id, node_id, node_epoch, slots, holder_id, epoch, granted_at_ms, ends_at_ms)
      select a, b, c, d, e, f, g, h from ${this.#rows(rows, types)} as r`.execute(connection);
  }

  /** Negative slots are given back. */
  async #take(connection: WriteConnection, slotsTaken: ReadonlyMap<NodeId, number>): Promise<void> {
    const rows = [...slotsTaken].map(([nodeId, slots]) => [nodeId, slots]);
    const updated = await sql`update lease_nodes set slots_used = slots_used + r.b
      from ${this.#rows(rows, ["text", "bigint"])} as r where lease_nodes.node_id = r.a`.execute(connection);
    assert(countedRows(updated) === rows.length, "every node of a lease was offered");
  }

  #on(nodeIds: readonly NodeId[]): RawBuilder<unknown> | null {
    if (nodeIds.length === 0) return null;
    const ids = nodeIds.map((nodeId) => [nodeId]);
    return sql`lease_id in (select lease_id from leases where node_id in (select a from ${this.#rows(ids, ["text"])} as r))`;
  }

  async #removeWhere(
    connection: WriteConnection,
    condition: RawBuilder<unknown> | null,
  ): Promise<readonly DurableLease[]> {
    return condition === null ? [] : this.#remove(connection, condition);
  }

  /** By lease id. */
  async #remove(connection: WriteConnection, condition: RawBuilder<unknown>): Promise<readonly DurableLease[]> {
    const removed = await sql<LeaseTable>`delete from leases where ${condition} returning *`.execute(connection);
    if (removed.rows.length === 0) return [];
    const given = new Map<NodeId, number>();
    for (const { node_id, slots } of removed.rows) {
      const node = asNodeId(node_id);
      given.set(node, (given.get(node) ?? 0) - slots);
    }
    await this.#take(connection, given);
    return leasesFrom(
      [...removed.rows].sort((a, b) => compared(a.lease_id, b.lease_id) || compared(a.node_id, b.node_id)),
    );
  }
}

async function epochOf(connection: WriteConnection): Promise<number> {
  const row = await connection.selectFrom("meta").select("value").where("name", "=", EPOCH).executeTakeFirst();
  return Number(row?.value ?? "0");
}

function nodeFrom(row: LeaseNodeTable): LeaseNode {
  return { nodeId: asNodeId(row.node_id), nodeEpoch: row.node_epoch, slots: row.slots, slotsUsed: row.slots_used };
}

/** Rows sorted by lease and node. */
function leasesFrom(rows: readonly LeaseTable[]): readonly DurableLease[] {
  const leases: (DurableLease & { parts: DurableLease["parts"][number][] })[] = [];
  for (const row of rows) {
    const part = { nodeId: asNodeId(row.node_id), nodeEpoch: row.node_epoch, slots: row.slots };
    const last = leases.at(-1);
    if (last?.leaseId === row.lease_id) {
      last.parts.push(part);
      continue;
    }
    leases.push({
      leaseId: asLeaseId(row.lease_id),
      holderId: row.holder_id,
      epoch: row.epoch,
      parts: [part],
      grantedAtMs: row.granted_at_ms,
      endsAtMs: row.ends_at_ms,
    });
  }
  return leases;
}

function told(refs: readonly LeaseRef[], rows: readonly { lease_id: string; epoch: number }[]): readonly boolean[] {
  const found = new Set(rows.map(({ lease_id, epoch }) => `${lease_id} ${epoch}`));
  return refs.map((ref) => found.has(refKey(ref)));
}

function refKey({ leaseId, epoch }: LeaseRef): string {
  return `${leaseId} ${epoch}`;
}

function compared(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

function assertBatch(batch: readonly unknown[]): void {
  assert(batch.length <= LEASE_BATCH_MAX, `${batch.length} leases in one call, at most ${LEASE_BATCH_MAX}`);
}
