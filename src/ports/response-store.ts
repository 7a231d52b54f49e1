/** Where answers of `/v1/responses` are kept: a part of the Store (store.ts). */
import type { ResponseId, TenantId } from "../domain/ids.ts";

/** An answer of `/v1/responses`, kept for whoever asks for it again or goes on from it. */
export interface StoredResponse {
  readonly responseId: ResponseId;
  readonly tenantId: TenantId;
  /** The answer that this one went on from. */
  readonly previousId: ResponseId | null;
  readonly createdAtMs: number;
  readonly expiresAtMs: number;
  /** What was asked, as a list of items. */
  readonly inputJson: string;
  /** The whole answer. */
  readonly bodyJson: string;
}

export interface ResponseQuota {
  readonly responsesMax: number;
  /** Characters of inputs and bodies. */
  readonly charsMax: number;
}

export type ResponseRef = Pick<StoredResponse, "responseId" | "tenantId">;

/** A tenant sees its own; what has expired at `nowMs` is seen by nobody. */
export interface ResponseStore {
  /** Drops the tenant's oldest until the quota holds, never this one. The same id again changes nothing. Resolves with how many were dropped. */
  put(response: StoredResponse, quota: ResponseQuota): Promise<number>;
  get(ref: ResponseRef, nowMs: number): Promise<StoredResponse | null>;
  /**
   * The response and those before it, newest first. It ends at one that goes on from none, at one whose previous is not there, and
   * behind `responsesMax` or the first with which there are more than `charsMax`.
   */
  chain(ref: ResponseRef, options: ResponseQuota & { readonly nowMs: number }): Promise<readonly StoredResponse[]>;
  /** False when there is none. */
  remove(ref: ResponseRef): Promise<boolean>;
  /** Removes at most `limit` that have expired, the earliest first, and resolves with how many. */
  sweep(options: { readonly nowMs: number; readonly limit: number }): Promise<number>;
}
