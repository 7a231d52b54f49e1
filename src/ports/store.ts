/**
 * What the coordinator keeps. Two adapters (SQLite, PostgreSQL) and the simulator's memory store pass one contract suite.
 * Every method is one transaction; what it resolved survives `kill -9`. Migrations run forward at opening.
 */

import type { DurableLease, LeaseNode, LeaseOutcome, LeaseWant } from "../domain/durable-lease.ts";
import type { NodeCapabilities } from "../domain/hardware.ts";
import type {
  AccountId,
  KeyId,
  LeaseId,
  ModelId,
  NodeId,
  ReceiptId,
  RequestId,
  Sha256Hex,
  TenantId,
} from "../domain/ids.ts";
import type { Account, LedgerOutcome, Transfer } from "../domain/ledger.ts";
import type { ModelManifest } from "../domain/model.ts";
import type { MicroUsd } from "../domain/money.ts";
import type { KeyPreferences } from "../domain/preferences.ts";
import type { ProviderSpec } from "../domain/provider.ts";
import type { ServiceTier } from "../domain/tier.ts";
import type { BatchStore, FileStore } from "./batch-store.ts";
import type { ResponseStore } from "./response-store.ts";

export interface Store {
  readonly meta: MetaStore;
  readonly tenants: TenantStore;
  readonly keys: KeyStore;
  readonly joinTokens: JoinTokenStore;
  readonly nodes: NodeStore;
  readonly models: ModelStore;
  readonly ledger: LedgerStore;
  readonly receipts: ReceiptStore;
  readonly idempotency: IdempotencyStore;
  readonly leases: LeaseStore;
  readonly spending: SpendingStore;
  readonly files: FileStore;
  readonly batches: BatchStore;
  readonly responses: ResponseStore;
  readonly providers: ProviderStore;
  close(): Promise<void>;
}

export interface MetaStore {
  get(name: string): Promise<string | null>;
  set(name: string, value: string): Promise<void>;
  /** Adds one to a counter and returns it: 1 the first time. Used for the count of coordinator starts. */
  increment(name: string): Promise<number>;
}

export interface Tenant {
  readonly tenantId: TenantId;
  readonly name: string;
  readonly createdAtMs: number;
  /** Over all of its keys; null: none. */
  readonly limits: TenantLimits | null;
}
/** Each is null when there is no such limit. */
export interface TenantLimits {
  readonly requestsPerMinuteMax: number | null;
  readonly tokensPerMinuteMax: number | null;
  readonly budgetMicroUsd: MicroUsd | null;
  readonly monthlyBudgetMicroUsd: MicroUsd | null;
  readonly models: readonly ModelId[] | null;
}
export interface TenantStore {
  create(tenant: Tenant): Promise<void>;
  get(tenantId: TenantId): Promise<Tenant | null>;
  list(): Promise<readonly Tenant[]>;
  /** False when there is no such tenant. */
  setLimits(tenantId: TenantId, limits: TenantLimits | null): Promise<boolean>;
}

export const KEY_SCOPES = ["inference", "usage", "admin"] as const;
export type KeyScope = (typeof KEY_SCOPES)[number];

/** An API key. The secret itself is never stored: only its SHA-256 (the secret has 256 random bits, so no salt is needed). */
export interface ApiKey {
  readonly keyId: KeyId;
  readonly tenantId: TenantId;
  readonly secretSha256: Sha256Hex;
  /** First characters, so that a person can tell keys apart. */
  readonly secretHint: string;
  readonly name: string;
  readonly scopes: readonly KeyScope[];
  /** Null: unlimited. */
  readonly requestsPerMinuteMax: number | null;
  readonly tokensPerMinuteMax: number | null;
  /** Total that this key may spend; null: what the tenant's balance allows. */
  readonly budgetMicroUsd: MicroUsd | null;
  /** What it may spend in a calendar month, UTC; null: no such cap. */
  readonly monthlyBudgetMicroUsd: MicroUsd | null;
  /** Null: every model. */
  readonly models: readonly ModelId[] | null;
  /** What lies under every request of the key; null: nothing. */
  readonly preferences: KeyPreferences | null;
  readonly createdAtMs: number;
  readonly expiresAtMs: number | null;
  readonly revokedAtMs: number | null;
}
/** What of a key may change. */
export type KeyTerms = Pick<
  ApiKey,
  | "name"
  | "scopes"
  | "requestsPerMinuteMax"
  | "tokensPerMinuteMax"
  | "budgetMicroUsd"
  | "monthlyBudgetMicroUsd"
  | "models"
  | "preferences"
  | "expiresAtMs"
