import type { Hono } from "hono";
import type { Registry } from "prom-client";
import type { Dispatch } from "../../domain/generation.ts";
import type { ModelId, NodeId } from "../../domain/ids.ts";
import type { ModelManifest } from "../../domain/model.ts";
import type { TokenPrice } from "../../domain/money.ts";
import type { ServiceTier } from "../../domain/tier.ts";
import type { Clock } from "../../ports/clock.ts";
import type { Cloud } from "../../ports/cloud.ts";
import type { Crypto } from "../../ports/crypto.ts";
import type { Ids } from "../../ports/ids.ts";
import type { Log } from "../../ports/log.ts";
import type { Random } from "../../ports/random.ts";
import type { Store } from "../../ports/store.ts";
import type { Tokenizer } from "../../ports/tokenizer.ts";
import type { Place, PlacesQuestion } from "../dispatch/places.ts";
import type { GatewaySettlement } from "./settlement-port.ts";

export interface GatewayOptions {
  /** Of this program, for `/health` and the OpenAPI document. */
  readonly version: string;
  /** 32 bytes that sampling seeds are derived from; the same over restarts, so that a tenant's seed repeats. */
  readonly seedSecret: Uint8Array;
  readonly bodyBytesMax: number;
  /** Of all requests that are read or answered at one time. */
  readonly bodiesBytesMax: number;
  readonly jsonDepthMax: number;
  /** From acceptance to the end of an answer. */
  readonly requestMsMax: number;
  /** How long a flex request waits for its start; its answer then has `requestMsMax` like any other. */
  readonly flexStartMsMax: number;
  /** A client that reads nothing for so long, while there is something to read, is gone. */
  readonly clientStallMsMax: number;
  readonly openRequestsMax: number;
  /** A revoked key works no longer than this where the revocation was not told to the gateway. */
  readonly keyCacheMs: number;
  readonly idempotencyMs: number;
  /** More routes on the same application, behind the same request ids, errors and keys. */
  readonly extraRoutes: ((app: Hono) => void) | null;
}

export const GATEWAY_DEFAULTS = {
  /** A prompt of a million tokens as ids, or some 2.5 million tokens as text. */
  bodyBytesMax: 10 * 1024 * 1024,
  /** Fifty of the largest; a body costs several times its bytes once it is parsed. */
  bodiesBytesMax: 512 * 1024 * 1024,
  /** Schemas of tools nest some 20 deep. */
  jsonDepthMax: 64,
  /** What the official clients wait. */
  requestMsMax: 600_000,
  /** As long as the official clients wait for a first byte. */
  flexStartMsMax: 600_000,
  clientStallMsMax: 60_000,
  /** Memory: an open stream keeps its token ids, a prompt and a few kilobytes. */
  openRequestsMax: 4_096,
  keyCacheMs: 5_000,
  /** As OpenAI: one day. */
  idempotencyMs: 86_400_000,
  extraRoutes: null,
} as const satisfies Partial<GatewayOptions>;

export interface ServedModel {
  readonly manifest: ModelManifest;
  readonly tokenizer: Tokenizer;
}

/** The model catalogue and the replica pool, as far as the gateway sees them. */
export interface GatewayModels {
  /** Sorted by id. */
  list(): readonly ModelManifest[];
  /** Null also while the model's vocabulary is being opened. */
  get(modelId: ModelId): ServedModel | null;
  readyReplicas(modelId: ModelId): number;
  /** All that serve it are chains of stages, which give no embeddings. */
  isOnlySplit?(modelId: ModelId): boolean;
  /** Within which a seed repeats exactly, of the replicas that are ready; null when none is. */
  numericClass(modelId: ModelId): string | null;
  priceOf(manifest: ModelManifest, tier: ServiceTier): TokenPrice;
  /** Of the nodes that serve it, sorted. */
  regions?(modelId: ModelId): readonly string[];
}

/** What the gateway tells of nodes: in headers of an answer, and in quotes. */
export interface GatewayNodes {
  /** Null for a node that is not known any more. */
  label(nodeId: NodeId): { readonly nodeClass: string; readonly region: string | null } | null;
  places(question: PlacesQuestion): readonly Place[];
}

export interface GatewayDeps {
  readonly dispatch: Dispatch;
  readonly settlement: GatewaySettlement;
  readonly models: GatewayModels;
  /** Absent: answers name nodes by their ids only. */
  readonly nodes?: GatewayNodes;
  readonly store: Pick<Store, "keys" | "idempotency" | "receipts" | "ledger" | "responses" | "tenants">;
  readonly clock: Clock;
  readonly crypto: Crypto;
  readonly random: Random;
  readonly ids: Ids;
  readonly log: Log;
  readonly registry: Registry;
  /** Where requests may overflow to; absent: the grid is all there is. */
  readonly cloud?: Cloud;
}
