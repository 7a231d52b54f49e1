/** A refusal is an expected answer, not an exception: a value with a stable `code` and a sentence for the caller. */
export interface Refusal {
  readonly code: RefusalCode;
  /** Says what was wrong, with the values, and what would be right. */
  readonly message: string;
  /** The request parameter at fault, or null when none is. */
  readonly param: string | null;
  /** When trying again may help; null when it will not. */
  readonly retryAfterMs: number | null;
}

export const REFUSAL_CODES = [
  "invalid-request",
  "unsupported-parameter",
  "context-length-exceeded",
  "body-too-large",
  "unsupported-media-type",
  "missing-key",
  "invalid-key",
  "insufficient-scope",
  "insufficient-funds",
  "budget-exceeded",
  "model-not-found",
  "not-found",
  "method-not-allowed",
  "rate-limited",
  "queue-full",
  "no-capacity",
  "no-capable-node",
  "idempotency-conflict",
  "idempotency-in-progress",
  "deadline-exceeded",
  "upstream-lost",
  "cancelled",
  "draining",
  "storage-unavailable",
  "internal",
  /** A flex request that cannot start within the time that it waits. */
  "resource-unavailable",
] as const;
export type RefusalCode = (typeof REFUSAL_CODES)[number];

export type Outcome<T, R = Refusal> =
  | { readonly ok: true; readonly value: T }
  | { readonly ok: false; readonly reason: R };

export function ok<T>(value: T): { readonly ok: true; readonly value: T } {
  return { ok: true, value };
}

export function no<R>(reason: R): { readonly ok: false; readonly reason: R } {
  return { ok: false, reason };
}

export function refuse(
  code: RefusalCode,
  message: string,
  more: { param?: string | null; retryAfterMs?: number | null } = {},
): { readonly ok: false; readonly reason: Refusal } {
  return { ok: false, reason: { code, message, param: more.param ?? null, retryAfterMs: more.retryAfterMs ?? null } };
}
