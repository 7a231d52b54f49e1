/**
 * Cloud providers as the coordinator sees them. The adapter owns HTTP, secrets, rates, health and circuit breakers; it turns whatever
 * a provider sends into these events or one `failed`, and nothing it sends can do more. Who may run where is decided elsewhere.
 */
import type { ModelId } from "../domain/ids.ts";
import type { ProviderModel, ProviderSpec } from "../domain/provider.ts";

export interface Cloud {
  /** Every provider that is known, enabled or not, sorted by id. Cheap: no I/O. */
  list(): readonly CloudProviderView[];
  /** Those that offer the model, enabled ones first. */
  offers(modelId: ModelId): readonly CloudOffer[];
  /** Starts a run; `onEvent` gets `opened` at most once, deltas, then exactly one `end` or `failed`. Never throws for what a provider does. */
  run(request: CloudRequest, onEvent: (event: CloudEvent) => void): CloudRun;
}

export interface CloudProviderView {
  readonly spec: ProviderSpec;
  readonly health: CloudHealth;
}

export interface CloudOffer extends CloudProviderView {
  readonly model: ProviderModel;
}

/**
 * | breaker   | success      | failure that is the provider's     | its time is over |
 * | --------- | ------------ | ---------------------------------- | ---------------- |
 * | closed    | closed       | open, after so many in a row        | -                |
 * | open      | -            | -                                  | half-open        |
 * | half-open | closed       | open, for longer                    | -                |
 */
export interface CloudHealth {
  readonly breaker: "closed" | "open" | "half-open";
  /** Wall clock; null unless open. */
  readonly opensAgainAtMs: number | null;
  /** Why it is open, in words; null when it is not. */
  readonly lastFailure: string | null;
  readonly hasCredential: boolean;
  /** Requests that could start now under its own limits and ours. */
  readonly freeSlots: number;
  /** When the next could start; 0 when `freeSlots` is above 0. */
  readonly retryAfterMs: number;
  /** Of the last runs; null: none yet. */
  readonly firstTokenMsP50: number | null;
  readonly tokPerSecondP50: number | null;
}

export interface CloudRequest {
  readonly providerId: string;
  readonly modelId: ModelId;
  readonly form: CloudForm;
  /** Most tokens that it may generate: more than this and a margin is a breach. */
  readonly tokensMax: number;
  readonly firstTokenMsMax: number;
  readonly totalMsMax: number;
  /** Nobody reads along: it may come in one body. Absent: as a stream where the provider can. */
  readonly isWhole?: boolean;
}

/** `body` is a JSON object in OpenAI's shape without `model`, `stream`, `stream_options` and `user`: the adapter sets those. */
export type CloudForm =
  | { readonly kind: "chat"; readonly body: Readonly<Record<string, unknown>> }
  /** A prompt that is already text, template applied. */
  | { readonly kind: "raw"; readonly prompt: string; readonly body: Readonly<Record<string, unknown>> };

export type CloudEvent =
  /** The provider answered with a stream or a body of the right kind. */
  | { readonly kind: "opened" }
  | { readonly kind: "text"; readonly choice: number; readonly text: string }
  | { readonly kind: "reasoning"; readonly choice: number; readonly text: string }
  | {
      readonly kind: "tool-call";
      readonly choice: number;
      readonly index: number;
      readonly id: string;
      readonly name: string;
    }
  | { readonly kind: "tool-arguments"; readonly choice: number; readonly index: number; readonly text: string }
  | { readonly kind: "choice-end"; readonly choice: number; readonly reason: CloudFinish }
  /** After every choice has ended. */
  | { readonly kind: "end"; readonly usage: CloudUsage | null }
  | {
      readonly kind: "failed";
      readonly failure: CloudFailure;
      readonly message: string;
      readonly retryAfterMs: number | null;
    };

export type CloudFinish = "stop" | "length" | "tool_calls" | "content_filter";

/** As the provider counts; believed only within bounds of our own count. */
export interface CloudUsage {
  readonly promptTokens: number;
  readonly cachedTokens: number;
  readonly completionTokens: number;
}

export const CLOUD_FAILURES = [
  /** No connection, name not found, reset before an answer. */
  "unreachable",
  /** Certificate not trusted or of another name. */
  "bad-certificate",
  /** 3xx: never followed, since it would carry prompt and key elsewhere. */
  "redirected",
  /** 401, 403, or no credential on this machine. */
  "unauthorised",
  /** 404: it does not have the model. */
  "unknown-model",
  /** Another 4xx: what we sent is not to its liking; another provider may take it. */
  "rejected",
  "rate-limited",
  /** 5xx, or an error in the stream. */
  "overloaded",
  /** Not OpenAI's API: HTML, broken JSON, a 200 with an error in it, an event out of place. */
  "malformed",
  /** The stream ended without its end. */
  "cut",
  /** More bytes or tokens than asked for. */
  "endless",
  "too-slow",
  "cancelled",
] as const;
export type CloudFailure = (typeof CLOUD_FAILURES)[number];

export interface CloudRun {
  /** Ends it; no event follows. May be called twice. */
  cancel(): void;
}
