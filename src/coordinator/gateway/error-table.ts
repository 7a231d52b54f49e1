/** The only place that knows HTTP: which refusal is which status, which of OpenAI's error types, and which error code. */
import { absurd } from "../../domain/assert.ts";
import type { Refusal, RefusalCode } from "../../domain/refusal.ts";
import type { ErrorBody } from "../../wire/openai/error.ts";

interface ErrorRow {
  readonly status: number;
  readonly type: string;
  readonly code: string;
  /** What clients are told about trying again; null: their own rule by status. */
  readonly shouldRetry: boolean | null;
}

const row = (status: number, type: string, code: string, shouldRetry: boolean | null = null): ErrorRow => ({
  status,
  type,
  code,
  shouldRetry,
});

export const ERROR_TABLE: Readonly<Record<RefusalCode, ErrorRow>> = {
  "invalid-request": row(400, "invalid_request_error", "invalid_request"),
  "unsupported-parameter": row(400, "invalid_request_error", "unsupported_parameter"),
  "context-length-exceeded": row(400, "invalid_request_error", "context_length_exceeded"),
  "body-too-large": row(413, "invalid_request_error", "request_too_large"),
  "unsupported-media-type": row(415, "invalid_request_error", "unsupported_media_type"),
  "missing-key": row(401, "invalid_request_error", "missing_api_key"),
  "invalid-key": row(401, "invalid_request_error", "invalid_api_key"),
  "insufficient-scope": row(403, "permission_error", "insufficient_permissions"),
  "insufficient-funds": row(429, "insufficient_quota", "insufficient_quota", false),
  "budget-exceeded": row(429, "insufficient_quota", "budget_exceeded", false),
  "model-not-found": row(404, "invalid_request_error", "model_not_found"),
  "not-found": row(404, "invalid_request_error", "not_found"),
  "method-not-allowed": row(405, "invalid_request_error", "method_not_allowed"),
  "rate-limited": row(429, "rate_limit_error", "rate_limit_exceeded", true),
  "queue-full": row(503, "server_error", "queue_full", true),
  "no-capacity": row(503, "server_error", "no_capacity", true),
  "no-capable-node": row(503, "server_error", "no_capable_node", false),
  "idempotency-conflict": row(400, "invalid_request_error", "idempotency_key_reused"),
  "idempotency-in-progress": row(409, "invalid_request_error", "idempotency_key_in_progress", true),
  "deadline-exceeded": row(504, "server_error", "deadline_exceeded"),
  "upstream-lost": row(502, "server_error", "upstream_lost", true),
  /** As proxies log a client that closed its request; nobody is there to read it. */
  cancelled: row(499, "invalid_request_error", "request_cancelled", false),
  draining: row(503, "server_error", "draining", true),
  "storage-unavailable": row(503, "server_error", "storage_unavailable", true),
  /** OpenAI's answer for flex; nothing is charged. */
  "resource-unavailable": row(429, "resource_unavailable", "resource_unavailable", true),
  internal: row(500, "server_error", "internal_error"),
};

export function errorBody(reason: Refusal): ErrorBody {
  const { type, code } = ERROR_TABLE[reason.code];
  return { error: { message: reason.message, type, param: reason.param, code } };
}

export function errorResponse(reason: Refusal): Response {
  const { status, shouldRetry } = ERROR_TABLE[reason.code];
  const headers = new Headers({ "content-type": "application/json" });
  if (reason.retryAfterMs !== null) {
    headers.set("retry-after", String(Math.max(1, Math.ceil(reason.retryAfterMs / 1000))));
    headers.set("retry-after-ms", String(Math.ceil(reason.retryAfterMs)));
  }
  const retry = retryHeader(shouldRetry, reason);
  if (retry !== null) headers.set("x-should-retry", retry);
  if (reason.code === "missing-key" || reason.code === "invalid-key") headers.set("www-authenticate", "Bearer");
  return new Response(JSON.stringify(errorBody(reason)), { status, headers });
}

/** The official clients wait at most a minute by themselves; what comes back later is the caller's own to plan. */
const RETRY_WORTH_MS = 60_000;

function retryHeader(shouldRetry: boolean | null, reason: Refusal): "true" | "false" | null {
  switch (shouldRetry) {
    case null:
      return null;
    case true:
      return "true";
    case false:
      return reason.retryAfterMs === null || reason.retryAfterMs > RETRY_WORTH_MS ? "false" : "true";
    default:
      return absurd(shouldRetry);
  }
}
