/** The coordinator's port as strangers meet it: protocols, fingerprints, limits. Real sockets on this machine. */
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { request as httpsRequest } from "node:https";
import { connect, createServer, type Socket } from "node:net";
import { networkInterfaces, tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from "vitest";
import { WebSocket } from "ws";
import { type HttpServer, type HttpServerOptions, startHttpServer } from "../src/adapters/http-server/http-server.ts";
import { LinkServer } from "../src/adapters/link-websocket/link-server.ts";
import { WebSocketDialer } from "../src/adapters/link-websocket/websocket-dialer.ts";
import { keptTlsIdentity, type TlsIdentity } from "../src/adapters/tls-identity/tls-identity.ts";
import { LINK_CLOSE, LINK_FRAME_BYTES_MAX, type Link } from "../src/ports/link.ts";
import { LINK_PATH } from "../src/wire/agent-link.ts";

let folder: string;
let identity: TlsIdentity;
const accepted: Link[] = [];
const servers: HttpServer[] = [];
const abort = () => new AbortController().signal;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "fallow-http-"));
  identity = await keptTlsIdentity(folder);
});
afterAll(() => rm(folder, { recursive: true, force: true }));
beforeEach(() => {
  accepted.length = 0;
});
afterEach(async () => {
  for (const server of servers.splice(0)) await server.close(0);
});

const echo: HttpServerOptions["handler"] = async (request, { remoteAddress }) =>
  Response.json({ path: new URL(request.url).pathname, body: (await request.text()).length, remoteAddress });

async function start(options: Partial<HttpServerOptions> = {}): Promise<HttpServer> {
  const links = new LinkServer((link) => {
    accepted.push(link);
    link.listen({ onFrame: () => undefined, onClose: () => undefined });
  });
  const server = await startHttpServer({
    host: "127.0.0.1",
    port: 0,
    tls: null,
    handler: echo,
    links: { path: LINK_PATH, upgrade: (upgrade) => links.upgrade(upgrade) },
    ...options,
  });
  servers.push(server);
  return server;
}

function overTls(port: number, path: string, body: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const request = httpsRequest(
      { host: "127.0.0.1", port, path, method: "POST", ca: identity.certificatePem, agent: false },
      (response) => {
        let text = "";
        response.on("data", (chunk: Buffer) => {
          text += chunk.toString();
        });
        response.on("end", () => resolve(text));
      },
    );
    request.on("error", reject);
    request.end(body);
  });
}

/** What the server answers to these bytes before it closes. */
async function answerTo(port: number, host: string, bytes: string | Buffer): Promise<string> {
  const socket: Socket = connect({ port, host });
  const chunks: Buffer[] = [];
  socket.on("data", (chunk) => chunks.push(chunk));
  socket.on("error", () => undefined);
  socket.write(bytes);
  await once(socket, "close");
  return Buffer.concat(chunks).toString("latin1");
}

