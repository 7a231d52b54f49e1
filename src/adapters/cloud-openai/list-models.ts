/** `GET /models` of a provider: what it says that it has. A help for people, and nothing is decided by it. */
import type { Dispatcher } from "undici";
import type { Clock } from "../../ports/clock.ts";
import type { UpstreamCall } from "../../ports/cloud-upstream.ts";
import type { CredentialBook } from "./credential-book.ts";
import { faultOf, faultOfStatus } from "./failure-of.ts";
import { addressProblem, type PrivateHosts } from "./provider-address.ts";
import { retryAfterMs } from "./rate-headers.ts";
import { UpstreamFault } from "./upstream-fault.ts";
import { modelListSchema } from "./upstream-schema.ts";

/** Lists of routers with some thousand models have 3 MB. */
const LIST_BYTES_MAX = 8 * 1_048_576;

export interface ListParts {
  readonly dispatcher: Dispatcher;
  readonly credentials: CredentialBook;
  readonly privateHosts: PrivateHosts;
  readonly clock: Clock;
  readonly totalMsMax: number;
}

/** Throws `UpstreamFault`. */
export async function listModels(provider: UpstreamCall["provider"], parts: ListParts): Promise<readonly string[]> {
  const problem = addressProblem(provider.baseUrl, parts.privateHosts);
  if (problem !== null) throw new UpstreamFault("unreachable", problem);
  const { secret, problem: keyProblem } = await parts.credentials.secret(provider.credential);
  if (keyProblem !== null) throw new UpstreamFault("unauthorised", keyProblem);
  const abort = new AbortController();
  let isLate = false;
  let hasHead = false;
  const timer = parts.clock.setTimer(parts.totalMsMax, () => {
    isLate = true;
    abort.abort();
  });
  try {
    const url = new URL(provider.baseUrl);
    const { statusCode, headers, body } = await parts.dispatcher.request({
      origin: url.origin,
      path: `${url.pathname.replace(/\/+$/, "")}/models`,
      method: "GET",
      headers: {
        accept: "application/json",
        "accept-encoding": "identity",
        "user-agent": "fallow",
        ...(secret === null ? {} : { authorization: `Bearer ${secret}` }),
      },
      signal: abort.signal,
    });
    hasHead = true;
    const text = await textOf(body);
    if (statusCode === 200) return parsedList(text);
    const waitMs = retryAfterMs(headers, parts.clock.wallMs());
    throw faultOfStatus({ status: statusCode, body: text, location: null }, { retryAfterMs: waitMs, secret });
  } catch (thrown) {
    if (isLate) throw new UpstreamFault("too-slow", `its list of models took more than ${parts.totalMsMax} ms`);
    throw faultOf(thrown, hasHead);
  } finally {
    timer.cancel();
    abort.abort();
  }
}

async function textOf(body: AsyncIterable<unknown>): Promise<string> {
  const pieces: Uint8Array[] = [];
  let bytes = 0;
  for await (const piece of body) {
    if (!(piece instanceof Uint8Array)) throw new UpstreamFault("malformed", "the body is no run of bytes");
    bytes += piece.length;
    if (bytes > LIST_BYTES_MAX)
      throw new UpstreamFault("endless", `its list of models has more than ${LIST_BYTES_MAX} bytes`);
    pieces.push(piece);
  }
  return Buffer.concat(pieces).toString("utf8");
}

function parsedList(text: string): readonly string[] {
  let value: unknown = null;
  try {
    value = JSON.parse(text);
  } catch {
    // the schema says so
  }
  const parsed = modelListSchema.safeParse(value);
  if (!parsed.success) throw new UpstreamFault("malformed", "its list of models is none of OpenAI's form");
  return parsed.data.data.map(({ id }) => id).sort();
}
