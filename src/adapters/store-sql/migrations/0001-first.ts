import type { Migration } from "./migration.ts";

/** PostgreSQL compares text by the database's locale unless told otherwise; ids sort by their bytes in both dialects. */
const id = { sqlite: "text", postgres: 'text collate "C"' };
const sequence = {
  sqlite: "integer primary key autoincrement",
  postgres: "bigint generated always as identity primary key",
};

export const first: Migration = {
  version: 1,
  name: "first",
  statements: (dialect) => [
    `create table meta (name ${id[dialect]} primary key, value text not null)`,
    `create table tenants (
      tenant_id ${id[dialect]} primary key,
      name text not null,
      created_at_ms bigint not null
    )`,
    `create table api_keys (
      key_id ${id[dialect]} primary key,
      tenant_id ${id[dialect]} not null references tenants (tenant_id),
      secret_sha256 ${id[dialect]} not null unique,
      secret_hint text not null,
      name text not null,
      scopes_json text not null,
      requests_per_minute_max bigint,
      tokens_per_minute_max bigint,
      budget_micro_usd bigint,
      models_json text,
      created_at_ms bigint not null,
      expires_at_ms bigint,
      revoked_at_ms bigint,
      spent_micro_usd bigint not null check (spent_micro_usd >= 0)
    )`,
    `create table join_tokens (
      token_sha256 ${id[dialect]} primary key,
      uses_max bigint not null,
      uses_left bigint not null check (uses_left >= 0),
      created_at_ms bigint not null,
      expires_at_ms bigint not null
    )`,
    `create table join_token_uses (
      token_sha256 ${id[dialect]} not null references join_tokens (token_sha256),
      node_id ${id[dialect]} not null,
      at_ms bigint not null,
      primary key (token_sha256, node_id)
    )`,
    `create table nodes (
      node_id ${id[dialect]} primary key,
      public_key_hex text not null,
      name text not null,
      capabilities_json text not null,
      joined_at_ms bigint not null,
      last_seen_at_ms bigint not null,
      is_draining bigint not null,
      removed_at_ms bigint
    )`,
    `create table models (
      model_id ${id[dialect]} primary key,
      manifest_json text not null,
      weights_path text not null,
      added_at_ms bigint not null
    )`,
    `create table accounts (
      account_id ${id[dialect]} primary key,
      must_not_overdraw bigint not null,
      debits_pending bigint not null check (debits_pending >= 0),
      debits_posted bigint not null check (debits_posted >= 0),
      credits_pending bigint not null check (credits_pending >= 0),
      credits_posted bigint not null check (credits_posted >= 0),
      check (must_not_overdraw = 0 or debits_pending + debits_posted <= credits_posted)
    )`,
    `create table transfers (
      sequence ${sequence[dialect]},
      transfer_id ${id[dialect]} not null unique,
      kind text not null,
      debit_account_id ${id[dialect]} not null references accounts (account_id),
      credit_account_id ${id[dialect]} not null references accounts (account_id),
      amount_micro_usd bigint not null check (amount_micro_usd > 0),
      hold_transfer_id ${id[dialect]},
      request_id ${id[dialect]},
      reason text not null,
      at_ms bigint not null,
      is_open bigint not null
    )`,
    "create index transfers_debit on transfers (debit_account_id, sequence)",
    "create index transfers_credit on transfers (credit_account_id, sequence)",
    "create index transfers_open on transfers (reason, at_ms, sequence) where is_open = 1",
    `create table receipts (
      leaf_index bigint primary key,
      receipt_id ${id[dialect]} not null unique,
      request_id ${id[dialect]} not null unique,
      tenant_id ${id[dialect]} not null,
      key_id ${id[dialect]} not null,
      model_id ${id[dialect]} not null,
      tier ${id[dialect]} not null,
      prompt_tokens bigint not null,
      output_tokens bigint not null,
      cost_micro_usd bigint not null check (cost_micro_usd >= 0),
      created_at_ms bigint not null,
      day ${id[dialect]} not null,
      body_json text not null,
      leaf_sha256 text not null
    )`,
    "create index receipts_tenant on receipts (tenant_id, leaf_index)",
    "create index receipts_created on receipts (created_at_ms)",
    `create table idempotency (
      scope ${id[dialect]} not null,
      key ${id[dialect]} not null,
      body_sha256 text not null,
      expires_at_ms bigint not null,
      status bigint,
      headers_json text,
      body text,
      primary key (scope, key)
    )`,
    "create index idempotency_expiry on idempotency (expires_at_ms)",
  ],
};
