/** Names what went wrong on the way to a provider or in its answer's head, in the port's words. */
import type { CloudFailure } from "../../ports/cloud.ts";
import { AddressForbidden } from "./provider-address.ts";
import { providerWords } from "./redact.ts";
import { UpstreamFault } from "./upstream-fault.ts";
import { errorSchema } from "./upstream-schema.ts";

/** OpenSSL's names as Node gives them. */
const CERTIFICATE_CODES: ReadonlySet<string> = new Set([
  "CERT_HAS_EXPIRED",
  "CERT_NOT_YET_VALID",
  "CERT_REJECTED",
  "CERT_REVOKED",
  "CERT_SIGNATURE_FAILURE",
  "CERT_UNTRUSTED",
  "CERT_CHAIN_TOO_LONG",
  "DEPTH_ZERO_SELF_SIGNED_CERT",
  "ERR_TLS_CERT_ALTNAME_FORMAT",
  "ERR_TLS_CERT_ALTNAME_INVALID",
  "HOSTNAME_MISMATCH",
  "INVALID_CA",
  "INVALID_PURPOSE",
  "SELF_SIGNED_CERT_IN_CHAIN",
  "UNABLE_TO_GET_ISSUER_CERT",
  "UNABLE_TO_GET_ISSUER_CERT_LOCALLY",
  "UNABLE_TO_VERIFY_LEAF_SIGNATURE",
]);

/** `hasHead`: the head of an answer had come. */
export function faultOf(thrown: unknown, hasHead: boolean): UpstreamFault {
  if (thrown instanceof UpstreamFault) return thrown;
  const code = codeOf(thrown);
  if (CERTIFICATE_CODES.has(code)) {
    return new UpstreamFault("bad-certificate", `its certificate is not to be trusted (${code})`, { cause: thrown });
  }
  if (thrown instanceof AddressForbidden) return new UpstreamFault("unreachable", thrown.message, { cause: thrown });
  if (code === "UND_ERR_HEADERS_OVERFLOW") {
    return new UpstreamFault("malformed", "it sent more headers than any answer has", { cause: thrown });
  }
  if (code.startsWith("HPE_") || code === "HTTPParserError") {
    return new UpstreamFault("malformed", `what it sent is no HTTP (${code})`, { cause: thrown });
  }
  if (thrown instanceof TypeError && code === "ERR_ENCODING_INVALID_ENCODED_DATA") {
    return new UpstreamFault("malformed", "what it sent is no UTF-8 text", { cause: thrown });
  }
  if (hasHead) return new UpstreamFault("cut", `the connection ended in mid-answer (${code})`, { cause: thrown });
  const why = code === "UND_ERR_SOCKET" ? "it closed the connection before it answered" : `no answer (${code})`;
  return new UpstreamFault("unreachable", why, { cause: thrown });
}

function codeOf(thrown: unknown): string {
  if (!(thrown instanceof Error)) return "unknown";
  if ("code" in thrown && typeof thrown.code === "string") return thrown.code;
  if (thrown instanceof AggregateError && thrown.errors.length > 0) return codeOf(thrown.errors[0]);
  return thrown.cause instanceof Error ? codeOf(thrown.cause) : thrown.name;
}

/** For any status but 200. `body`: the beginning of what came with it. */
export function faultOfStatus(
  answer: { readonly status: number; readonly body: string; readonly location: string | null },
  more: { readonly retryAfterMs: number | null; readonly secret: string | null },
): UpstreamFault {
  const { status, body, location } = answer;
  const failure = failureOfStatus(status);
  if (failure === "redirected") {
    const where = location !== null && URL.canParse(location) ? ` to ${new URL(location).host}` : "";
    return new UpstreamFault("redirected", `it answered ${status}, a redirect${where}, which is never followed`);
  }
  const said = errorWords(body, more.secret);
  const waits = failure === "rate-limited" || failure === "overloaded" ? more.retryAfterMs : null;
  return new UpstreamFault(failure, `it answered ${status}${said === null ? "" : `: ${said}`}`, {
    retryAfterMs: waits,
  });
}

function failureOfStatus(status: number): CloudFailure {
  if (status >= 500 || status === 408) return "overloaded";
  if (status >= 300 && status < 400) return "redirected";
  // 402: its bill is not paid. No request of ours mends that.
  if (status === 401 || status === 402 || status === 403) return "unauthorised";
  if (status === 404) return "unknown-model";
  if (status === 429) return "rate-limited";
  return status >= 400 ? "rejected" : "malformed";
}

/** The provider's message, if the body has one in a known form. */
export function errorWords(body: string, secret: string | null): string | null {
  let value: unknown;
  try {
    value = JSON.parse(body);
  } catch {
    return null; // a page has nothing to quote
  }
  return wordsOf(value, secret);
}

/** `value`: OpenAI's error object, a body that holds one, or one of the forms that others have. */
export function wordsOf(value: unknown, secret: string | null): string | null {
  if (typeof value !== "object" || value === null) {
    return typeof value === "string" && value !== "" ? providerWords(value, secret) : null;
  }
  for (const name of ["error", "detail"] as const) {
    const inner: unknown = name === "error" && "error" in value ? value.error : "detail" in value ? value.detail : null;
    if (inner !== null && inner !== undefined) return wordsOf(inner, secret);
  }
  const parsed = errorSchema.safeParse(value);
  if (!parsed.success || typeof parsed.data === "string") return null;
  const { message, code, type } = parsed.data;
  const words = message ?? type ?? (code === null || code === undefined ? null : String(code));
  return words === null || words === "" ? null : providerWords(words, secret);
}
