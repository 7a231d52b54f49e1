/**
 * The coordinator's one listening port: a fetch-style handler over HTTP, and links for agents at one path.
 *
 * | listens on    | first byte     | peer          | answer                                             |
 * | ------------- | -------------- | ------------- | -------------------------------------------------- |
 * | loopback      | any            | this machine  | plain HTTP                                         |
 * | anything else | 0x16 (TLS)     | any           | HTTPS                                              |
 * | anything else | any other      | this machine  | plain HTTP: local tools need no certificate        |
 * | anything else | any other      | other machine | 400 that says so; nothing secret crosses in clear  |
 *
 * Where one address of the machine is listened on, so is 127.0.0.1 with the same port: the machine's own tools know no other.
 *
 * Bounds are on what a stranger can hold without having said anything yet; what a request may contain is the handler's business.
 */
import { createServer as createHttpServer, type IncomingMessage, type Server } from "node:http";
import { createServer as createHttpsServer } from "node:https";
import { type AddressInfo, createServer as createNetServer, type Server as NetServer, type Socket } from "node:net";
import type { Duplex } from "node:stream";
import { getRequestListener } from "@hono/node-server";
import { FallowError } from "../../domain/fault.ts";
import type { LinkUpgrade } from "../link-websocket/link-server.ts";
import { refuseSocket } from "../link-websocket/refuse-socket.ts";
import { isLoopback } from "../tls-identity/loopback.ts";
import type { TlsIdentity } from "../tls-identity/tls-identity.ts";
import { type BodyBounds, type SlowBodies, watchSlowBodies } from "./slow-bodies.ts";

export interface HttpServerOptions {
  readonly host: string;
  /** 0 for any that is free. */
  readonly port: number;
  /** Required when `host` is more than loopback. */
  readonly tls: TlsIdentity | null;
  readonly handler: (request: Request, info: RequestInfo) => Promise<Response>;
  readonly links: { readonly path: string; readonly upgrade: (upgrade: LinkUpgrade) => void };
  /** Takes upgrades of all paths that begin so. */
  readonly relays?: { readonly pathPrefix: string; readonly upgrade: (upgrade: LinkUpgrade) => void };
  /** Instead of `HTTP_BOUNDS.unreadMs`. */
  readonly unreadMsMax?: number;
  /** Instead of `HTTP_BOUNDS.bodies`. */
  readonly bodies?: BodyBounds;
}

export interface RequestInfo {
  readonly remoteAddress: string;
  /** Ends the connection at once, with whatever was not sent yet. */
  readonly cut: () => void;
}

export interface HttpServer {
  readonly port: number;
  /** As this machine reaches it: plain HTTP on loopback. */
  readonly localUrl: string;
  /** Takes no new connections, waits up to `graceMs` for running requests, then cuts. May be called twice. */
  close(graceMs: number): Promise<void>;
}

export const HTTP_BOUNDS = {
  /** Below the usual 20,000 file descriptors, with room for files and the database. */
  connectionsMax: 10_000,
  /** Until the first byte of a connection and the end of a TLS handshake: a few round trips of a bad link. */
  openingMs: 10_000,
  /** Until the last header; a slow trickle of headers holds a connection no longer. */
  headersMs: 10_000,
  /** 32 MB at 5 Mbit/s; an upload of 2 GiB at the least speed, half a Mbit/s, takes 9 hours. */
  bodies: { bodyMs: 60_000, uploadBytesPerSecondMin: 65_536, checkMs: 5_000 },
  /** An idle connection is kept for the caller's next request. */
  keepAliveMs: 30_000,
  headerBytesMax: 16_384,
  /** How often the limit of headers is looked at. */
  checkMs: 5_000,
  /** An answer of which the other end reads nothing for so long is cut: it holds a connection, a file, a stream. */
  unreadMs: 600_000,
} as const;

