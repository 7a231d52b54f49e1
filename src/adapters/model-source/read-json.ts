/** A small JSON answer of the hub, with tries; bounded, and never a page. */
import type { IncomingMessage } from "node:http";
import type { z } from "zod";
import { parseJson } from "../../wire/json-frame.ts";
import { follow, type Route, refused } from "./follow.ts";
import { type Look, PassingFault, Tries } from "./passing-fault.ts";
import { describeUrl, type SafeHttp } from "./safe-http.ts";

export interface JsonAnswer<T> {
  readonly value: T;
  readonly headers: IncomingMessage["headers"];
}

/** A page of a repository's files has at most 1,000 entries of some 500 bytes; the facts of a repository are smaller. */
const JSON_BYTES_MAX = 8 * 1024 * 1024;

export async function readJson<T>(
  url: URL,
  schema: z.ZodType<T>,
  options: Look & { http: SafeHttp; route: Route },
): Promise<JsonAnswer<T>> {
  const { http, route, signal } = options;
  const tries = new Tries(options.patience, options.onWait);
  for (;;) {
    try {
      const { response } = await follow(http, { url, headers: { accept: "application/json" }, signal }, route);
      const text = await readText(response, url, { signal, silentMs: http.silentMsMax });
      const parsed = schema.safeParse(parseJson(text));
      if (parsed.success) return { value: parsed.data, headers: response.headers };
      const issue = parsed.error.issues[0];
      const what = `${issue?.path.join(".") ?? ""}: ${issue?.message ?? ""}`;
      throw refused(`${describeUrl(url)} answers something else than the hub's protocol (${what})`, url);
    } catch (thrown) {
      await tries.wait(thrown, signal);
    }
  }
}

async function readText(
  response: IncomingMessage,
  url: URL,
  { signal, silentMs }: { signal: AbortSignal; silentMs: number },
): Promise<string> {
  const parts: Buffer[] = [];
  let bytes = 0;
  const timer = setTimeout(() => response.destroy(new PassingFault(`${url.host} did not end its answer`)), silentMs);
  try {
    for await (const part of response) {
      const piece = Buffer.from(part);
      bytes += piece.length;
      if (bytes > JSON_BYTES_MAX) throw refused(`${describeUrl(url)} answers more than ${JSON_BYTES_MAX} bytes`, url);
      parts.push(piece);
    }
  } catch (thrown) {
    signal.throwIfAborted();
    if (thrown instanceof Error && "code" in thrown && thrown.code !== "model-source-refused") {
      throw new PassingFault(`${url.host} cut its answer`, { cause: thrown });
    }
    throw thrown;
  } finally {
    clearTimeout(timer);
    response.destroy();
  }
  return Buffer.concat(parts).toString("utf8");
}
