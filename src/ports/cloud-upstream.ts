/**
 * One call to one cloud provider. The adapter owns HTTP, addresses and secrets, and turns whatever comes back into events; who is asked,
 * how often and whether he is well is decided by the coordinator's cloud desk, which is the `Cloud` that everybody else sees.
 */
import type { CredentialRef, ProviderModel, ProviderSpec } from "../domain/provider.ts";
import type { Outcome } from "../domain/refusal.ts";
import type { CloudEvent, CloudFailure, CloudForm, CloudRun } from "./cloud.ts";

export interface CloudUpstream {
  /** Why nothing may be sent to this base URL, as a sentence; null when it may. */
  addressProblem(baseUrl: string): string | null;
  /** True when the secret is there, or none is needed. No I/O: a change shows after the next call or two seconds. */
  hasCredential(credential: CredentialRef | null): boolean;
  /** `onEvent` is never called before this returned. Never throws for what a provider does. */
  call(call: UpstreamCall, onEvent: (event: UpstreamEvent) => void): CloudRun;
  /** The names that the provider's own list of models has. */
  models(
    provider: ProviderSpec,
    limit: { readonly totalMsMax: number },
  ): Promise<Outcome<readonly string[], UpstreamFailure>>;
  close(): Promise<void>;
}

export interface UpstreamCall {
  readonly provider: Pick<ProviderSpec, "providerId" | "baseUrl" | "credential">;
  /** Its abilities say how to ask: with a stream or without, for usage, under which name the bound of tokens goes. */
  readonly model: ProviderModel;
  readonly form: CloudForm;
  readonly tokensMax: number;
  readonly firstTokenMsMax: number;
  readonly totalMsMax: number;
  /** As of `CloudRequest`. */
  readonly isWhole?: boolean;
}

export interface UpstreamFailure {
  readonly failure: CloudFailure;
  readonly message: string;
  readonly retryAfterMs: number | null;
}

export type UpstreamEvent =
  | CloudEvent
  /** What the provider's headers say of its limits; at most once, before `opened` or `failed`. */
  | { readonly kind: "limits"; readonly limits: UpstreamLimits }
  | { readonly kind: "noticed"; readonly what: UpstreamOddity };

/** Null: not told. */
export interface UpstreamLimits {
  readonly requestsLeft: number | null;
  readonly requestsResetMs: number | null;
  readonly tokensLeft: number | null;
  readonly tokensResetMs: number | null;
}

export const UPSTREAM_ODDITIES = [
  /** Log probabilities came; probing wants to know. */
  "logprobs",
  /** A stream was asked for, a whole body came. */
  "no-stream",
  /** Usage that cannot be: negative, fractional, more than fits. It is dropped. */
  "usage-nonsense",
  /** Every choice ended, and the stream closed without `[DONE]`. */
  "no-done",
] as const;
export type UpstreamOddity = (typeof UPSTREAM_ODDITIES)[number];
