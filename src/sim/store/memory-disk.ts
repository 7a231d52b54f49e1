/** What a memory store keeps: plain maps of immutable records, in the order in which they were made. */

import type { DurableLease, LeaseNode } from "../../domain/durable-lease.ts";
import type {
  AccountId,
  BatchId,
  FileId,
  KeyId,
  LeaseId,
  ModelId,
  NodeId,
  ReceiptId,
  RequestId,
  ResponseId,
  Sha256Hex,
  TenantId,
  TransferId,
} from "../../domain/ids.ts";
import type { Account, Transfer } from "../../domain/ledger.ts";
import type { MicroUsd } from "../../domain/money.ts";
import type { ProviderSpec } from "../../domain/provider.ts";
import type { FileRecord } from "../../ports/batch-store.ts";
import type { StoredResponse } from "../../ports/response-store.ts";
import type {
  ApiKey,
  IdempotencyRecord,
  JoinToken,
  ModelRecord,
  NodeRecord,
  ReceiptRecord,
  SettledPart,
  Tenant,
} from "../../ports/store.ts";
import type { MemoryBatch } from "./memory-batches.ts";

export interface MemoryIdempotency {
  readonly scope: string;
  readonly key: string;
  readonly bodySha256: Sha256Hex;
  readonly expiresAtMs: number;
  readonly record: IdempotencyRecord | null;
}

export interface MemoryDisk {
  readonly meta: Map<string, string>;
  readonly tenants: Map<TenantId, Tenant>;
  readonly keys: Map<KeyId, ApiKey>;
  readonly spent: Map<KeyId, MicroUsd>;
  readonly joinTokens: Map<Sha256Hex, JoinToken>;
  /** Nodes that used a token. */
  readonly tokenUses: Map<Sha256Hex, Set<NodeId>>;
  readonly nodes: Map<NodeId, NodeRecord>;
  readonly models: Map<ModelId, ModelRecord>;
  readonly accounts: Map<AccountId, Account>;
  /** In the order of application. */
  readonly transfers: Map<TransferId, Transfer>;
  readonly open: Set<TransferId>;
  readonly receipts: ReceiptRecord[];
  readonly receiptById: Map<ReceiptId, ReceiptRecord>;
  readonly receiptByRequest: Map<RequestId, ReceiptRecord>;
  /** Only of requests that not the grid alone served. */
  readonly receiptParts: Map<RequestId, readonly SettledPart[]>;
  /** By scope and key as one JSON text. */
  readonly idempotency: Map<string, MemoryIdempotency>;
  readonly leaseNodes: Map<NodeId, LeaseNode>;
  readonly leases: Map<LeaseId, DurableLease>;
  readonly responses: Map<ResponseId, StoredResponse>;
  /** By provider id. */
  readonly providers: Map<string, ProviderSpec>;
  readonly files: Map<FileId, FileRecord>;
  readonly batches: Map<BatchId, MemoryBatch>;
}

/** One write: computes everything that may fail before it changes the disk, so that it is whole or not at all. */
export type MemoryWrite = <T>(work: (disk: MemoryDisk) => T) => Promise<T>;
/** A read of a dead process never comes back, like its writes. */
export type MemoryRead = <T>(work: (disk: MemoryDisk) => T) => Promise<T>;

export function createMemoryDisk(): MemoryDisk {
  return {
    meta: new Map(),
    tenants: new Map(),
    keys: new Map(),
    spent: new Map(),
    joinTokens: new Map(),
    tokenUses: new Map(),
    nodes: new Map(),
    models: new Map(),
    accounts: new Map(),
    transfers: new Map(),
    open: new Set(),
    receipts: [],
    receiptById: new Map(),
    receiptByRequest: new Map(),
    receiptParts: new Map(),
    idempotency: new Map(),
    leaseNodes: new Map(),
    leases: new Map(),
    responses: new Map(),
    providers: new Map(),
    files: new Map(),
    batches: new Map(),
  };
}
