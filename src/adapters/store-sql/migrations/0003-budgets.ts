import type { Migration } from "./migration.ts";

/** PostgreSQL compares text by the database's locale unless told otherwise; ids sort by their bytes in both dialects. */
const id = { sqlite: "text", postgres: 'text collate "C"' };

/**
 * Caps by the month, limits of tenants, what lies under a key's requests, what each key spent in which month, and who served which part of
 * a request. A month's sum is kept rather than added up from receipts, which a busy key has millions of.
 */
export const budgets: Migration = {
  version: 3,
  name: "budgets",
  statements: (dialect) => [
    "alter table tenants add column limits_json text",
    "alter table api_keys add column monthly_budget_micro_usd bigint",
    "alter table api_keys add column preferences_json text",
    `create table monthly_spending (
      key_id ${id[dialect]} not null,
      month ${id[dialect]} not null,
      tenant_id ${id[dialect]} not null,
      micro_usd bigint not null check (micro_usd >= 0),
      primary key (key_id, month)
    )`,
    "create index monthly_spending_tenant on monthly_spending (tenant_id, month)",
    `insert into monthly_spending (key_id, month, tenant_id, micro_usd)
      select key_id, substr(day, 1, 7), tenant_id, cast(sum(cost_micro_usd) as bigint)
      from receipts group by key_id, substr(day, 1, 7), tenant_id`,
    `create table receipt_parts (
      request_id ${id[dialect]} not null,
      part bigint not null,
      provider ${id[dialect]} not null,
      prompt_tokens bigint not null,
      output_tokens bigint not null,
      cost_micro_usd bigint not null check (cost_micro_usd >= 0),
      primary key (request_id, part)
    )`,
  ],
};
