/** The tables as Kysely sees them. Booleans are 0 or 1 and JSON is text in both dialects, so that one code serves both. */
import type { Generated } from "kysely";
import type { BatchTables } from "./batch-tables.ts";

export interface Tables extends BatchTables {
  readonly meta: { readonly name: string; readonly value: string };
  readonly tenants: {
    readonly tenant_id: string;
    readonly name: string;
    readonly created_at_ms: number;
    readonly limits_json: string | null;
  };
  readonly api_keys: ApiKeyTable;
  readonly join_tokens: JoinTokenTable;
  readonly join_token_uses: { readonly token_sha256: string; readonly node_id: string; readonly at_ms: number };
  readonly nodes: NodeTable;
  readonly models: ModelTable;
  readonly accounts: AccountTable;
  readonly transfers: TransferTable;
  readonly receipts: ReceiptTable;
  readonly monthly_spending: MonthlySpendingTable;
  readonly receipt_parts: ReceiptPartTable;
  readonly idempotency: IdempotencyTable;
  readonly lease_nodes: LeaseNodeTable;
  readonly leases: LeaseTable;
  readonly responses: ResponseTable;
  readonly providers: ProviderTable;
  readonly response_totals: { readonly tenant_id: string; readonly responses: number; readonly chars: number };
}

export interface ApiKeyTable {
  readonly key_id: string;
  readonly tenant_id: string;
  readonly secret_sha256: string;
  readonly secret_hint: string;
  readonly name: string;
  readonly scopes_json: string;
  readonly requests_per_minute_max: number | null;
  readonly tokens_per_minute_max: number | null;
  readonly budget_micro_usd: number | null;
  readonly models_json: string | null;
  readonly created_at_ms: number;
  readonly expires_at_ms: number | null;
  readonly revoked_at_ms: number | null;
  /** Grows with every settlement of the key. */
  readonly spent_micro_usd: number;
  readonly monthly_budget_micro_usd: number | null;
  readonly preferences_json: string | null;
}

/** Grows with every settlement of the key in the month. */
export interface MonthlySpendingTable {
  readonly key_id: string;
  /** `2026-11`, UTC. */
  readonly month: string;
  readonly tenant_id: string;
  readonly micro_usd: number;
}

/** Only of requests that not the grid alone served. */
export interface ReceiptPartTable {
  readonly request_id: string;
  /** 0 for the part that began the request. */
  readonly part: number;
  readonly provider: string;
  readonly prompt_tokens: number;
  readonly output_tokens: number;
  readonly cost_micro_usd: number;
}

export interface JoinTokenTable {
  readonly token_sha256: string;
  readonly uses_max: number;
  readonly uses_left: number;
  readonly created_at_ms: number;
  readonly expires_at_ms: number;
}

export interface NodeTable {
  readonly node_id: string;
  readonly public_key_hex: string;
  readonly name: string;
  readonly capabilities_json: string;
  readonly joined_at_ms: number;
  readonly last_seen_at_ms: number;
  readonly is_draining: number;
  readonly removed_at_ms: number | null;
}

export interface ModelTable {
  readonly model_id: string;
  readonly manifest_json: string;
  readonly weights_path: string;
  readonly added_at_ms: number;
}

export interface ProviderTable {
  readonly provider_id: string;
  readonly spec_json: string;
  readonly added_at_ms: number;
}

export interface AccountTable {
  readonly account_id: string;
  readonly must_not_overdraw: number;
  readonly debits_pending: number;
  readonly debits_posted: number;
  readonly credits_pending: number;
  readonly credits_posted: number;
}

export interface TransferTable {
  /** Order of application. */
  readonly sequence: Generated<number>;
  readonly transfer_id: string;
  readonly kind: "direct" | "hold" | "post" | "void";
  readonly debit_account_id: string;
  readonly credit_account_id: string;
  readonly amount_micro_usd: number;
  readonly hold_transfer_id: string | null;
  readonly request_id: string | null;
  readonly reason: string;
  readonly at_ms: number;
  /** 1 while a hold is unresolved or a node's share is held. */
  readonly is_open: number;
}

export interface ReceiptTable {
  readonly leaf_index: number;
  readonly receipt_id: string;
  readonly request_id: string;
  readonly tenant_id: string;
  readonly key_id: string;
  readonly model_id: string;
  readonly tier: string;
  readonly prompt_tokens: number;
  readonly output_tokens: number;
  readonly cost_micro_usd: number;
  readonly created_at_ms: number;
  /** UTC day of `created_at_ms`. */
  readonly day: string;
  readonly body_json: string;
  readonly leaf_sha256: string;
}

export interface IdempotencyTable {
  readonly scope: string;
  readonly key: string;
  readonly body_sha256: string;
  readonly expires_at_ms: number;
  /** Null while in progress. */
  readonly status: number | null;
  readonly headers_json: string | null;
  readonly body: string | null;
}

export interface LeaseNodeTable {
  readonly node_id: string;
  readonly node_epoch: number;
  readonly slots: number;
}

/** One part of a lease. */
export interface LeaseTable {
  readonly lease_id: string;
  readonly node_id: string;
  readonly node_epoch: number;
  readonly slots: number;
  readonly holder_id: string;
  readonly epoch: number;
  readonly granted_at_ms: number;
  readonly ends_at_ms: number;
}

export interface ResponseTable {
  readonly response_id: string;
  readonly tenant_id: string;
  readonly previous_id: string | null;
  readonly created_at_ms: number;
  readonly expires_at_ms: number;
  readonly chars: number;
  readonly input_json: string;
  readonly body_json: string;
}
