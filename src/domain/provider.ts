/**
 * A cloud provider: an OpenAI-compatible service elsewhere that sells tokens. The operator names it, its models and its prices; the
 * key is a reference to an environment variable or a file of secrets and never the secret itself.
 */
import type { ModelId } from "./ids.ts";
import type { TokenPrice } from "./money.ts";

/** Lower case, so that `provider.only` in a request and a file on disk mean the same; `grid` is taken. */
export const PROVIDER_ID_PATTERN = /^[a-z0-9][a-z0-9-]{0,63}$/;

export interface ProviderSpec {
  readonly providerId: string;
  readonly name: string;
  /** Up to and including the version, e.g. `https://host/v1`; no query, no credentials. */
  readonly baseUrl: string;
  readonly credential: CredentialRef | null;
  /** Where it computes, e.g. `eu`; empty: unknown, and then no region rule lets it in. */
  readonly regions: readonly string[];
  readonly dataPolicy: DataPolicy;
  /** Null: unlimited. */
  readonly requestsPerMinuteMax: number | null;
  readonly tokensPerMinuteMax: number | null;
  readonly concurrencyMax: number;
  readonly models: readonly ProviderModel[];
  readonly isEnabled: boolean;
  readonly addedAtMs: number;
}

export type CredentialRef =
  | { readonly kind: "environment"; readonly variable: string }
  /** An entry of the secrets file in the home folder. */
  | { readonly kind: "secret"; readonly name: string };

export interface DataPolicy {
  /** It keeps or trains on what it is sent: excluded by `data_collection: "deny"`. */
  readonly collectsData: boolean;
  /** It says that it keeps nothing at all. */
  readonly isZeroRetention: boolean;
}

export interface ProviderModel {
  /** What our tenants ask for; may be a model that the grid serves too. */
  readonly modelId: ModelId;
  /** What the provider calls it. */
  readonly upstreamModel: string;
  /** What the provider charges us. */
  readonly cost: TokenPrice;
  /** What a tenant pays; at least 0, usually `cost` and a margin. */
  readonly price: TokenPrice;
  readonly contextTokensMax: number;
  readonly outputTokensMax: number | null;
  /** Lower case, e.g. `fp8`; null: not told. */
  readonly quantisation: string | null;
  /** Null: not probed yet. */
  readonly abilities: ProviderAbilities | null;
}

/** Found by probing, not by belief. */
export interface ProviderAbilities {
  readonly streams: boolean;
  readonly reportsUsage: boolean;
  readonly tools: boolean;
  readonly jsonSchema: boolean;
  readonly logprobs: boolean;
  readonly seed: boolean;
  /** `/completions` takes a raw prompt: an answer that another resource began can be gone on with exactly. */
  readonly rawPrompt: boolean;
  /** A last assistant message is gone on with (vLLM's `continue_final_message`, or by itself). */
  readonly continuesAssistant: boolean;
  /** It does so only when told by vLLM's `continue_final_message`; absent: by itself. */
  readonly wantsContinueFlag?: boolean;
  /** Under which name it takes the bound of an answer's tokens; absent: `max_tokens`. */
  readonly tokensField?: "max_tokens" | "max_completion_tokens";
  readonly probedAtMs: number;
}
