/** One request for the rest of a file of weights, over a connection to the pinned coordinator. */
import { request as httpRequest, type IncomingMessage } from "node:http";
import { assert } from "../../domain/assert.ts";
import { FallowError } from "../../domain/fault.ts";
import type { LinkTarget } from "../../ports/link.ts";
import type { WeightsWant } from "../../ports/weights-cache.ts";
import { connectPinned } from "../tls-identity/pinned-connect.ts";

/** Without a byte for so long the connection is taken for dead; a coordinator that is busy answers sooner. */
const SILENT_MS_MAX = 30_000;

export type WeightsAnswer =
  | {
      readonly kind: "body";
      readonly body: IncomingMessage /** Where in the file it starts: 0 when the range was not honoured. */;
      readonly from: number;
    }
  /** What lies on the disk does not fit the file: begin anew. */
  | { readonly kind: "restart" }
  | { readonly kind: "busy"; readonly retryAfterMs: number }
  /** Trying again will not help. */
  | { readonly kind: "refused"; readonly status: number };

export async function requestWeights(
  target: LinkTarget,
  want: WeightsWant,
  options: { from: number; signal: AbortSignal },
): Promise<WeightsAnswer> {
  const { from, signal } = options;
  assert(want.path.startsWith("/"), `${want.path} is a path below the coordinator's address`);
  const { socket } = await connectPinned(target, signal);
  const { host } = new URL(target.url);
  const response = await new Promise<IncomingMessage>((resolve, reject) => {
    const request = httpRequest({
      createConnection: () => socket,
      path: want.path,
      headers: {
        host,
        authorization: `Bearer ${want.bearer}`,
        connection: "close",
        ...(from > 0 ? { range: `bytes=${from}-` } : {}),
      },
      timeout: SILENT_MS_MAX,
      signal,
    });
    request.once("timeout", () => request.destroy(new Error(`no byte for ${SILENT_MS_MAX} ms`)));
    request.once("error", (cause) => {
      reject(
        new FallowError("weights-unreachable", `${target.url} did not answer`, { data: { url: target.url }, cause }),
      );
    });
    request.once("response", resolve);
    request.end();
  });
  return read(response, { from, fileBytes: want.fileBytes });
}

function read(response: IncomingMessage, expected: { from: number; fileBytes: number }): WeightsAnswer {
  const status = response.statusCode ?? 0;
  const { from, fileBytes } = expected;
  const isRange = status === 206 && response.headers["content-range"] === `bytes ${from}-${fileBytes - 1}/${fileBytes}`;
  if (isRange) return { kind: "body", body: response, from };
  if (status === 200) return { kind: "body", body: response, from: 0 };
  response.destroy();
  if (status === 206 || status === 416) return { kind: "restart" };
  if (status === 429 || status >= 500) {
    const seconds = Number(response.headers["retry-after"] ?? 0);
    return { kind: "busy", retryAfterMs: Number.isFinite(seconds) ? Math.min(60, Math.max(0, seconds)) * 1_000 : 0 };
  }
  return { kind: "refused", status };
}
