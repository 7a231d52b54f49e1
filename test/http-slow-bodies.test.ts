/** Bodies that trickle, over real sockets: who holds a connection so is cut, and a large upload over a thin line is not. */
import { once } from "node:events";
import { connect } from "node:net";
import { afterEach, describe, expect, test } from "vitest";
import { type HttpServer, type HttpServerOptions, startHttpServer } from "../src/adapters/http-server/http-server.ts";

const servers: HttpServer[] = [];
afterEach(async () => {
  for (const server of servers.splice(0)) await server.close(0);
});

async function start(options: Partial<HttpServerOptions>): Promise<HttpServer> {
  const server = await startHttpServer({
    ...{ host: "127.0.0.1", port: 0, tls: null },
    handler: async (request) => Response.json({ body: (await request.text()).length }),
    links: { path: "/nowhere", upgrade: ({ request }) => request.socket.destroy() },
    ...options,
  });
  servers.push(server);
  return server;
}

describe("a body that comes slowly", () => {
  const bodies = { bodyMs: 150, uploadBytesPerSecondMin: 20_000, checkMs: 20 };
  const MULTIPART = "multipart/form-data; boundary=xyz";

  /** Sends pieces for as long as the server takes them; resolves with what it said and how many bytes went out before. */
  async function trickle(port: number, how: { type: string; bytes: number; everyMs: number; pieces: number }) {
    const socket = connect({ port, host: "127.0.0.1" });
    const said: Buffer[] = [];
    let sentBytes = 0;
    socket.on("data", (chunk) => said.push(chunk));
    socket.on("error", () => undefined);
    const closed = once(socket, "close");
    const length = how.bytes * how.pieces;
    const head = `POST /v1/files HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: ${how.type}\r\n`;
    socket.write(`${head}Content-Length: ${length}\r\n\r\n`);
    const timer = setInterval(() => {
      if (sentBytes >= length) return;
      socket.write(Buffer.alloc(how.bytes, "x"));
      sentBytes += how.bytes;
    }, how.everyMs);
    await closed;
    clearInterval(timer);
    return { said: Buffer.concat(said).toString("latin1"), sentBytes, length };
  }

  test("is cut after its time, whatever comes of it", async () => {
    const server = await start({ bodies });
    const { said, sentBytes, length } = await trickle(server.port, {
      type: "application/json",
      ...{ bytes: 4_000, everyMs: 10, pieces: 1_000 },
    });
    expect(said).toMatch(/^HTTP\/1.1 408 /);
    expect(sentBytes).toBeLessThan(length);
  });

  test("is taken for much longer when it is an upload that keeps the least speed", async () => {
    const server = await start({ bodies });
    const startedMs = performance.now();
    const { said, length } = await trickle(server.port, { type: MULTIPART, bytes: 4_000, everyMs: 10, pieces: 60 });
    expect(performance.now() - startedMs).toBeGreaterThan(2 * bodies.bodyMs);
    expect(said).toMatch(/^HTTP\/1.1 200 /);
    expect(said).toContain(`"body":${length}`);
  });

  test("is cut when it is an upload slower than that, and its handler is told", async () => {
    const broken = Promise.withResolvers<void>();
    const server = await start({
      bodies,
      handler: async (request) => {
        await request.text().catch(() => broken.resolve());
        return new Response("whole");
      },
    });
    const { said, sentBytes } = await trickle(server.port, {
      type: MULTIPART,
      ...{ bytes: 10, everyMs: 10, pieces: 10_000 },
    });
    expect(said).toMatch(/^HTTP\/1.1 408 /);
    expect(sentBytes).toBeLessThan(10_000);
    await broken.promise;
  });

  test("has no longer time as an upload once it is answered", async () => {
    const server = await start({ bodies, handler: () => Promise.resolve(new Response("no", { status: 401 })) });
    const { said, sentBytes, length } = await trickle(server.port, {
      type: MULTIPART,
      ...{ bytes: 4_000, everyMs: 10, pieces: 1_000 },
    });
    expect(said).toMatch(/^HTTP\/1.1 401 /);
    expect(sentBytes).toBeLessThan(length);
  });
});
