import type { Migration } from "./migration.ts";

/** PostgreSQL compares text by the database's locale unless told otherwise; ids sort by their bytes in both dialects. */
const id = { sqlite: "text", postgres: 'text collate "C"' };

/**
 * Answers of `/v1/responses`. What a tenant has in all is counted in a row of its own, so that a new answer costs no sum over the
 * others.
 */
export const responses: Migration = {
  version: 6,
  name: "responses",
  statements: (dialect) => [
    `create table responses (
      response_id ${id[dialect]} primary key,
      tenant_id ${id[dialect]} not null,
      previous_id ${id[dialect]},
      created_at_ms bigint not null,
      expires_at_ms bigint not null,
      chars bigint not null check (chars >= 0),
      input_json text not null,
      body_json text not null
    )`,
    "create index responses_of_tenant on responses (tenant_id, created_at_ms, response_id)",
    "create index responses_expire on responses (expires_at_ms, response_id)",
    `create table response_totals (
      tenant_id ${id[dialect]} primary key,
      responses bigint not null,
      chars bigint not null
    )`,
  ],
};
