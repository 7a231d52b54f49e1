/** What the operator's API needs of the rest of the coordinator. The registry, the catalogue and dispatch provide it. */
import type { Context, MiddlewareHandler } from "hono";
import type { KeyId, ModelId, NodeId, RequestId, TenantId } from "../../domain/ids.ts";
import type { Outcome, Refusal } from "../../domain/refusal.ts";
import type { Clock } from "../../ports/clock.ts";
import type { Crypto } from "../../ports/crypto.ts";
import type { Ids } from "../../ports/ids.ts";
import type { Random } from "../../ports/random.ts";
import type { ApiKey, KeyScope, ModelRecord, Store } from "../../ports/store.ts";
import type { ExplainedRequest } from "../dispatch/explain-ring.ts";
import type { MadePlan } from "../dispatch/replica-planning.ts";
import type { JobView } from "../models/intake-job.ts";
import type { Roster } from "../roster.ts";
import type { LedgerCheck } from "./admin-schemas.ts";
import type { AddModel, CheckEvent, WeightsFactsRow } from "./model-schemas.ts";
import type { WeightsRow } from "./weights-schema.ts";

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
  /** Those that can take a request; a chain counts as one, whatever it is made of. */
  readyReplicas(modelId: ModelId): number;
  /** Null when it is not among the last requests. */
  explain(requestId: RequestId): ExplainedRequest | null;
  /** Where each model's weights are; absent where weights are not distributed. */
  weights?(): readonly WeightsRow[];
  /** What other nodes reported of it, as sentences. */
  nodeWarnings?(nodeId: NodeId): readonly string[];
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
  /** Reads, checks and registers files of this machine; refuses what it cannot serve, with the reason. */
  add(model: AddModel, signal: AbortSignal): Promise<Outcome<ModelRecord>>;
  /** Begins a job that fetches a model, or gives the one that does already. */
  start(model: AddModel): Promise<Outcome<JobView>>;
  remove(modelId: ModelId): Promise<boolean>;
  /** Names the model that drafts for another; null: none does. */
  setDraft(modelId: ModelId, draftModelId: string | null): Promise<Outcome<ModelRecord>>;
  /** What the grid signed about the model's files; null while there is no manifest. */
  weights(model: ModelRecord): Promise<WeightsFactsRow["weights"]>;
  /** A job that fetches all of it again when files or manifest are lost; null when it can be mended in place. */
  fetchAnew(model: ModelRecord): Promise<Outcome<JobView> | null>;
  /** Ends with one `result` or `error`. */
  check(model: ModelRecord, options: { isMending: boolean; signal: AbortSignal }): AsyncIterable<CheckEvent>;
  /** Null in a grid that takes files of its own machine only. */
  readonly jobs: ModelJobs | null;
}

export interface ModelJobs {
  /** Newest first. */
  list(): readonly JobView[];
  get(jobId: string): JobView | null;
  /** Each resolves with false when there is no such job. */
  pause(jobId: string): Promise<boolean>;
  cancel(jobId: string): Promise<boolean>;
  /** The job's views as it goes on, until it rests. */
  follow(jobId: string, signal: AbortSignal): AsyncIterable<JobView>;
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
  /** Limits of the tenant changed. */
  forgetTenant?(tenantId: TenantId): void;
}
