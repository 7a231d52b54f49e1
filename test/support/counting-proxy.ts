/**
 * Stands before a real server and passes everything on, byte by byte, while it counts what was asked and keeps what was said. A test can have
 * it cut an answer in its middle, as a provider that dies does, or change what a provider says.
 */
import { request as askServer, createServer, type IncomingMessage } from "node:http";
import type { AddressInfo, Socket } from "node:net";

export interface Proxied {
  readonly path: string;
  readonly body: Readonly<Record<string, unknown>>;
  /** What the server has said of it so far, as it came. */
  said: string;
}

export interface CountingProxy {
  /** Up to and including `/v1`. */
  readonly baseUrl: string;
  readonly asked: readonly Proxied[];
  /** The next answer is cut after so many events. */
  cutAfter(events: number): void;
  /** Of every line that passes; null: as it is. */
  change(line: ((line: string) => string) | null): void;
  stop(): Promise<void>;
}

export async function startCountingProxy(targetUrl: string): Promise<CountingProxy> {
  const target = new URL(targetUrl);
  const asked: Proxied[] = [];
  const sockets = new Set<Socket>();
  let cutAfter: number | null = null;
  let change: ((line: string) => string) | null = null;
  const server = createServer((request, response) => {
    response.on("error", () => undefined);
    void bytesOf(request).then((bytes) => {
      const proxied: Proxied = { path: request.url ?? "", body: jsonOf(bytes), said: "" };
      if (request.method === "POST") asked.push(proxied);
      const isStream = proxied.body["stream"] === true;
      const cut = isStream ? cutAfter : null;
      if (isStream) cutAfter = null;
      const { host: _, connection: __, ...headers } = request.headers;
      const outgoing = askServer(
        { host: target.hostname, port: target.port, path: request.url, method: request.method, headers },
        (answer) => {
          const { "content-length": ___, ...kept } = answer.headers;
          response.writeHead(answer.statusCode ?? 502, kept);
          let events = 0;
          let rest = "";
          answer.setEncoding("utf8").on("data", (text: string) => {
            const lines = (rest + text).split("\n");
            rest = lines.pop() ?? "";
            for (const line of lines) {
              const passed = change === null ? line : change(line);
              proxied.said += `${passed}\n`;
              response.write(`${passed}\n`);
              if (line.startsWith("data: ")) events += 1;
              if (cut !== null && events >= cut && line === "") {
                outgoing.destroy();
                // Not reset: what was said before has to arrive.
                response.socket?.destroySoon();
                return;
              }
            }
          });
          answer.on("end", () => {
            proxied.said += rest;
            response.end(change === null ? rest : change(rest));
          });
          answer.on("error", () => response.destroy());
        },
      );
      outgoing.on("error", () => response.destroy());
      response.on("close", () => outgoing.destroy());
      outgoing.end(bytes);
    });
  });
  server.on("connection", (socket: Socket) => {
    sockets.add(socket);
    socket.on("error", () => undefined);
    socket.once("close", () => sockets.delete(socket));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  // A listening TCP server has an address with a port.
  const { port } = server.address() as AddressInfo;
  return {
    baseUrl: `http://127.0.0.1:${port}/v1`,
    asked,
    cutAfter: (events) => {
      cutAfter = events;
    },
    change: (line) => {
      change = line;
    },
    stop: () =>
      new Promise((resolve) => {
        for (const socket of sockets) socket.destroy();
        server.close(() => resolve());
      }),
  };
}

async function bytesOf(request: IncomingMessage): Promise<Buffer> {
  const parts: Buffer[] = [];
  for await (const part of request) parts.push(Buffer.from(part));
  return Buffer.concat(parts);
}

function jsonOf(bytes: Buffer): Readonly<Record<string, unknown>> {
  if (bytes.length === 0) return {};
  const value: unknown = JSON.parse(bytes.toString("utf8"));
  return typeof value === "object" && value !== null ? { ...value } : {};
}
