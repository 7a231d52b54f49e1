import { once } from "node:events";
import { createServer, type Server, type ServerResponse } from "node:http";
import { Agent } from "undici";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { type SentRequest, sendRequest } from "./send-request.ts";

let server: Server;
let agent: Agent;
let answer: (response: ServerResponse) => void;
beforeEach(async () => {
  server = createServer((_request, response) => answer(response)).listen(0, "127.0.0.1");
  agent = new Agent();
  await once(server, "listening");
});
afterEach(async () => {
  await agent.destroy();
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
});

function ask(): SentRequest {
  const address = server.address();
  const port = typeof address === "object" && address !== null ? address.port : 0;
  return sendRequest(agent, { origin: `http://127.0.0.1:${port}`, path: "/", method: "POST", body: "{}" });
}

describe("a request", () => {
  test("gives its head, then all pieces of its body", async () => {
    answer = (response) => {
      response.writeHead(200, { "content-type": "text/plain" }).write("one ");
      response.end("two");
    };
    const { statusCode, headers, body } = await ask().head;
    expect([statusCode, headers["content-type"]]).toEqual([200, "text/plain"]);
    const pieces: Uint8Array[] = [];
    for await (const piece of body) pieces.push(piece);
    expect(Buffer.concat(pieces).toString()).toBe("one two");
  });

  test("ends its connection when its reader leaves, and when it is given up before its head", async () => {
    const closed: Promise<unknown>[] = [];
    const asked = Promise.withResolvers<void>();
    answer = (response) => {
      closed.push(once(response, "close"));
      if (closed.length === 1) response.write("one");
      else asked.resolve();
    };
    for await (const _ of (await ask().head).body) break;
    await closed[0];
    const second = ask();
    await asked.promise;
    second.abort();
    await expect(second.head).rejects.toThrow("given up");
    await closed[1];
  });

  test("throws what its connection failed with, after the pieces that came", async () => {
    answer = (response) => {
      response.writeHead(200, { "content-length": "10" });
      response.write("one", () => response.destroy());
    };
    const { body } = await ask().head;
    const pieces: string[] = [];
    await expect(
      (async () => {
        for await (const piece of body) pieces.push(Buffer.from(piece).toString());
      })(),
    ).rejects.toThrow();
    expect(pieces).toEqual(["one"]);
  });

  test("holds the line up while nobody reads, and loses nothing", async () => {
    const bytes = 8 * 1_048_576;
    const heldUp = Promise.withResolvers<void>();
    answer = (response) => {
      const piece = Buffer.alloc(65_536, 7);
      let sent = 0;
      const more = () => {
        while (sent < bytes) {
          sent += piece.length;
          if (!response.write(piece)) {
            if (sent > 1_048_576) heldUp.resolve();
            return void response.once("drain", more);
          }
        }
        response.end();
      };
      more();
    };
    const { body } = await ask().head;
    await heldUp.promise;
    let read = 0;
    for await (const piece of body) read += piece.length;
    expect(read).toBe(bytes);
  });
});
