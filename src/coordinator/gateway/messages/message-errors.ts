/** Errors in Anthropic's shape: from refusals, and from answers that were refused before a route of theirs was reached. */
import type { MiddlewareHandler } from "hono";
import type { Refusal } from "../../../domain/refusal.ts";
import type { AnthropicError } from "../../../wire/anthropic/message.ts";
import { errorBodySchema } from "../../../wire/openai/error.ts";
import { ERROR_TABLE } from "../error-table.ts";

type ErrorType = AnthropicError["error"]["type"];

const TYPES: Readonly<Record<number, ErrorType>> = {
  401: "authentication_error",
  402: "billing_error",
  403: "permission_error",
  404: "not_found_error",
  413: "request_too_large",
  429: "rate_limit_error",
  500: "api_error",
  502: "api_error",
  503: "overloaded_error",
  504: "timeout_error",
};

export function anthropicError(reason: Refusal, requestId: string): AnthropicError {
  return errorOf({ status: ERROR_TABLE[reason.code].status, message: reason.message, requestId });
}

function errorOf(error: { status: number; message: string; requestId: string }): AnthropicError {
  const { status, message, requestId } = error;
  const type = TYPES[status] ?? (status >= 500 ? "api_error" : "invalid_request_error");
  return { type: "error", error: { type, message }, request_id: requestId };
}

/** Around routes of Anthropic's API: whatever refuses on the way, the caller is told in the shape that its client reads. */
export function anthropicErrors(requestIdOf: (request: Request) => string): MiddlewareHandler {
  return async (context, next) => {
    await next();
    const requestId = requestIdOf(context.req.raw);
    const { status, headers } = context.res;
    if (status >= 400) {
      const told = errorBodySchema.safeParse(await context.res.clone().json());
      const message = told.success ? told.data.error.message : `the request failed with status ${status}`;
      const kept = new Headers(headers);
      kept.delete("content-length");
      context.res = new Response(JSON.stringify(errorOf({ status, message, requestId })), { status, headers: kept });
    }
    // What Anthropic's clients read for it.
    context.res.headers.set("request-id", requestId);
  };
}