>;
export interface KeyStore {
  create(key: ApiKey): Promise<void>;
  findBySecret(secretSha256: Sha256Hex): Promise<ApiKey | null>;
  get(keyId: KeyId): Promise<ApiKey | null>;
  list(): Promise<readonly ApiKey[]>;
  /** False when there is no such key or it was revoked before. */
  revoke(keyId: KeyId, atMs: number): Promise<boolean>;
  /** False when there is no such key or it was revoked. */
  update(keyId: KeyId, terms: Partial<KeyTerms>): Promise<boolean>;
  /** Settled charges of a key, all time. */
  spent(keyId: KeyId): Promise<MicroUsd>;
}

export interface JoinToken {
  readonly tokenSha256: Sha256Hex;
  readonly usesMax: number;
  readonly usesLeft: number;
  readonly createdAtMs: number;
  readonly expiresAtMs: number;
}
export type JoinTokenUse = "used" | "unknown" | "expired" | "exhausted";
export interface JoinTokenStore {
  create(token: JoinToken): Promise<void>;
  /** Takes one use and records the node, atomically; a node that already used this token is `used` again without taking one. */
  use(use: { tokenSha256: Sha256Hex; nodeId: NodeId; atMs: number }): Promise<JoinTokenUse>;
  list(): Promise<readonly JoinToken[]>;
}

/** A node that has joined; its live state is the registry's, not the store's. */
export interface NodeRecord {
  readonly nodeId: NodeId;
  /** Hex of the 32-byte Ed25519 public key. */
  readonly publicKeyHex: string;
  readonly name: string;
  readonly capabilities: NodeCapabilities;
  readonly joinedAtMs: number;
  readonly lastSeenAtMs: number;
  readonly isDraining: boolean;
  /** Removed nodes stay known, so that they are refused. */
  readonly removedAtMs: number | null;
}
export interface NodeStore {
  put(node: NodeRecord): Promise<void>;
  get(nodeId: NodeId): Promise<NodeRecord | null>;
  list(): Promise<readonly NodeRecord[]>;
}

/** A registered model with where its file lies on the coordinator's machine. */
export interface ModelRecord {
  readonly manifest: ModelManifest;
  readonly weightsPath: string;
}
export interface ModelStore {
  put(model: ModelRecord): Promise<void>;
  get(modelId: ModelId): Promise<ModelRecord | null>;
  list(): Promise<readonly ModelRecord[]>;
  remove(modelId: ModelId): Promise<boolean>;
}

export interface LedgerStore {
  /** Applies all transfers or none (law in market/ledger.ts). A batch seen before with the same fields changes nothing. */
  apply(transfers: readonly Transfer[]): Promise<LedgerOutcome>;
  account(accountId: AccountId): Promise<Account | null>;
  accounts(): Promise<readonly Account[]>;
  /** Newest first. */
  transfers(page: { accountId?: AccountId; limit: number }): Promise<readonly Transfer[]>;
  /** Holds that were neither posted nor voided: what a restart has to resolve. */
  openHolds(): Promise<readonly Transfer[]>;
  /** Shares of nodes (`node-share`) applied before `beforeMs` and neither released nor refunded; oldest first. */
  heldShares(filter: { beforeMs: number; limit: number }): Promise<readonly Transfer[]>;
}

/** A settled request: its receipt (canonical JSON and signatures as in wire/receipt.ts) and its place in the log. */
export interface ReceiptRecord {
  readonly receiptId: ReceiptId;
  readonly requestId: RequestId;
  readonly tenantId: TenantId;
  readonly keyId: KeyId;
  readonly modelId: ModelId;
  readonly tier: ServiceTier;
  readonly promptTokens: number;
  readonly outputTokens: number;
  readonly costMicroUsd: MicroUsd;
  readonly createdAtMs: number;
  /** The receipt as canonical JSON: what was signed and what the leaf commits to. */
  readonly bodyJson: string;
  readonly leafSha256: Sha256Hex;
  readonly leafIndex: number;
}
export interface Settlement {
  readonly transfers: readonly Transfer[];
  readonly receipt: Omit<ReceiptRecord, "leafIndex">;
  /** Who served which part, where it was not the grid alone; they add up to the receipt. */
  readonly parts?: readonly SettledPart[];
}
/** What one provider served of a request; `grid` names the grid's own nodes. In the order in which they began. */
export interface SettledPart {
  readonly provider: string;
  readonly promptTokens: number;
  readonly outputTokens: number;
  readonly costMicroUsd: MicroUsd;
}
export type SettlementOutcome =
  | { readonly ok: true; readonly leafIndex: number; readonly isReplay: boolean }
  | { readonly ok: false; readonly reason: Exclude<LedgerOutcome, { ok: true }>["reason"] };

