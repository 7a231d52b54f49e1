import type { Migration } from "./migration.ts";

/** PostgreSQL compares text by the database's locale unless told otherwise; ids sort by their bytes in both dialects. */
const id = { sqlite: "text", postgres: 'text collate "C"' };
/** One tree instead of two: rows of a lease are found and removed by its id only. */
const clustered = { sqlite: " without rowid", postgres: "" };

/**
 * Durable leases of tasks, gangs and batches. A live lease has a row for each of its nodes; one that ended has none. What a node
 * has given away is the sum of its rows and is kept nowhere else: lease-rows.ts says how it is known.
 */
export const leases: Migration = {
  version: 2,
  name: "leases",
  statements: (dialect) => [
    `create table lease_nodes (
      node_id ${id[dialect]} primary key,
      node_epoch bigint not null,
      slots bigint not null check (slots >= 0)
    )${clustered[dialect]}`,
    `create table leases (
      lease_id ${id[dialect]} not null,
      node_id ${id[dialect]} not null,
      node_epoch bigint not null,
      slots bigint not null check (slots > 0),
      holder_id text not null,
      epoch bigint not null,
      granted_at_ms bigint not null,
      ends_at_ms bigint not null,
      primary key (lease_id, node_id)
    )${clustered[dialect]}`,
    // None by node: a node's leases are looked for only when its epoch changes, and each index costs every lease.
    "create index leases_ends on leases (ends_at_ms)",
  ],
};
