/**
 * What the gateway asks of dispatch and what it gets back. One generation is one choice of a request; it may take several
 * attempts on several nodes, and its token stream never repeats or skips a position.
 */

import type { AttemptRecord } from "./attempt.ts";
import type { ModelId, NodeId, RequestId, Sha256Hex, TenantId } from "./ids.ts";
import type { TokenPrice } from "./money.ts";
import type { Refusal } from "./refusal.ts";
import type { SampledToken, SamplingOptions, SeedHex, StopReason } from "./sampling.ts";
import type { ServiceTier } from "./tier.ts";

/** What is fixed for all choices of a request. */
export interface RequestTerms {
  readonly requestId: RequestId;
  /** Whose share of the grid it takes; a request without one shares with all others that have none. */
  readonly tenantId?: TenantId;
  /** SHA-256 of the canonical request body as the tenant sent it. */
  readonly requestSha256: Sha256Hex;
  readonly modelId: ModelId;
  readonly weightsSha256: Sha256Hex;
  readonly tier: ServiceTier;
  readonly price: TokenPrice;
  /** From acceptance to the end of the answer. */
  readonly deadlineMs: number;
  /** A request that has not started by then is refused: `resource-unavailable` for flex, else `no-capacity`. Absent: waits until its deadline. */
  readonly startWithinMs?: number;
  /** The coordinator asks for itself, to see whether a chain computes: nobody pays, and nothing is planned or kept loaded for it. */
  readonly isProbe?: boolean;
  /** Batch work: waits behind every other request, runs only where nobody else would, and gives way first. */
  readonly isBackground?: boolean;
  /** Nodes on which it failed before: left alone for a while, where others can run it. */
  readonly avoidedNodeIds?: readonly NodeId[];
  /** Rules on where it may run; absent: none. */
  readonly constraints?: RequestConstraints;
}

/** Hard: a node that breaks one is never chosen. Each is null when it is not set. */
export interface RequestConstraints {
  /** A node of unknown region is in none. */
  readonly regions: readonly string[] | null;
  /** 0 to 1. */
  readonly trustMin: number | null;
  /** Of the whole machine. */
  readonly priceMicroUsdPerHourMax: number | null;
  /** A node of unknown region may stand in any of them, so it is kept out too. Absent or empty: none. */
  readonly excludedRegions?: readonly string[];
}

export interface GenerationRequest {
  readonly terms: RequestTerms;
  readonly choice: number;
  readonly promptTokenIds: readonly number[];
  readonly tokensMax: number;
  readonly sampling: SamplingOptions;
  readonly seed: SeedHex;
  readonly stopStrings: readonly string[];
  readonly grammar: string | null;
  /** Nodes reuse cached prefixes only between requests of one scope: 32 hex digits, the same for a tenant's requests. */
  readonly cacheScope: string;
  readonly ignoreStopTokens: boolean;
  readonly topLogprobs: number | null;
  /** What another resource generated of this answer before: goes on after it, counts towards `tokensMax`, and nobody here is paid for it. */
  readonly generatedTokenIds?: readonly number[];
  /** It is also told when it has lost its node and waits for another. */
  readonly wantsWaits?: boolean;
}

export type GenerationEvent =
  | { readonly kind: "started"; readonly nodeId: NodeId; readonly queuedMs: number }
  | { readonly kind: "tokens"; readonly tokens: readonly SampledToken[] }
  | { readonly kind: "end"; readonly reason: StopReason }
  /** It lost its node in mid-stream, or before its first token, and waits for another; only for `wantsWaits`. */
  | { readonly kind: "waiting" }
  /** Nothing can go on: refused before the first token, or lost in mid-stream with nothing to take over within the deadline. */
  | { readonly kind: "failed"; readonly reason: Refusal };

/** A running generation. `onEvent` gets `started` once per attempt, `tokens` in order, then one `end` or `failed`. */
export interface Generation {
  /**
   * Stops it (client gone, stop string found, deadline). No event follows. Resolves with `attempts` as they ended, after the
   * node's signed statement arrived or its bounded wait passed. May be called twice, and after the end.
   */
  finish(reason: "cancelled" | "stop-string"): Promise<readonly AttemptRecord[]>;
  /** After `end` or `failed`: what each node did, in order. */
  attempts(): readonly AttemptRecord[];
}

export interface EmbeddingRequest {
  readonly terms: RequestTerms;
  readonly inputs: readonly (readonly number[])[];
}

/** The part of `AbortSignal` that a pure room may name; every `AbortSignal` is one. */
export interface Cancellation {
  readonly aborted: boolean;
  addEventListener(type: "abort", listener: () => void): void;
  removeEventListener(type: "abort", listener: () => void): void;
}

/** What the gateway needs of dispatch. */
export interface Dispatch {
  generate(request: GenerationRequest, onEvent: (event: GenerationEvent) => void): Generation;
  embed(request: EmbeddingRequest, signal: Cancellation): Promise<EmbeddingOutcome>;
  /** What would become of such a request if it came at this moment. Changes nothing; costs about as much as one admission. */
  outlook?(question: OutlookQuestion): GridOutlook;
}

export interface OutlookQuestion {
  readonly terms: RequestTerms;
  readonly promptTokens: number;
  /** Of one choice. */
  readonly tokensMax: number;
}

export interface GridOutlook {
  /** Why it would be refused; null when it would be taken. */
  readonly refusal: Refusal | null;
  /** Until it would start: behind those that wait before it, and behind the cold start of a replica when none is ready. */
  readonly waitMs: number;
  /** Until its first token, as far as was measured: the wait and the prompt. */
  readonly firstTokenMs: number;
  readonly readyReplicas: number;
  /** Requests of this model that are served before it. */
  readonly queuePosition?: number;
  /** Of the allowed tokens, how many answers of this model usually use: 0 to 1. */
  readonly outputShare?: number;
  /** Regions of the nodes that have a ready replica, sorted; one that does not name its region is not in it. */
  readonly regions: readonly string[];
}

export type EmbeddingOutcome =
  | {
      readonly ok: true;
      readonly vectors: readonly Float32Array[];
      readonly attempts: readonly AttemptRecord[];
      readonly nodeId: NodeId;
    }
  | { readonly ok: false; readonly reason: Refusal; readonly attempts: readonly AttemptRecord[] };
