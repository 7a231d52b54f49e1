/**
 * A real HTTP(S) server in the place of a cloud provider that does whatever a test tells it: answers well, badly, too much, too late, or in
 * pieces. What it was asked is kept, so that a test can see what went out.
 */
import {
  createServer as createHttp,
  type IncomingHttpHeaders,
  type IncomingMessage,
  type ServerResponse,
} from "node:http";
import { createServer as createHttps } from "node:https";
import type { AddressInfo, Socket } from "node:net";

export interface Asked {
  readonly method: string;
  readonly path: string;
  readonly headers: IncomingHttpHeaders;
  readonly body: Readonly<Record<string, unknown>>;
}

/** Answers one request; `ended` resolves when the other side is gone. */
export type Act = (response: ServerResponse, asked: Asked, ended: Promise<void>) => void | Promise<void>;

export interface HostileUpstream {
  /** Up to and including `/v1`. */
  readonly baseUrl: string;
  readonly asked: readonly Asked[];
  /** Connections that were opened since the start. */
  connections(): number;
  /** From now on every request is answered so. */
  act(act: Act): void;
  stop(): Promise<void>;
}

export interface HostileOptions {
  /** A loopback address; 127.0.0.1 when left out. */
  readonly host?: string;
  readonly tls?: { readonly certificatePem: string; readonly privateKeyPem: string };
}

export async function startHostileUpstream(options: HostileOptions = {}): Promise<HostileUpstream> {
  const asked: Asked[] = [];
  const sockets = new Set<Socket>();
  let connections = 0;
  let current: Act = (response) => void response.writeHead(500).end();
  const listener = (request: IncomingMessage, response: ServerResponse) => {
    const ended = new Promise<void>((resolve) => response.once("close", resolve));
    response.on("error", () => undefined);
    void readBody(request).then((body) => {
      const one = { method: request.method ?? "", path: request.url ?? "", headers: request.headers, body };
      asked.push(one);
      return current(response, one, ended);
    });
  };
  const { tls, host = "127.0.0.1" } = options;
  const server =
    tls === undefined
      ? createHttp(listener)
      : createHttps({ cert: tls.certificatePem, key: tls.privateKeyPem }, listener);
  server.on("connection", (socket: Socket) => {
    connections += 1;
    sockets.add(socket);
    socket.on("error", () => undefined);
    socket.once("close", () => sockets.delete(socket));
  });
  await new Promise<void>((resolve) => server.listen(0, host, resolve));
  // A listening TCP server has an address with a port.
  const { port } = server.address() as AddressInfo;
  return {
    baseUrl: `${tls === undefined ? "http" : "https"}://${host}:${port}/v1`,
    asked,
    connections: () => connections,
    act: (act) => {
      current = act;
    },
    stop: () =>
      new Promise((resolve) => {
        for (const socket of sockets) socket.destroy();
        server.close(() => resolve());
      }),
  };
}

async function readBody(request: IncomingMessage): Promise<Readonly<Record<string, unknown>>> {
  const parts: Buffer[] = [];
  for await (const part of request) parts.push(Buffer.from(part));
  const text = Buffer.concat(parts).toString("utf8");
  const value: unknown = text === "" ? {} : JSON.parse(text);
  return typeof value === "object" && value !== null ? { ...value } : {};
}

/** Bytes as they are, as the body of a 200 of this type. */
export function raw(type: string | null, bytes: string | Buffer, headers: Readonly<Record<string, string>> = {}): Act {
  return (response) => {
    response.writeHead(200, { ...(type === null ? {} : { "content-type": type }), ...headers });
    response.end(bytes);
  };
}

export function status(code: number, body: unknown, headers: Readonly<Record<string, string>> = {}): Act {
  return (response) => {
    response.writeHead(code, { "content-type": "application/json", ...headers });
    response.end(typeof body === "string" ? body : JSON.stringify(body));
  };
}

/** Data fields of events, each a JSON value or a text as it is; `end: false` leaves the stream open. */
export function stream(
  data: readonly unknown[],
  more: {
    readonly done?: boolean;
    readonly end?: boolean | "reset";
    readonly headers?: Readonly<Record<string, string>>;
  } = {},
): Act {
  return (response) => {
    response.writeHead(200, { "content-type": "text/event-stream; charset=utf-8", ...more.headers });
    for (const one of data) response.write(eventOf(one));
    if (more.done !== false) response.write("data: [DONE]\n\n");
    if (more.end === "reset") response.write("", () => response.socket?.resetAndDestroy());
    else if (more.end !== false) response.end();
  };
}

export function eventOf(value: unknown): string {
  return `data: ${typeof value === "string" ? value : JSON.stringify(value)}\n\n`;
}

/** A chunk with what the first choice says. */
export function says(
  delta: Readonly<Record<string, unknown>>,
  more: { index?: number; finish?: string } = {},
): unknown {
  return {
    id: "chatcmpl-1",
    object: "chat.completion.chunk",
    choices: [{ index: more.index ?? 0, delta, finish_reason: more.finish ?? null }],
  };
}

export const FINISH = says({}, { finish: "stop" });
export const USAGE = { choices: [], usage: { prompt_tokens: 7, completion_tokens: 2, total_tokens: 9 } };
/** A stream that is all right: "Hello there". */
export const WELL: Act = stream([
  says({ role: "assistant", content: "Hello" }),
  says({ content: " there" }),
  FINISH,
  USAGE,
]);
