/** One request about weights over a connection to the pinned coordinator. */
import { type Agent, request as httpRequest, type IncomingMessage } from "node:http";
import { describeFault, FallowError } from "../../domain/fault.ts";
import type { LinkTarget } from "../../ports/link.ts";

/** Without a byte for so long the connection is taken for dead; a coordinator that is busy answers sooner. */
const SILENT_MS_MAX = 30_000;
const RETRY_AFTER_SECONDS_MAX = 60;

export type WeightsAnswer =
  | { readonly kind: "body"; readonly body: IncomingMessage }
  | { readonly kind: "busy"; readonly retryAfterMs: number }
  /** Trying again will not help. */
  | { readonly kind: "refused"; readonly status: number };

export interface WeightsRequest {
  readonly target: LinkTarget;
  readonly agent: Agent;
  readonly path: string;
  readonly bearer: string;
  /** Last byte included; null for all there is. */
  readonly range: { readonly first: number; readonly last: number } | null;
  readonly signal: AbortSignal;
}

export async function requestWeights(asked: WeightsRequest): Promise<WeightsAnswer> {
  const { target, agent, path, bearer, range, signal } = asked;
  const { host } = new URL(target.url);
  const response = await new Promise<IncomingMessage>((resolve, reject) => {
    const request = httpRequest({
      agent,
      path,
      headers: {
        host,
        authorization: `Bearer ${bearer}`,
        ...(range === null ? {} : { range: `bytes=${range.first}-${range.last}` }),
      },
      timeout: SILENT_MS_MAX,
      signal,
    });
    request.once("timeout", () => request.destroy(new Error(`no byte for ${SILENT_MS_MAX} ms`)));
    request.on("error", (cause) => {
      // The wrong certificate, or none: named as such, for the owner to act on.
      if (cause instanceof FallowError) return reject(cause);
      reject(
        new FallowError("weights-unreachable", `${target.url} did not answer: ${describeFault(cause)}`, { cause }),
      );
    });
    request.once("response", resolve);
    request.end();
  });
  return read(response, range);
}

function read(response: IncomingMessage, range: WeightsRequest["range"]): WeightsAnswer {
  const status = response.statusCode ?? 0;
  const isWhole = range === null && status === 200;
  const wanted = range === null ? "" : `bytes ${range.first}-${range.last}/`;
  const isRange = range !== null && status === 206 && (response.headers["content-range"] ?? "").startsWith(wanted);
  if (isWhole || isRange) return { kind: "body", body: response };
  response.resume(); // a refusal is short; its connection serves again
  if (status === 429 || status >= 500) {
    const seconds = Number(response.headers["retry-after"] ?? 0);
    const bounded = Number.isFinite(seconds) ? Math.min(RETRY_AFTER_SECONDS_MAX, Math.max(0, seconds)) : 0;
    return { kind: "busy", retryAfterMs: bounded * 1_000 };
  }
  if (status < 400) response.destroy(); // another range than was asked for, and who knows how much of it
  return { kind: "refused", status };
}
