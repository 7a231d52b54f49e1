/**
 * Durable leases of tasks, gangs and batches. A batch travels as one JSON parameter, so that every batch is the same few
 * statements, whatever its size.
 *
 * A store has one writer, so what each node has given away is kept in memory (lease-nodes.ts) and derived from the leases when
 * it is first asked for. A lease then writes its own rows only: counters in the rows of 100,000 nodes would dirty a page of the
 * file for every lease, and did, at three times the cost (bench leases).
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
import { type JsonRows, jsonRows } from "./json-rows.ts";
import { LeaseNodes, nodesOf } from "./lease-nodes.ts";
import type { Dialect } from "./migrations/migration.ts";
import type { LeaseTable } from "./tables.ts";

const EPOCH = "leases.epoch";

export class LeaseRows implements LeaseStore {
  readonly #tx: Tx;
  readonly #rows: JsonRows;
  readonly #nodes = new LeaseNodes();

  constructor(tx: Tx, dialect: Dialect) {
    this.#tx = tx;
    this.#rows = jsonRows(dialect);
  }

  offer(nodes: readonly Omit<LeaseNode, "slotsUsed">[]): Promise<readonly DurableLease[]> {
    assertBatch(nodes);
    return this.#write(async (connection) => {
      const known = await this.#nodes.on(connection);
      const newest = new Map<NodeId, Omit<LeaseNode, "slotsUsed">>();
      for (const node of nodes) {
        const before = newest.get(node.nodeId) ?? known.get(node.nodeId);
        if (before === undefined || node.nodeEpoch >= before.nodeEpoch) newest.set(node.nodeId, node);
      }
      const replaced = [...newest.values()].filter(({ nodeId, nodeEpoch }) => {
        const before = known.get(nodeId);
        return before !== undefined && before.nodeEpoch !== nodeEpoch && before.slotsUsed > 0;
      });
      const ended = await this.#removeOn(connection, replaced);
      const offered = [...newest.values()].map(({ nodeId, nodeEpoch, slots }) => [nodeId, nodeEpoch, slots]);
      await sql`insert into lease_nodes (node_id, node_epoch, slots)
        select a, b, c from ${this.#rows(offered, ["text", "bigint", "bigint"])} as r where true
        on conflict (node_id) do update set node_epoch = excluded.node_epoch, slots = excluded.slots`.execute(
        connection,
      );
      for (const node of newest.values()) this.#nodes.offered(node);
      return ended;
    });
  }

  grant(wants: readonly LeaseWant[]): Promise<readonly LeaseOutcome[]> {
    assertBatch(wants);
    return this.#write(async (connection) => {
      const nodes = await this.#nodes.on(connection);
      const leases = await this.#leasesOf(connection, wants);
      const lastEpoch = await epochOf(connection);
      const granting = grantLeases({ nodes, leases, lastEpoch }, wants);
      if (granting.granted.length === 0) return granting.outcomes;
      await sql`insert into meta (name, value) values (${EPOCH}, ${String(granting.lastEpoch)})
        on conflict (name) do update set value = excluded.value`.execute(connection);
      await this.#insert(connection, granting.granted);
      this.#nodes.take(granting.slotsTaken);
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
    return this.#write(async (connection) => {
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
    return this.#write(async (connection) => {
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

  nodes(): Promise<readonly LeaseNode[]> {
    return nodesOf(this.#tx.reader);
  }

  /** What is remembered of nodes is forgotten when a write fails, or has to run again: the database knows. */
  #write<T>(work: (connection: WriteConnection) => Promise<T>): Promise<T> {
    let runs = 0;
    const run = async (connection: WriteConnection): Promise<T> => {
      runs += 1;
      if (runs > 1) this.#nodes.forget();
      try {
        return await work(connection);
      } catch (cause) {
        this.#nodes.forget();
        throw cause;
      }
    };
    return this.#tx.write(run).catch((cause: unknown) => {
      this.#nodes.forget();
      throw cause;
    });
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

  #removeOn(connection: WriteConnection, nodes: readonly { nodeId: NodeId }[]): Promise<readonly DurableLease[]> {
    if (nodes.length === 0) return Promise.resolve([]);
    const ids = nodes.map(({ nodeId }) => [nodeId]);
    const on = sql`select lease_id from leases where node_id in (select a from ${this.#rows(ids, ["text"])} as r)`;
    return this.#remove(connection, sql`lease_id in (${on})`);
  }

  /** By lease id. */
  async #remove(connection: WriteConnection, condition: RawBuilder<unknown>): Promise<readonly DurableLease[]> {
    // Before anything of it is gone: what the nodes have given away may have to be derived.
    await this.#nodes.on(connection);
    const removed = await sql<LeaseTable>`delete from leases where ${condition} returning *`.execute(connection);
    const given = new Map<NodeId, number>();
    for (const { node_id, slots } of removed.rows) {
      const node = asNodeId(node_id);
      given.set(node, (given.get(node) ?? 0) - slots);
    }
    this.#nodes.take(given);
    return leasesFrom(
      [...removed.rows].sort((a, b) => compared(a.lease_id, b.lease_id) || compared(a.node_id, b.node_id)),
    );
  }
}

async function epochOf(connection: WriteConnection): Promise<number> {
  const row = await connection.selectFrom("meta").select("value").where("name", "=", EPOCH).executeTakeFirst();
  return Number(row?.value ?? "0");
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
