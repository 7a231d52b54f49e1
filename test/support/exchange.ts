/**
 * One HTTP exchange as a client sees it, also when the server dies in its middle: nothing is retried, nothing is thrown, and
 * what arrived before the end is kept. A socket per exchange, so that no connection outlives the grid it was opened to.
 */
import { request as requestHttp } from "node:http";

/** An answer of a test is a few kilobytes; a stream that never ends must not fill the test's memory. */
const BODY_BYTES_MAX = 64 * 1024 * 1024;

export interface Exchange {
  /** Null: the connection ended before a head came. */
  readonly status: number | null;
  readonly headers: Readonly<Record<string, string | readonly string[] | undefined>>;
  readonly body: string;
  /** The server ended the body itself; false when the connection broke or was cut here. */
  readonly isWhole: boolean;
  readonly requestId: string | null;
}

export interface Ask {
  readonly url: string;
  readonly key?: string | null;
  readonly method?: string;
  /** A string or bytes go as they are; anything else as JSON. */
  readonly body?: unknown;
  readonly headers?: Readonly<Record<string, string>>;
  /** With what came so far; answer `cut` to leave. */
  readonly onData?: (soFar: string) => "cut" | undefined;
}

export function exchange(ask: Ask): Promise<Exchange> {
  return new Promise((resolve) => {
    const payload = payloadOf(ask.body);
    let body = "";
    let head: { status: number; headers: Exchange["headers"] } | null = null;
    let isEnded = false;
    const finish = (isWhole: boolean) => {
      if (isEnded) return;
      isEnded = true;
      sent.destroy();
      const requestId = head?.headers["x-request-id"];
      resolve({
        status: head?.status ?? null,
        headers: head?.headers ?? {},
        body,
        isWhole,
        requestId: typeof requestId === "string" ? requestId : null,
      });
    };
    const sent = requestHttp(
      ask.url,
      {
        method: ask.method ?? (payload === null ? "GET" : "POST"),
        agent: false,
        headers: {
          ...(ask.key == null ? {} : { authorization: `Bearer ${ask.key}` }),
          ...(payload === null ? {} : { "content-type": "application/json", "content-length": payload.length }),
          ...ask.headers,
        },
      },
      (answer) => {
        head = { status: answer.statusCode ?? 0, headers: answer.headers };
        answer.setEncoding("utf8");
        answer.on("data", (text: string) => {
          body += text;
          if (body.length > BODY_BYTES_MAX || ask.onData?.(body) === "cut") finish(false);
        });
        answer.on("end", () => finish(answer.complete));
        answer.on("error", () => finish(false));
        answer.on("close", () => finish(answer.complete));
      },
    );
    sent.on("error", () => finish(false));
    sent.end(payload ?? undefined);
  });
}

function payloadOf(body: unknown): Buffer | null {
  if (body === undefined) return null;
  if (body instanceof Uint8Array) return Buffer.from(body);
  return Buffer.from(typeof body === "string" ? body : JSON.stringify(body));
}

/** What a stream of chat or completion chunks said. */
export interface StreamRead {
  /** By choice. */
  readonly texts: readonly string[];
  readonly finishReasons: readonly (string | null)[];
  readonly isDone: boolean;
  readonly error: { readonly message: string; readonly code: string | null } | null;
  readonly usage: UsageRead | null;
  readonly events: number;
}
export interface UsageRead {
  readonly promptTokens: number;
  readonly completionTokens: number;
}

export function readStream(body: string): StreamRead {
  const texts: string[] = [];
  const finishReasons: (string | null)[] = [];
  let usage: UsageRead | null = null;
  let error: StreamRead["error"] = null;
  let isDone = false;
  let events = 0;
  for (const event of body.split("\n\n").slice(0, -1)) {
    const data = event
      .split("\n")
      .filter((line) => line.startsWith("data:"))
      .map((line) => line.slice(5).trim())
      .join("\n");
    if (data === "") continue; // a comment that keeps the connection open
    events += 1;
    if (data === "[DONE]") {
      isDone = true;
      continue;
    }
    const value: unknown = JSON.parse(data);
    error = errorOf(value) ?? error;
    usage = usageOf(value) ?? usage;
    for (const choice of list(field(value, "choices"))) {
      const index = Number(field(choice, "index"));
      const text = field(choice, "text") ?? field(field(choice, "delta"), "content");
      texts[index] = (texts[index] ?? "") + (typeof text === "string" ? text : "");
      const finish = field(choice, "finish_reason");
      finishReasons[index] = typeof finish === "string" ? finish : (finishReasons[index] ?? null);
    }
  }
  return { texts, finishReasons, isDone, error, usage, events };
}

/** Of a whole answer or an error body. */
export function readWhole(body: string): {
  texts: readonly string[];
  usage: UsageRead | null;
  error: StreamRead["error"];
} {
  const value = parsed(body);
  const texts = list(field(value, "choices")).map((choice) => {
    const text = field(choice, "text") ?? field(field(choice, "message"), "content");
    return typeof text === "string" ? text : "";
  });
  return { texts, usage: usageOf(value), error: errorOf(value) };
}

export function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined; // what a test then expects of it fails with the text shown
  }
}

export function field(value: unknown, name: string): unknown {
  return typeof value === "object" && value !== null && Object.hasOwn(value, name)
    ? Reflect.get(value, name)
    : undefined;
}

export function list(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : [];
}

function errorOf(value: unknown): StreamRead["error"] {
  const error = field(value, "error");
  if (error === undefined || error === null) return null;
  const code = field(error, "code");
  return { message: String(field(error, "message")), code: typeof code === "string" ? code : null };
}

function usageOf(value: unknown): UsageRead | null {
  const usage = field(value, "usage");
  if (usage === undefined || usage === null) return null;
  return {
    promptTokens: Number(field(usage, "prompt_tokens") ?? 0),
    completionTokens: Number(field(usage, "completion_tokens") ?? 0),
  };
}
