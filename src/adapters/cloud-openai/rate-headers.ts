/** What a provider's headers say of its limits: `retry-after` (RFC 9110), `retry-after-ms`, OpenAI's and Anthropic's `x-ratelimit-*`. */
import type { UpstreamLimits } from "../../ports/cloud-upstream.ts";

export type HeaderMap = Readonly<Record<string, string | readonly string[] | undefined>>;

/** A provider that wants to be left alone for longer is asked again after this all the same. */
export const WAIT_MS_MAX = 3_600_000;

export function retryAfterMs(headers: HeaderMap, wallMs: number): number | null {
  const precise = numberOf(textOf(headers, "retry-after-ms"));
  if (precise !== null) return bounded(precise);
  const text = textOf(headers, "retry-after");
  if (text === null) return null;
  const seconds = numberOf(text);
  if (seconds !== null) return bounded(seconds * 1_000);
  const at = Date.parse(text);
  return Number.isNaN(at) ? null : bounded(at - wallMs);
}

/** Null when no header tells anything. */
export function limitsOf(headers: HeaderMap): UpstreamLimits | null {
  const limits = {
    requestsLeft: numberOf(textOf(headers, "x-ratelimit-remaining-requests")),
    requestsResetMs: durationMs(textOf(headers, "x-ratelimit-reset-requests")),
    tokensLeft: numberOf(textOf(headers, "x-ratelimit-remaining-tokens")),
    tokensResetMs: durationMs(textOf(headers, "x-ratelimit-reset-tokens")),
  };
  return Object.values(limits).every((value) => value === null) ? null : limits;
}

/** `12ms`, `1.5s`, `6m0s`, `1h2m3s`; a bare number is seconds. Null for anything else. */
export function durationMs(text: string | null): number | null {
  if (text === null) return null;
  const seconds = numberOf(text);
  if (seconds !== null) return bounded(seconds * 1_000);
  if (!/^(?:\d+(?:\.\d+)?(?:ms|h|m|s))+$/.test(text)) return null;
  const unitMs: Readonly<Record<string, number>> = { h: 3_600_000, m: 60_000, s: 1_000, ms: 1 };
  let sumMs = 0;
  for (const [, amount, unit = ""] of text.matchAll(/(\d+(?:\.\d+)?)(ms|h|m|s)/g)) {
    sumMs += Number(amount) * (unitMs[unit] ?? 0);
  }
  return bounded(sumMs);
}

function textOf(headers: HeaderMap, name: string): string | null {
  const value = headers[name];
  const first = typeof value === "object" ? value[0] : value;
  return first === undefined || first.length > 128 ? null : first.trim();
}

function numberOf(text: string | null): number | null {
  return text !== null && /^\d{1,15}(?:\.\d{1,9})?$/.test(text) ? Number(text) : null;
}

function bounded(ms: number): number {
  return Math.min(Math.max(0, Math.ceil(ms)), WAIT_MS_MAX);
}