/** How often a server that closes looks for connections that became idle. */
const CLOSE_SWEEP_MS = 100;
const TLS_HANDSHAKE_BYTE = 0x16;
const LOCAL_HOST = "127.0.0.1";
const WILDCARDS = new Set(["0.0.0.0", "::"]);
const CLEARTEXT_ANSWER = "This address speaks HTTPS: use https:// instead of http://.\n";

/** Rejects with a `FallowError`: `tls-required`, `port-taken`, `listen-failed`. */
export async function startHttpServer(options: HttpServerOptions): Promise<HttpServer> {
  const { host, tls } = options;
  if (tls === null && !isLoopback(host)) {
    throw new FallowError(
      "tls-required",
      `listening on ${host} needs a certificate: only loopback is served without TLS`,
      {
        data: { host },
      },
    );
  }
  const sockets = new Set<Socket>();
  const plain = withLimits(createHttpServer(limits()));
  const slow = watchSlowBodies(options.bodies ?? HTTP_BOUNDS.bodies);
  serve(plain, { ...options, slow }, () => "loopback");
  const secure = tls === null ? null : secureServer({ ...options, slow }, tls);
  const sorter = () =>
    secure === null ? plain : createNetServer((socket) => sortByFirstByte(socket, { plain, secure }));
  const listening = async (front: NetServer, at: { host: string; port: number }) => {
    front.maxConnections = HTTP_BOUNDS.connectionsMax;
    front.on("connection", (socket: Socket) => {
      sockets.add(socket);
      socket.once("close", () => sockets.delete(socket));
    });
    return await listen(front, at);
  };
  const front = sorter();
  const { port, address } = await listening(front, options);
  const fronts = [front];
  if (!isLoopback(address) && !WILDCARDS.has(address)) {
    const local = sorter();
    fronts.push(local);
    await listening(local, { host: LOCAL_HOST, port }).catch((thrown: unknown) => {
      front.close();
      throw thrown;
    });
  }
  const servers = secure === null ? [plain] : [plain, secure];
  let closing: Promise<void> | null = null;
  return {
    port,
    localUrl: `http://${isLoopback(host) && host.includes(":") ? "[::1]" : LOCAL_HOST}:${port}`,
    close: (graceMs) => (closing ??= closeAll({ fronts, servers, sockets, graceMs }).finally(slow.stop)),
  };
}

function limits() {
  return {
    headersTimeout: HTTP_BOUNDS.headersMs,
    // Node knows one for all bodies (slow-bodies.ts).
    requestTimeout: 0,
    keepAliveTimeout: HTTP_BOUNDS.keepAliveMs,
    maxHeaderSize: HTTP_BOUNDS.headerBytesMax,
    connectionsCheckingInterval: HTTP_BOUNDS.checkMs,
    noDelay: true,
  };
}

/** A server that gets its sockets from the sorter never listens; Node starts to watch its time limits at this event. */
function withLimits<S extends Server>(server: S): S {
  server.emit("listening");
  return server;
}

function secureServer(options: Serving, tls: TlsIdentity): Server {
  const server = createHttpsServer({
    ...limits(),
    cert: tls.certificatePem,
    key: tls.privateKeyPem,
    minVersion: "TLSv1.2",
    ALPNProtocols: ["http/1.1"],
    handshakeTimeout: HTTP_BOUNDS.openingMs,
  });
  serve(withLimits(server), options, () => tls.certificateSha256);
  // A handshake that fails is the stranger's loss: his socket is closed by Node, and nobody here waits for it.
  server.on("tlsClientError", (_error, socket) => socket.destroy());
  return server;
}

type Serving = HttpServerOptions & { readonly slow: SlowBodies };

