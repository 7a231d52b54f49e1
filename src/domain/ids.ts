/**
 * Branded identifiers. Each has one constructor here, which asserts the form; borders use the pattern in a schema first,
 * so that the constructor never fails on foreign input. Generated ids are `<prefix>_<ULID>`; a node's id is derived from
 * its public key and a model's id is the name that tenants type.
 */
import { assert } from "./assert.ts";

declare const brand: unique symbol;
type Branded<T, Name extends string> = T & { readonly [brand]: Name };

export type NodeId = Branded<string, "NodeId">;
export type ModelId = Branded<string, "ModelId">;
export type ReplicaId = Branded<string, "ReplicaId">;
export type RequestId = Branded<string, "RequestId">;
export type AttemptId = Branded<string, "AttemptId">;
export type LeaseId = Branded<string, "LeaseId">;
export type TenantId = Branded<string, "TenantId">;
export type KeyId = Branded<string, "KeyId">;
export type TransferId = Branded<string, "TransferId">;
export type AccountId = Branded<string, "AccountId">;
export type ReceiptId = Branded<string, "ReceiptId">;
/** Of an answer of `/v1/responses`; it has the ULID of its request. */
export type ResponseId = Branded<string, "ResponseId">;
export type FileId = Branded<string, "FileId">;
export type BatchId = Branded<string, "BatchId">;
/** 64 lower-case hex digits. */
export type Sha256Hex = Branded<string, "Sha256Hex">;

const ULID = "[0-9A-HJKMNP-TV-Z]{26}";
export const ID_PATTERNS = {
  node: /^node_[0-9a-f]{32}$/,
  model: /^[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}$/,
  replica: new RegExp(`^rep_${ULID}$`),
  request: new RegExp(`^req_${ULID}$`),
  attempt: new RegExp(`^att_${ULID}$`),
  lease: new RegExp(`^lease_${ULID}$`),
  tenant: new RegExp(`^ten_${ULID}$`),
  key: new RegExp(`^key_${ULID}$`),
  /** Transfer ids are built from the request or event they settle, so that a replay meets itself. */
  transfer: /^[a-z0-9_:.-]{1,160}$/i,
  account: /^[a-z]+(:[A-Za-z0-9_.-]+){0,3}$/,
  receipt: new RegExp(`^rcpt_${ULID}$`),
  response: new RegExp(`^resp_${ULID}$`),
  /** As OpenAI writes them: the only id with a dash. */
  file: new RegExp(`^file-${ULID}$`),
  batch: new RegExp(`^batch_${ULID}$`),
  sha256: /^[0-9a-f]{64}$/,
} as const;

export type IdPrefix = "rep" | "req" | "att" | "lease" | "ten" | "key" | "rcpt" | "file" | "batch";

export const nodeId = (text: string): NodeId => checked<NodeId>(text, ID_PATTERNS.node, "node id");
export const modelId = (text: string): ModelId => checked<ModelId>(text, ID_PATTERNS.model, "model id");
export const replicaId = (text: string): ReplicaId => checked<ReplicaId>(text, ID_PATTERNS.replica, "replica id");
export const requestId = (text: string): RequestId => checked<RequestId>(text, ID_PATTERNS.request, "request id");
export const attemptId = (text: string): AttemptId => checked<AttemptId>(text, ID_PATTERNS.attempt, "attempt id");
export const leaseId = (text: string): LeaseId => checked<LeaseId>(text, ID_PATTERNS.lease, "lease id");
export const tenantId = (text: string): TenantId => checked<TenantId>(text, ID_PATTERNS.tenant, "tenant id");
export const keyId = (text: string): KeyId => checked<KeyId>(text, ID_PATTERNS.key, "key id");
export const transferId = (text: string): TransferId => checked<TransferId>(text, ID_PATTERNS.transfer, "transfer id");
export const accountId = (text: string): AccountId => checked<AccountId>(text, ID_PATTERNS.account, "account id");
export const receiptId = (text: string): ReceiptId => checked<ReceiptId>(text, ID_PATTERNS.receipt, "receipt id");
export const fileId = (text: string): FileId => checked<FileId>(text, ID_PATTERNS.file, "file id");
export const batchId = (text: string): BatchId => checked<BatchId>(text, ID_PATTERNS.batch, "batch id");
export const responseId = (text: string): ResponseId => checked<ResponseId>(text, ID_PATTERNS.response, "response id");
export const sha256Hex = (text: string): Sha256Hex => checked<Sha256Hex>(text, ID_PATTERNS.sha256, "sha-256 digest");

function checked<T extends Branded<string, string>>(text: string, pattern: RegExp, what: string): T {
  assert(pattern.test(text), `${JSON.stringify(text.slice(0, 80))} is a ${what} (${pattern.source})`);
  return text as T;
}
