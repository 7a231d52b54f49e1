import type { Migration } from "./migration.ts";

/** PostgreSQL compares text by the database's locale unless told otherwise; ids sort by their bytes in both dialects. */
const id = { sqlite: "text", postgres: 'text collate "C"' };
/** One tree instead of two: these rows are found by their key only. */
const clustered = { sqlite: " without rowid", postgres: "" };

/**
 * Files, batches, and the pieces of a batch. A line has a row once it has a result, or has failed; until then its chunk stands for it, so
 * that a million lines that wait are four thousand rows.
 */
export const batches: Migration = {
  version: 5,
  name: "batches",
  statements: (dialect) => [
    `create table files (
      file_id ${id[dialect]} primary key,
      tenant_id ${id[dialect]} not null,
      purpose ${id[dialect]} not null,
      filename text not null,
      bytes bigint not null check (bytes >= 0),
      created_at_ms bigint not null,
      expires_at_ms bigint
    )`,
    "create index files_tenant on files (tenant_id, file_id)",
    "create index files_expiry on files (expires_at_ms) where expires_at_ms is not null",
    `create table batches (
      batch_id ${id[dialect]} primary key,
      tenant_id ${id[dialect]} not null,
      status ${id[dialect]} not null,
      record_json text not null,
      line_count bigint not null,
      completed bigint not null,
      failed bigint not null,
      prompt_tokens bigint not null,
      output_tokens bigint not null
    )`,
    "create index batches_tenant on batches (tenant_id, batch_id)",
    "create index batches_live on batches (batch_id) where status in ('validating', 'in_progress', 'finalizing', 'cancelling')",
    `create table batch_chunks (
      batch_id ${id[dialect]} not null,
      chunk bigint not null,
      first_line bigint not null,
      line_count bigint not null check (line_count > 0),
      offset_bytes bigint not null,
      length_bytes bigint not null,
      done_count bigint not null check (done_count <= line_count),
      epoch bigint not null,
      barren_claims bigint not null,
      holder text,
      ends_at_ms bigint not null,
      primary key (batch_id, chunk)
    )${clustered[dialect]}`,
    "create index batch_chunks_open on batch_chunks (batch_id, chunk) where done_count < line_count",
    `create table batch_results (
      batch_id ${id[dialect]} not null,
      line bigint not null,
      is_ok bigint not null,
      line_json text not null,
      primary key (batch_id, line)
    )${clustered[dialect]}`,
    `create table batch_tries (
      batch_id ${id[dialect]} not null,
      line bigint not null,
      tries bigint not null,
      primary key (batch_id, line)
    )${clustered[dialect]}`,
  ],
};