function serve(server: Server, options: Serving, channelBinding: () => string): void {
  const listener = getRequestListener(
    (request, { incoming }) => {
      const { socket } = incoming;
      return options.handler(request, {
        remoteAddress: socket.remoteAddress ?? "unknown",
        cut: () => void socket.destroy(),
      });
    },
    { hostname: "localhost", overrideGlobalObjects: false },
  );
  server.on("request", (incoming, outgoing) => {
    // Node tells of every silence; one in which there is nothing to send is an answer that is still being made.
    const { socket } = incoming;
    options.slow.watch(incoming, outgoing);
    outgoing.setTimeout(options.unreadMsMax ?? HTTP_BOUNDS.unreadMs, () => {
      if (socket.writableLength > 0) socket.destroy();
    });
    void listener(incoming, outgoing);
  });
  server.on("upgrade", (request: IncomingMessage, socket: Duplex, head: Buffer) => {
    socket.on("error", () => socket.destroy());
    const [path = ""] = (request.url ?? "").split("?");
    const { links, relays } = options;
    const upgrade = { request, socket, head, channelBinding: channelBinding() };
    if (path === links.path) links.upgrade(upgrade);
    else if (relays !== undefined && path.startsWith(relays.pathPrefix)) relays.upgrade(upgrade);
    else refuseSocket(socket, "HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
  });
}

/** Looks at the first byte, puts it back, and hands the connection to the server that speaks this protocol. */
function sortByFirstByte(socket: Socket, servers: { plain: Server; secure: Server }): void {
  const giveUp = () => socket.destroy();
  socket.setTimeout(HTTP_BOUNDS.openingMs, giveUp);
  socket.on("error", giveUp);
  socket.once("readable", () => {
    const first: Buffer | null = socket.read(1);
    if (first === null) return giveUp();
    socket.setTimeout(0);
    socket.off("timeout", giveUp);
    socket.unshift(first);
    if (first[0] === TLS_HANDSHAKE_BYTE) {
      servers.secure.emit("connection", socket);
    } else if (isLoopback(socket.remoteAddress)) {
      servers.plain.emit("connection", socket);
    } else {
      const head = "HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Type: text/plain\r\n";
      refuseSocket(socket, `${head}Content-Length: ${CLEARTEXT_ANSWER.length}\r\n\r\n${CLEARTEXT_ANSWER}`);
    }
  });
}

function listen(front: NetServer, { host, port }: { host: string; port: number }): Promise<AddressInfo> {
  return new Promise((resolve, reject) => {
    front.once("error", (cause: NodeJS.ErrnoException) => {
      const isTaken = cause.code === "EADDRINUSE";
      const message = isTaken
        ? `port ${port} on ${host} is taken by another program: choose another one, or end that program`
        : `cannot listen on ${host}:${port} (${cause.code ?? cause.message})`;
      reject(new FallowError(isTaken ? "port-taken" : "listen-failed", message, { data: { host, port }, cause }));
    });
    front.listen({ host, port, exclusive: true }, () => {
      const address: AddressInfo | string | null = front.address();
      if (address === null || typeof address === "string") reject(new Error("a TCP server has an address with a port"));
      else resolve(address);
    });
  });
}

async function closeAll(parts: {
  fronts: readonly NetServer[];
  servers: readonly Server[];
  sockets: ReadonlySet<Socket>;
  graceMs: number;
}): Promise<void> {
  const ended = Promise.all(parts.fronts.map((front) => new Promise<void>((resolve) => front.close(() => resolve()))));
  for (const server of parts.servers) {
    // For those that never listened, `close` only ends idle connections and the watch over time limits.
    if (!parts.fronts.includes(server)) server.close(() => undefined);
    server.closeIdleConnections();
  }
  // A connection whose last request ends now is kept alive for the next one, which will not be taken: end it too.
  const sweep = setInterval(() => {
    for (const server of parts.servers) server.closeIdleConnections();
  }, CLOSE_SWEEP_MS);
  const cut = setTimeout(() => {
    for (const socket of parts.sockets) socket.destroy();
  }, parts.graceMs);
  await ended;
  clearInterval(sweep);
  clearTimeout(cut);
}
