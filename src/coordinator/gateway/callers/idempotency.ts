/**
 * `Idempotency-Key`: the same request sent twice runs once. Kept for each API key and route; a finished answer is stored whole
 * and given again, a stream as the finished stream. What failed is forgotten, so that a retry runs.
 */
import { z } from "zod";
import { describeFault, FallowError } from "../../../domain/fault.ts";
import type { RequestId, Sha256Hex } from "../../../domain/ids.ts";
import { type Outcome, ok, refuse } from "../../../domain/refusal.ts";
import type { Clock } from "../../../ports/clock.ts";
import type { Log } from "../../../ports/log.ts";
import type { ApiKey, IdempotencyRecord, IdempotencyStore } from "../../../ports/store.ts";

const KEY_CHARS_MAX = 255;
/** A larger answer is not stored; its key is forgotten, and the answer says so by not being replayed. */
export const STORED_ANSWER_CHARS_MAX = 4 * 1024 * 1024;
/** What a client that met its own running request should wait. */
const IN_PROGRESS_RETRY_MS = 1_000;

export interface IdempotentRun {
  /** Keeps the answer for later replays. */
  finish(record: IdempotencyRecord): Promise<void>;
  forget(): Promise<void>;
}

export type IdempotencyStep =
  | { readonly kind: "run"; readonly run: IdempotentRun | null }
  | { readonly kind: "replay"; readonly response: Response };

export async function beginIdempotent(
  deps: { readonly store: IdempotencyStore; readonly clock: Clock; readonly keptMs: number },
  request: { header: string | null; apiKey: ApiKey; route: string; bodySha256: Sha256Hex },
): Promise<Outcome<IdempotencyStep>> {
  const { header } = request;
  if (header === null) return ok({ kind: "run", run: null });
  if (header === "" || header.length > KEY_CHARS_MAX) {
    return refuse(
      "invalid-request",
      `Idempotency-Key has ${header.length} characters; 1 to ${KEY_CHARS_MAX} are taken`,
    );
  }
  const entry = { scope: `${request.apiKey.keyId} ${request.route}`, key: header };
  const atMs = Math.floor(deps.clock.wallMs());
  const begun = await deps.store.begin({
    ...entry,
    bodySha256: request.bodySha256,
    atMs,
    expiresAtMs: atMs + deps.keptMs,
  });
  switch (begun.state) {
    case "started":
      return ok({
        kind: "run",
        run: {
          finish: (record) => deps.store.finish({ ...entry, record }),
          forget: () => deps.store.forget(entry),
        },
      });
    case "done":
      return ok({ kind: "replay", response: replayed(begun.record) });
    case "conflict":
      return refuse(
        "idempotency-conflict",
        `Idempotency-Key ${JSON.stringify(header)} was used with another body or other preferences; use a new key`,
      );
    case "in-progress":
      return refuse("idempotency-in-progress", `a request with Idempotency-Key ${JSON.stringify(header)} is running`, {
        retryAfterMs: IN_PROGRESS_RETRY_MS,
      });
  }
}

/** Keeps an answer that was settled. It is delivered all the same when the store fails: it is paid for. */
export async function keepAnswer(
  run: IdempotentRun | null,
  record: IdempotencyRecord,
  told: { readonly log: Log; readonly requestId: RequestId },
): Promise<void> {
  try {
    await run?.finish(record);
  } catch (thrown) {
    if (!(thrown instanceof FallowError)) throw thrown;
    told.log.error({ requestId: told.requestId, cause: describeFault(thrown) }, "answer not kept for replays");
  }
}

const headersSchema = z.record(z.string(), z.string());

/** Headers of an answer that belong to it, not to the connection or the moment. */
export function keptHeaders(headers: Headers): string {
  const isKept = (name: string) => name === "content-type" || name.startsWith("x-grid-");
  return JSON.stringify(Object.fromEntries([...headers].filter(([name]) => isKept(name))));
}

function replayed(record: IdempotencyRecord): Response {
  const headers = new Headers(headersSchema.parse(JSON.parse(record.headersJson)));
  headers.set("idempotent-replayed", "true");
  return new Response(record.body, { status: record.status, headers });
}