describe("one port", () => {
  test("speaks plain HTTP and HTTPS to this machine, with the whole request whatever its first packet held", async () => {
    const server = await start({ host: "0.0.0.0", tls: identity });
    const body = "b".repeat(500_000);
    const plain = await fetch(`${server.localUrl}/plain`, { method: "POST", body });
    expect(await plain.json()).toEqual({
      path: "/plain",
      body: 500_000,
      remoteAddress: expect.stringContaining("127.0.0.1"),
    });
    expect(JSON.parse(await overTls(server.port, "/secure", body))).toMatchObject({ path: "/secure", body: 500_000 });
  });

  test("takes a request that comes byte by byte", async () => {
    const server = await start({ host: "0.0.0.0", tls: identity });
    const socket = connect({ port: server.port, host: "127.0.0.1" });
    const answer = once(socket, "data");
    for (const byte of "GET /slow HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n") {
      socket.write(byte);
      await new Promise((resolve) => setImmediate(resolve));
    }
    expect(String(await answer)).toMatch(/^HTTP\/1.1 200/);
    socket.destroy();
  });

  const outside = Object.values(networkInterfaces())
    .flatMap((found) => found ?? [])
    .find(({ internal, family }) => !internal && family === "IPv4")?.address;

  test.skipIf(outside === undefined)(
    "answers plain HTTP from beyond this machine with a 400 that names HTTPS (needs a network interface)",
    async () => {
      const server = await start({ host: "0.0.0.0", tls: identity });
      const answer = await answerTo(server.port, outside ?? "", "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
      expect(answer).toMatch(/^HTTP\/1.1 400 .*https:\/\//s);
    },
  );

  test.skipIf(outside === undefined)(
    "is at 127.0.0.1 too when it was given one address of the machine, until it is closed (needs a network interface)",
    async () => {
      const server = await start({ host: outside ?? "", tls: identity });
      expect((await fetch(`${server.localUrl}/local`)).status).toBe(200);
      expect(await answerTo(server.port, outside ?? "", "GET / HTTP/1.1\r\nHost: x\r\n\r\n")).toMatch(/^HTTP\/1.1 400/);
      await server.close(0);
      await expect(fetch(server.localUrl)).rejects.toThrow();
    },
  );

  test("refuses to listen beyond this machine without a certificate", async () => {
    await expect(start({ host: "0.0.0.0" })).rejects.toMatchObject({ code: "tls-required" });
  });

  test("says that a port is taken, and by what to choose another", async () => {
    const blocker = createServer().listen(0, "127.0.0.1");
    await once(blocker, "listening");
    const address = blocker.address();
    const port = typeof address === "object" && address !== null ? address.port : 0;
    await expect(start({ port })).rejects.toMatchObject({ code: "port-taken", data: { port } });
    blocker.close();
  });

  test("survives bytes that are no protocol", async () => {
    const server = await start({ host: "0.0.0.0", tls: identity });
    for (const bytes of [
      Buffer.from([0x16, 3, 1, 0, 5, 1, 2, 3, 4, 5]),
      Buffer.from([0, 0, 0]),
      Buffer.from("\r\n\r\n\r\nHELO\r\n\r\n"),
    ]) {
      await answerTo(server.port, "127.0.0.1", bytes);
    }
    expect((await fetch(server.localUrl)).status).toBe(200);
  });

  test("closes when asked: a running answer may finish, an idle connection may not stay", async () => {
    let release = () => {};
    const released = new Promise<void>((resolve) => {
      release = resolve;
    });
    let isAsked = () => {};
    const asked = new Promise<void>((resolve) => {
      isAsked = resolve;
    });
    const server = await start({
      handler: async () => {
        isAsked();
        await released;
        return new Response("the end");
      },
    });
    const answer = fetch(server.localUrl).then((response) => response.text());
    await asked;
    const closed = server.close(60_000);
    release();
    expect(await answer).toBe("the end");
    await closed;
    await expect(fetch(server.localUrl)).rejects.toThrow();
  });

  test("cuts an answer that nobody reads, and leaves alone one that is slow to be made", async () => {
    const cancelled = Promise.withResolvers<void>();
    const made = Promise.withResolvers<void>();
    const server = await start({
      unreadMsMax: 200,
      handler: async (request) => {
        if (new URL(request.url).pathname === "/slow") {
          const body = new ReadableStream({
            pull: async (controller) => {
              await made.promise;
              controller.enqueue(new TextEncoder().encode("done"));
              controller.close();
            },
          });
          return new Response(body);
        }
        const endless = new ReadableStream({
          pull: (controller) => controller.enqueue(new Uint8Array(65_536)),
          cancel: () => cancelled.resolve(),
        });
        return new Response(endless);
      },
    });
    const slow = fetch(`${server.localUrl}/slow`);
    const socket = connect({ port: server.port, host: "127.0.0.1" });
    socket.on("error", () => undefined);
    socket.pause();
    socket.write("GET /endless HTTP/1.1\r\nHost: x\r\n\r\n");
    await cancelled.promise;
    socket.destroy();
    made.resolve();
    expect(await (await slow).text()).toBe("done");
  });

  test("cuts a connection for the handler, which knows that its client is gone", async () => {
    let cut: () => void = () => undefined;
    const server = await start({
      handler: async (_, info) => {
        cut = info.cut;
        return new Response(new ReadableStream({ pull: () => new Promise(() => undefined) }, { highWaterMark: 0 }));
      },
    });
    const socket = connect({ port: server.port, host: "127.0.0.1" });
    socket.on("error", () => undefined);
    socket.write("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    await once(socket, "data");
    cut();
    await once(socket, "close");
  });

  test("cuts an answer that takes longer than the grace", async () => {
    const server = await start({ handler: () => new Promise(() => undefined) });
    const answer = fetch(server.localUrl).catch(() => "cut");
    await server.close(50);
    expect(await answer).toBe("cut");
  });
});

describe("who dials", () => {
  test("sends nothing to a coordinator with another certificate", async () => {
    const other = await keptTlsIdentity(join(folder, "other"));
    const server = await start({ host: "0.0.0.0", tls: other });
    const target = { url: `https://127.0.0.1:${server.port}`, certificateSha256: identity.certificateSha256 };
    await expect(new WebSocketDialer().dial(target, abort())).rejects.toMatchObject({
      code: "link-fingerprint-mismatch",
      data: { met: other.certificateSha256, wanted: identity.certificateSha256 },
    });
    expect(accepted).toEqual([]);
  });

  test("never speaks in clear beyond this machine, nor over TLS to somebody unknown", async () => {
    for (const [url, certificateSha256] of [
      ["http://10.1.2.3:8420", null],
      ["http://example.org", "ab".repeat(32)],
      ["ftp://127.0.0.1", null],
      ["https://127.0.0.1:1", null],
    ] as const) {
      await expect(new WebSocketDialer().dial({ url, certificateSha256 }, abort())).rejects.toMatchObject({
        code: "link-insecure",
      });
    }
  });

  test("learns that nobody answers, that something else answers, or that it was told to stop", async () => {
    const server = await start({ links: { path: "/elsewhere", upgrade: () => undefined } });
    const target = { url: server.localUrl, certificateSha256: null };
    await expect(new WebSocketDialer().dial(target, abort())).rejects.toMatchObject({ code: "link-unreachable" });
    const nobody = { url: "http://127.0.0.1:9", certificateSha256: null };
    await expect(new WebSocketDialer().dial(nobody, abort())).rejects.toMatchObject({ code: "link-unreachable" });
    const silent = createServer(() => undefined).listen(0, "127.0.0.1");
    await once(silent, "listening");
    const address = silent.address();
    const port = typeof address === "object" && address !== null ? address.port : 0;
    const giveUp = new AbortController();
    const deaf = { url: `http://127.0.0.1:${port}`, certificateSha256: null };
    const given = expect(new WebSocketDialer().dial(deaf, giveUp.signal)).rejects.toMatchObject({
      code: "link-unreachable",
    });
    const [socket] = await once(silent, "connection");
    giveUp.abort();
    await given;
    socket.destroy();
    silent.close();
  });
});

const UPGRADE_HEAD = [
  `GET ${LINK_PATH} HTTP/1.1`,
  "Host: x",
  "Upgrade: websocket",
  "Connection: Upgrade",
  "Sec-WebSocket-Version: 13",
  `Sec-WebSocket-Key: ${Buffer.from("0123456789abcdef").toString("base64")}`,
  "\r\n",
].join("\r\n");

describe("who opens a WebSocket by himself", () => {
  const open = (server: HttpServer, options: { headers?: Record<string, string>; path?: string } = {}) =>
    new WebSocket(`ws://127.0.0.1:${server.port}${options.path ?? LINK_PATH}`, { headers: options.headers ?? {} });

  test("from a web page is refused, so that a page cannot talk to the grid of who opens it", async () => {
    const server = await start();
    const socket = open(server, { headers: { origin: "https://evil.example" } });
    const [error] = await once(socket, "error");
    expect(String(error)).toMatch(/403/);
    expect(accepted).toEqual([]);
  });

  test("at another path gets a 404", async () => {
    const [error] = await once(open(await start(), { path: "/grid/v2/link" }), "error");
    expect(String(error)).toMatch(/404/);
  });

  test.each([
    ["at another path", UPGRADE_HEAD.replace(LINK_PATH, "/grid/v2/link")],
    ["from a web page", UPGRADE_HEAD.replace("Host: x", "Host: x\r\nOrigin: https://evil.example")],
  ])("%s, is refused and never closes his side, is let go", async (_, head) => {
    const server = await start();
    const socket = connect({ port: server.port, host: "127.0.0.1", allowHalfOpen: true });
    socket.write(head);
    socket.resume();
    await once(socket, "end");
    // Only a socket that is gone at the other end answers this with a reset.
    const knocking = setInterval(() => socket.write("x"), 100);
    const [error] = await once(socket, "error");
    clearInterval(knocking);
    expect(["ECONNRESET", "EPIPE"]).toContain(Reflect.get(error, "code"));
  });

  test("and sends binary is told that frames are text", async () => {
    const socket = open(await start());
    await once(socket, "open");
    socket.send(Buffer.from([1, 2, 3]));
    const [code, reason] = await once(socket, "close");
    expect([code, String(reason)]).toEqual([LINK_CLOSE.protocolError, "frames are text"]);
  });

  test("and sends a frame over the bound is cut before it is held in memory, even when he is trusted", async () => {
    const socket = open(await start());
    await once(socket, "open");
    accepted[0]?.trust?.();
    socket.on("error", () => undefined);
    socket.send("x".repeat(LINK_FRAME_BYTES_MAX + 1));
    const [code] = await once(socket, "close");
    expect([1006, 1009]).toContain(code);
  });

  test("and sends a part of a frame is seen to be alive, though no frame has come", async () => {
    const frames: string[] = [];
    const links = new LinkServer((opened) => {
      accepted.push(opened);
      opened.trust?.();
      opened.listen({ onFrame: (frame) => frames.push(frame), onClose: () => undefined });
    });
    const server = await start({ links: { path: LINK_PATH, upgrade: (upgrade) => links.upgrade(upgrade) } });
    const socket = connect({ port: server.port, host: "127.0.0.1" });
    socket.write(UPGRADE_HEAD);
    await once(socket, "data");
    const received = () => accepted[0]?.receivedBytes?.() ?? 0;
    const before = received();
    // A masked text frame of 1,000,000 bytes, of which 200,000 are sent.
    socket.write(
      Buffer.concat([
        Buffer.from([0x81, 0xff, 0, 0, 0, 0, 0, 0x0f, 0x42, 0x40, 0, 0, 0, 0]),
        Buffer.alloc(200_000, 0x78),
      ]),
    );
    await vi.waitFor(() => expect(received() - before).toBeGreaterThanOrEqual(200_000));
    expect(frames).toEqual([]);
    socket.write(Buffer.alloc(800_000, 0x78));
    await vi.waitFor(() => expect(frames.map((frame) => frame.length)).toEqual([1_000_000]));
    socket.destroy();
  });

  test("and sends bytes that are no WebSocket frames is cut", async () => {
    const server = await start();
    const answer = await answerTo(
      server.port,
      "127.0.0.1",
      Buffer.concat([Buffer.from(UPGRADE_HEAD), Buffer.alloc(300, 0xff)]),
    );
    expect(answer).toMatch(/^HTTP\/1.1 101/);
  });
});
