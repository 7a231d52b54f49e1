/** What the operator's API needs of the rest of the coordinator. The registry, the catalogue and dispatch provide it. */
import type { Context, MiddlewareHandler } from "hono";
import type { KeyId, ModelId, NodeId, RequestId } from "../../domain/ids.ts";
import type { Outcome, Refusal } from "../../domain/refusal.ts";
import type { Clock } from "../../ports/clock.ts";
import type { Crypto } from "../../ports/crypto.ts";
import type { Ids } from "../../ports/ids.ts";
import type { Random } from "../../ports/random.ts";
import type { ApiKey, KeyScope, ModelRecord, Store } from "../../ports/store.ts";
import type { ExplainedRequest } from "../dispatch/explain-ring.ts";
import type { MadePlan } from "../dispatch/replica-planning.ts";
import type { Roster } from "../roster.ts";
import type { AddModel, LedgerCheck } from "./admin-schemas.ts";

export interface AdminSources {
  readonly gridId: string;
  readonly publicKeyHex: string;
  readonly version: string;
  readonly startedAtMs: number;
  readonly clock: Clock;
  readonly random: Random;
  readonly ids: Ids;
  readonly crypto: Crypto;
  readonly store: Store;
  readonly roster: Pick<Roster, "nodes" | "node">;
  /** Requests that run or wait at this moment. */
  activity(): { readonly inFlight: number; readonly queued: number };
  /** The newest plan of the whole placement; null before the first. */
  placement(): MadePlan | null;
  /** Null for a replica that nobody ordered. */
  modelOf(replicaId: string): ModelId | null;
  /** Null when it is not among the last requests. */
  explain(requestId: RequestId): ExplainedRequest | null;
  checkLedger(): Promise<LedgerCheck>;
  readonly nodes: NodeOrders;
  readonly models: ModelOrders;
  readonly joinCodes: JoinCodes;
  readonly gate: AdminGate;
}

export interface NodeOrders {
  /** Each resolves with false when no such node is known. */
  drain(nodeId: NodeId): Promise<boolean>;
  undrain(nodeId: NodeId): Promise<boolean>;
  remove(nodeId: NodeId): Promise<boolean>;
}

export interface ModelOrders {
  /** Reads, checks and registers the file; refuses what it cannot serve, with the reason. */
  add(model: AddModel): Promise<Outcome<ModelRecord>>;
  remove(modelId: ModelId): Promise<boolean>;
}

export interface JoinCodes {
  create(terms: {
    usesMax: number;
    ttlMs: number;
  }): Promise<{ readonly joinCode: string; readonly expiresAtMs: number }>;
}

/** The gateway's own parts, so that keys and errors mean the same on every path. */
export interface AdminGate {
  requireKey(scope: KeyScope): MiddlewareHandler;
  /** The key that `requireKey` let in. */
  callerKey(context: Context): ApiKey;
  refusal(context: Context, reason: Refusal): Response;
  /** The key was revoked: no copy of it in memory may serve any more. */
  forgetKey(keyId: KeyId): void;
}
