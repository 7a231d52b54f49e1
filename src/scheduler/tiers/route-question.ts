/**
 * What the decision where a request runs is made from, and what comes of it. The decision itself is choose-route.ts. Everything here is
 * a fact or a wish of one moment: nothing is reserved by asking.
 */
import type { GridOutlook } from "../../domain/generation.ts";
import type { ModelId } from "../../domain/ids.ts";
import type { MicroUsd, TokenPrice } from "../../domain/money.ts";
import type { RoutePreferences } from "../../domain/preferences.ts";
import type { ProviderModel, ProviderSpec } from "../../domain/provider.ts";
import type { Refusal } from "../../domain/refusal.ts";
import type { ServiceTier } from "../../domain/tier.ts";

export interface RouteQuestion {
  readonly modelId: ModelId;
  readonly tier: ServiceTier;
  readonly preferences: RoutePreferences;
  readonly request: RequestNeeds;
  /** Null: the grid does not have this model. */
  readonly grid: GridFacts | null;
  /** Providers that offer the model. */
  readonly clouds: readonly CloudFacts[];
  /** Wall clock. */
  readonly nowMs: number;
}

/** What the request asks of whoever runs it. */
export interface RequestNeeds {
  /** Counted, or at most so many where nobody can count. */
  readonly promptTokens: number;
  /** What the prompt takes of a context; less than `promptTokens` where that is only a bound. */
  readonly promptTokensLikely: number;
  /** Of one choice. */
  readonly outputTokensMax: number;
  /** The caller asked for so many; else it is what a context leaves, and whoever has less may stop there. */
  readonly isOutputAsked: boolean;
  readonly choices: number;
  /** `completion`: a raw prompt is continued, so a provider has to take one. */
  readonly kind: "chat" | "completion";
  readonly hasTools: boolean;
  /** The answer is held to JSON, or to a schema of it. */
  readonly hasJson: boolean;
  readonly hasLogprobs: boolean;
  /** The prompt came as token ids, which mean something to the grid's own vocabulary only. */
  readonly hasTokenIds: boolean;
}

export interface GridFacts {
  /** Of the tier that was asked for. */
  readonly price: TokenPrice;
  /** Lower case. */
  readonly quantisation: string;
  readonly contextTokensMax: number;
  /** For this request, its constraints included. */
  readonly outlook: GridOutlook;
  /** Null: not measured. */
  readonly tokPerSecond: number | null;
}

/** A `CloudOffer` of ports/cloud.ts is one. */
export interface CloudFacts {
  readonly spec: ProviderSpec;
  readonly model: ProviderModel;
  readonly health: {
    readonly breaker: "closed" | "open" | "half-open";
    readonly opensAgainAtMs: number | null;
    readonly lastFailure: string | null;
    readonly hasCredential: boolean;
    readonly freeSlots: number;
    readonly retryAfterMs: number;
    readonly firstTokenMsP50: number | null;
    readonly tokPerSecondP50: number | null;
  };
}

interface CandidateTerms {
  readonly price: TokenPrice;
  /** Until its first token, as far as is known; null: nobody has seen one. */
  readonly etaMs: number | null;
  readonly tokPerSecond: number | null;
  /** What the whole request costs there at most. */
  readonly mostMicroUsd: MicroUsd;
}

export type RouteCandidate =
  | (CandidateTerms & { readonly kind: "grid" })
  | (CandidateTerms & { readonly kind: "cloud"; readonly providerId: string; readonly model: ProviderModel });

/** The field of the request that keeps a resource out, or what it lacks. */
export type RouteRule =
  | "provider.only"
  | "provider.ignore"
  | "provider.allow_fallbacks"
  | "provider.max_price"
  | "provider.quantizations"
  | "provider.data_collection"
  | "provider.zdr"
  | "grid.hybrid"
  | "grid.regions"
  | "grid.exclude_regions"
  | "grid.max_cost_usd"
  | "grid.confidentiality"
  | "grid.verification"
  | "context"
  | "ability"
  | "not-ready"
  | "capacity";

export interface RouteLoser {
  /** A provider's id, or `grid`. */
  readonly who: string;
  readonly rule: RouteRule;
  /** With the values on both sides. */
  readonly detail: string;
  /** When it may be different; null: not by waiting. */
  readonly retryAfterMs: number | null;
}

export type RouteDecision =
  | {
      readonly ok: true;
      /** In the order in which they are tried; at least one. */
      readonly candidates: readonly RouteCandidate[];
      readonly losers: readonly RouteLoser[];
      /** What has to be held so that any way over the candidates is covered. */
      readonly holdMicroUsd: MicroUsd;
    }
  | { readonly ok: false; readonly reason: Refusal; readonly losers: readonly RouteLoser[] };
