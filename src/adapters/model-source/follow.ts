/** Follows redirects as far as a source allows, and turns answers that are none into faults with the server's own words. */
import type { IncomingMessage } from "node:http";
import { FallowError } from "../../domain/fault.ts";
import { PassingFault } from "./passing-fault.ts";
import { type Ask, describeUrl, type SafeHttp } from "./safe-http.ts";

/** What a request may take along to where it was sent. */
export interface Hop {
  readonly isTrustedHost: boolean;
  readonly isTokenSent: boolean;
}

export interface Route {
  readonly token: string | null;
  /** The first address; it gets the token. */
  readonly start: Hop;
  /** Throws `model-source-unsafe` for a redirect that the source does not allow. */
  redirect(from: URL, to: URL): Hop;
  /** What would help, after an answer that says no; ends the message. */
  advice(refused: { status: number; code: string | null }): string;
}

export interface Followed {
  readonly response: IncomingMessage;
  readonly url: URL;
  /** Of every answer on the way, the last one's included. */
  readonly heads: readonly IncomingMessage["headers"][];
}

const REDIRECTS_MAX = 5;
const REDIRECT = new Set([301, 302, 303, 307, 308]);
/** Enough for a message; the rest of an error page is not read. */
const ERROR_BYTES_MAX = 16_384;
const MESSAGE_CHARS_MAX = 300;

/** Resolves with an answer of status 200, 206 or 416. */
export async function follow(http: SafeHttp, ask: Omit<Ask, "isTrustedHost">, route: Route): Promise<Followed> {
  const heads: IncomingMessage["headers"][] = [];
  let { url } = ask;
  let hop = route.start;
  for (let redirects = 0; ; redirects++) {
    const token = hop.isTokenSent ? route.token : null;
    const headers = { ...ask.headers, ...(token === null ? {} : { authorization: `Bearer ${token}` }) };
    const response = await http.get({ ...ask, url, headers, isTrustedHost: hop.isTrustedHost });
    heads.push(response.headers);
    const status = response.statusCode ?? 0;
    if (REDIRECT.has(status)) {
      response.destroy();
      const to = locationOf(response, url);
      if (redirects === REDIRECTS_MAX)
        throw refused(`${describeUrl(ask.url)} leads round: ${REDIRECTS_MAX} redirects`, url);
      const next = route.redirect(url, to);
      // A token that was left behind stays behind: a later host cannot ask for it.
      hop = { ...next, isTokenSent: next.isTokenSent && hop.isTokenSent };
      url = to;
      continue;
    }
    if (status === 200 || status === 206 || status === 416) {
      checkType(response, url);
      return { response, url, heads };
    }
    throw await statusFault(response, url, route);
  }
}

function locationOf(response: IncomingMessage, from: URL): URL {
  const { location = "" } = response.headers;
  if (location !== "" && URL.canParse(location, from.href)) return new URL(location, from);
  throw refused(`${describeUrl(from)} leads on, but not to an address`, from);
}

/** The type of a page: nobody serves weights as one. The first bytes are looked at too, when they come. */
function checkType(response: IncomingMessage, url: URL): void {
  const type = response.headers["content-type"] ?? "";
  const encoding = response.headers["content-encoding"] ?? "identity";
  if (/^\s*(text\/html|application\/xhtml)/i.test(type)) {
    response.destroy();
    throw webPage(url);
  }
  if (encoding !== "identity" && encoding !== "") {
    response.destroy();
    throw refused(`${describeUrl(url)} answers with ${encoding}-coded bytes, which were not asked for`, url);
  }
}

export function webPage(url: URL): FallowError {
  const what = "answers with a web page instead of a file, probably a login or an error page";
  return refused(`${describeUrl(url)} ${what}: open it in a browser to see, and name the file's own address`, url);
}

export function refused(message: string, url: URL, more: Readonly<Record<string, unknown>> = {}): FallowError {
  return new FallowError("model-source-refused", message, { data: { url: describeUrl(url), ...more } });
}

async function statusFault(response: IncomingMessage, url: URL, route: Route): Promise<Error> {
  const status = response.statusCode ?? 0;
  const code = headerOf(response, "x-error-code");
  const said = headerOf(response, "x-error-message") ?? messageOf(await beginningOf(response));
  const words = said === null ? "" : ` (${said})`;
  if (status === 429 || status === 408 || status === 425 || status >= 500) {
    return new PassingFault(`${url.host} answers ${status}${words}`, { retryAfterMs: retryAfterMs(response) });
  }
  const advice = route.advice({ status, code });
  return refused(`${describeUrl(url)} answers ${status}${words}${advice}`, url, { status, hubCode: code });
}

/** Seconds, or a date (RFC 9110); else the `t=` of the hub's `RateLimit` header. */
function retryAfterMs(response: IncomingMessage): number | null {
  const after = response.headers["retry-after"];
  if (after !== undefined) {
    const ms = /^\d{1,9}$/.test(after) ? Number(after) * 1_000 : Date.parse(after) - Date.now();
    return Number.isFinite(ms) ? Math.max(0, ms) : null;
  }
  const reset = /(?:^|;)\s*t=(\d{1,9})(?:;|$)/.exec(headerOf(response, "ratelimit") ?? "")?.[1];
  return reset === undefined ? null : Number(reset) * 1_000;
}

function headerOf(response: IncomingMessage, name: string): string | null {
  const value = response.headers[name];
  const text = Array.isArray(value) ? value[0] : value;
  return text === undefined || text === "" ? null : plain(text);
}

async function beginningOf(response: IncomingMessage): Promise<string> {
  const parts: Buffer[] = [];
  let bytes = 0;
  const limit = setTimeout(() => response.destroy(), ERROR_BODY_MS);
  try {
    for await (const part of response) {
      const piece = Buffer.from(part);
      parts.push(piece);
      bytes += piece.length;
      if (bytes >= ERROR_BYTES_MAX) break;
    }
  } catch {
    // What came of the message is enough, or there is none.
  } finally {
    clearTimeout(limit);
    response.destroy();
  }
  return Buffer.concat(parts).toString("utf8", 0, ERROR_BYTES_MAX);
}

/** An error's body comes with its head, or is not worth waiting for. */
const ERROR_BODY_MS = 5_000;

/** The hub answers `{"error": "…"}`; a page has nothing to quote. */
function messageOf(body: string): string | null {
  let value: unknown;
  try {
    value = JSON.parse(body);
  } catch {
    return /^\s*</.test(body) || body.trim() === "" ? null : plain(body.trim());
  }
  if (typeof value !== "object" || value === null || !("error" in value)) return null;
  return typeof value.error === "string" ? plain(value.error) : null;
}

function plain(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are the characters that must not reach a log or terminal
  return text.replace(/[\u0000-\u001f\u007f-\u009f]+/g, " ").slice(0, MESSAGE_CHARS_MAX);
}
