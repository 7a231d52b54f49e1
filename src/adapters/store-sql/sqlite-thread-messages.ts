/** What goes between a store and its writing thread. */

/** Every method of the Store port that writes. */
export const WRITE_NAMES = [
  "meta.set",
  "meta.increment",
  "tenants.create",
  "tenants.setLimits",
  "keys.create",
  "keys.revoke",
  "keys.update",
  "joinTokens.create",
  "joinTokens.use",
  "nodes.put",
  "models.put",
  "models.remove",
  "ledger.apply",
  "receipts.settle",
  "idempotency.begin",
  "idempotency.finish",
  "idempotency.forget",
  "idempotency.sweep",
  "leases.offer",
  "leases.grant",
  "leases.renew",
  "leases.end",
  "leases.expire",
  "providers.put",
  "providers.remove",
  "responses.put",
  "responses.remove",
  "responses.sweep",
  "files.create",
  "files.remove",
  "batches.create",
  "batches.update",
  "batches.begin",
  "batches.claim",
  "batches.renew",
  "batches.release",
  "batches.commit",
  "batches.clear",
] as const;
export type WriteName = (typeof WRITE_NAMES)[number];

export interface ThreadCall {
  readonly id: number;
  readonly name: WriteName | "open" | "close";
  readonly values: readonly unknown[];
}

export interface ThreadAnswer {
  readonly id: number;
  readonly value: unknown;
  readonly fault: {
    /** Null when it was no FallowError: a bug. */
    readonly code: string | null;
    readonly message: string;
    readonly data: Readonly<Record<string, unknown>>;
    /** Causes on one line. */
    readonly cause: string | null;
  } | null;
}