export interface UsageRow {
  /** UTC day, `2026-11-22`. */
  readonly day: string;
  readonly tenantId: TenantId;
  readonly keyId: KeyId;
  readonly modelId: ModelId;
  readonly tier: ServiceTier;
  /** `grid`, or a cloud provider's id. */
  readonly provider: string;
  /** A request that several providers served counts where it began, so that sums are right. */
  readonly requests: number;
  readonly promptTokens: number;
  readonly outputTokens: number;
  readonly costMicroUsd: MicroUsd;
}
export interface ReceiptStore {
  /** Postings, receipt and log leaf in one transaction, idempotent by request id. */
  settle(settlement: Settlement): Promise<SettlementOutcome>;
  get(receiptId: ReceiptId): Promise<ReceiptRecord | null>;
  byRequest(requestId: RequestId): Promise<ReceiptRecord | null>;
  /** Newest first. */
  list(page: { tenantId?: TenantId; limit: number }): Promise<readonly ReceiptRecord[]>;
  leafCount(): Promise<number>;
  /** Leaf hashes in order, `from` inclusive, `to` exclusive. */
  leaves(range: { from: number; to: number }): Promise<readonly Sha256Hex[]>;
  usage(filter: { tenantId?: TenantId; fromMs: number; toMs: number }): Promise<readonly UsageRow[]>;
}

/** Settled charges. */
export interface Spent {
  readonly totalMicroUsd: MicroUsd;
  readonly monthMicroUsd: MicroUsd;
}
/** Written in the transaction of each settlement, by the UTC month in which the request was made. */
export interface SpendingStore {
  /** `month` as `2026-11`. */
  ofKey(keyId: KeyId, month: string): Promise<Spent>;
  /** Of all its keys together. */
  ofTenant(tenantId: TenantId, month: string): Promise<Spent>;
}

export interface IdempotencyRecord {
  readonly status: number;
  readonly headersJson: string;
  readonly body: string;
}
export type IdempotencyBegin =
  | { readonly state: "started" }
  | { readonly state: "in-progress" }
  | { readonly state: "conflict" }
  | { readonly state: "done"; readonly record: IdempotencyRecord };
export interface IdempotencyStore {
  /** `scope` is key id plus route. The same scope, key and body hash: once `started`, then `in-progress` or `done`. */
  begin(entry: {
    scope: string;
    key: string;
    bodySha256: Sha256Hex;
    atMs: number;
    expiresAtMs: number;
  }): Promise<IdempotencyBegin>;
  finish(entry: { scope: string; key: string; record: IdempotencyRecord }): Promise<void>;
  /** Forgets an attempt that ended without an answer worth replaying. */
  forget(entry: { scope: string; key: string }): Promise<void>;
  /** Removes expired entries and, at start (`isStart`), every entry left in progress by an earlier life. */
  sweep(options: { nowMs: number; isStart: boolean }): Promise<number>;
}

export type LeaseRef = Pick<DurableLease, "leaseId" | "epoch">;
/**
 * Leases of tasks, gangs and batches (law in domain/durable-lease.ts). Each call takes at most `LEASE_BATCH_MAX` at once and is
 * one transaction; a batch is carried out in its order.
 */
export interface LeaseStore {
  /**
   * What nodes have. A higher epoch than before ends every lease on the node, the same one only sets the slots, a lower one is
   * ignored. Resolves with the leases that ended.
   */
  offer(nodes: readonly Omit<LeaseNode, "slotsUsed">[]): Promise<readonly DurableLease[]>;
  /** Compare-and-swap on each node's epoch and free slots; one outcome for each want. The same want again is a replay. */
  grant(wants: readonly LeaseWant[]): Promise<readonly LeaseOutcome[]>;
  /** Moves ends, never earlier. False for a lease that is not live under this epoch. */
  renew(renewals: readonly (LeaseRef & { readonly endsAtMs: number })[]): Promise<readonly boolean[]>;
  /** Gives the slots back. False for a lease that is not live under this epoch. */
  end(refs: readonly LeaseRef[]): Promise<readonly boolean[]>;
  /** Ends at most `limit` leases whose time has passed, the earliest first, and resolves with them. */
  expire(options: { nowMs: number; limit: number }): Promise<readonly DurableLease[]>;
  /** By lease id, from the one after `after` on. */
  live(page: { after: LeaseId | null; limit: number }): Promise<readonly DurableLease[]>;
  /** By node id. */
  nodes(): Promise<readonly LeaseNode[]>;
}

/** Cloud providers that the operator named. What is kept says where a key is, never the key. */
export interface ProviderStore {
  /** Adds it, or replaces the one of this id. */
  put(spec: ProviderSpec): Promise<void>;
  get(providerId: string): Promise<ProviderSpec | null>;
  /** By id. */
  list(): Promise<readonly ProviderSpec[]>;
  remove(providerId: string): Promise<boolean>;
}
