/** What a caller is told when a provider failed and nobody goes on, and which of the grid's refusals another resource may mend. */
import { absurd } from "../../../domain/assert.ts";
import type { Refusal, RefusalCode } from "../../../domain/refusal.ts";
import type { CloudEvent } from "../../../ports/cloud.ts";

/** The request itself is at fault, its time is over, nobody wants it, or this coordinator ends: no other resource changes that. */
const FINAL: ReadonlySet<RefusalCode> = new Set([
  "invalid-request",
  "unsupported-parameter",
  "context-length-exceeded",
  "deadline-exceeded",
  "cancelled",
  "draining",
]);

export function mayMove(reason: Refusal): boolean {
  return !FINAL.has(reason.code);
}

export function cloudRefusal(
  providerId: string,
  event: Extract<CloudEvent, { kind: "failed" }>,
  hasBegun: boolean,
): Refusal {
  const { failure, retryAfterMs } = event;
  const message = `cloud provider ${providerId}: ${event.message}`;
  const of = (code: RefusalCode): Refusal => ({ code, message, param: null, retryAfterMs });
  if (hasBegun) return of("upstream-lost");
  switch (failure) {
    case "rejected":
      return of("invalid-request");
    case "rate-limited":
    case "overloaded":
      return of("no-capacity");
    case "too-slow":
    case "unreachable":
    case "bad-certificate":
    case "redirected":
    case "unauthorised":
    case "unknown-model":
    case "malformed":
    case "cut":
    case "endless":
    case "cancelled":
      return of("upstream-lost");
    default:
      return absurd(failure);
  }
}
