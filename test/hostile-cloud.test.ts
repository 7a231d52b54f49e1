/**
 * A cloud provider that is broken, hostile or simply not one. Each fault ends the run once, under its own name, with a message that says what
 * was wrong and holds no key; nothing is followed, unpacked or kept without a bound.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { createServer, type Server } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { keptTlsIdentity, type TlsIdentity } from "../src/adapters/tls-identity/tls-identity.ts";
import type { CloudFailure } from "../src/ports/cloud.ts";
import {
  type Act,
  eventOf,
  FINISH,
  type HostileUpstream,
  raw,
  says,
  startHostileUpstream,
  status,
  stream,
  WELL,
} from "./support/hostile-upstream.ts";
import { CHAT, openUpstreamLab, SECRET, textOf, type UpstreamLab } from "./support/upstream-lab.ts";

let server: HostileUpstream;
let lab: UpstreamLab;
beforeAll(async () => {
  server = await startHostileUpstream();
  lab = openUpstreamLab();
});
afterAll(async () => {
  await lab.close();
  await server.stop();
});

async function failureOf(act: Act, more: Partial<Parameters<UpstreamLab["ask"]>[0]> = {}) {
  server.act(act);
  const events = await lab.ask({ baseUrl: server.baseUrl, ...more });
  const last = events.at(-1);
  if (last?.kind !== "failed") throw new Error(`it ended as ${JSON.stringify(last)}`);
  expect(events.filter(({ kind }) => kind === "failed" || kind === "end")).toHaveLength(1);
  expect(last.message).toMatch(/^provider acme: \S/);
  expect(JSON.stringify(events) + lab.logged.join("")).not.toContain(SECRET.slice(4, 14));
  return { ...last, text: textOf(events) };
}

/** Loopback, and in no certificate of ours. */
const OF_NO_CERTIFICATE = "127.0.0.2";
const CALL = { index: 0, id: "a", function: { name: "f", arguments: "" } };

const FAULTS: readonly (readonly [what: string, act: Act, failure: CloudFailure, message: RegExp])[] = [
  ["a page of HTML", raw("text/html", "<!doctype html><h1>Login</h1>"), "malformed", /page of HTML/],
  ["HTML that calls itself JSON", raw("application/json", "<html>"), "malformed", /page of HTML/],
  ["HTML that calls itself a stream", stream(["<html>"]), "malformed", /page of HTML/],
  ["another type of content", raw("application/octet-stream", "x"), "malformed", /octet-stream/],
  ["no type of content", raw(null, "{}"), "malformed", /unnamed type/],
  [
    "a 200 with an error body",
    status(200, { error: { message: "over quota" } }),
    "malformed",
    /200 with an error: over quota/,
  ],
  ["a 200 with an empty object", status(200, {}), "malformed", /no whole answer/],
  [
    "a 200 with an answer that is not whole",
    status(200, { choices: [{ index: 0, message: { content: "x" } }] }),
    "malformed",
    /no whole answer/,
  ],
  ["a 204", status(204, ""), "malformed", /204/],
  ["broken JSON", raw("application/json", '{"choices": ['), "malformed", /no JSON/],
  ["broken JSON in a stream", stream(['{"choices": [']), "malformed", /no JSON/],
  ["JSON of another form", stream([{ choices: "none" }]), "malformed", /choices/],
  ["a finish that nobody knows", stream([says({}, { finish: "because" })]), "malformed", /because/],
  [
    "text that is no UTF-8",
    raw("text/event-stream", Buffer.from([...Buffer.from("data: "), 0xff, 0xfe, 10, 10])),
    "malformed",
    /UTF-8/,
  ],
  [
    "an error in its stream",
    stream([says({ content: "x" }), { error: { message: "engine died" } }]),
    "overloaded",
    /engine died/,
  ],
  ["an error event", raw("text/event-stream", 'event: error\ndata: {"message":"boom"}\n\n'), "overloaded", /boom/],
  ["a finish that is an error", stream([says({ content: "x" }, { finish: "error" })]), "overloaded", /error/],
  ["half a stream that ends quietly", stream([says({ content: "x" })], { done: false }), "cut", /stopped/],
  ["half a stream that says it is done", stream([says({ content: "x" })]), "cut", /before the answer/],
  ["half a stream that is reset", stream([says({ content: "x" })], { done: false, end: "reset" }), "cut", /connection/],
  ["one choice of two", stream([FINISH]), "cut", /before the answer/],
  ["a choice that was not asked for", stream([says({ content: "x" }, { index: 5 })]), "malformed", /choice 5/],
  ["a choice with a negative number", stream([says({ content: "x" }, { index: -1 })]), "malformed", /index/],
  ["text after the end", stream([FINISH, says({ content: "more" })]), "malformed", /after its end/],
  ["two different ends", stream([FINISH, says({}, { finish: "length" })]), "malformed", /stop and then as length/],
  [
    "arguments before their call",
    stream([says({ tool_calls: [{ index: 0, function: { arguments: "{" } }] })]),
    "malformed",
    /out of order/,
  ],
  [
    "a second call before the first",
    stream([says({ tool_calls: [{ ...CALL, index: 1 }] })]),
    "malformed",
    /out of order/,
  ],
  [
    "a call that changes its name",
    stream([says({ tool_calls: [CALL] }), says({ tool_calls: [{ index: 0, function: { name: "g" } }] })]),
    "malformed",
    /changed/,
  ],
  [
    "a status of 401",
    status(401, { error: { message: `Incorrect API key provided: ${SECRET}` } }),
    "unauthorised",
    /Incorrect API key provided: \[key\]/,
  ],
  ["a status of 402", status(402, { error: { message: "pay" } }), "unauthorised", /pay/],
  ["a status of 403", status(403, "<html>"), "unauthorised", /403/],
  [
    "a status of 404",
    status(404, { error: { code: "model_not_found", message: "no such model" } }),
    "unknown-model",
    /no such model/,
  ],
  ["a status of 400", status(400, { error: { message: "n is too large" } }), "rejected", /n is too large/],
  ["a status of 422", status(422, { detail: [{ msg: "field" }] }), "rejected", /422/],
  ["a status of 500", status(500, "oops"), "overloaded", /500/],
  ["a status of 503", status(503, { message: "loading" }), "overloaded", /loading/],
  ["a status of 529", status(529, { error: "busy" }), "overloaded", /busy/],
];

describe("a provider that sends", () => {
  test.each(FAULTS)("%s", async (what, act, failure, message) => {
    const form = what === "one choice of two" ? ({ kind: "chat", body: { ...CHAT.body, n: 2 } } as const) : CHAT;
    const failed = await failureOf(act, { form });
    expect(failed.failure).toBe(failure);
    expect(failed.message).toMatch(message);
  });

  test("a redirect is not followed, and the key goes nowhere", async () => {
    const other = await startHostileUpstream();
    other.act(WELL);
    for (const code of [301, 302, 303, 307, 308]) {
      const location = `${other.baseUrl}/chat/completions`;
      const failed = await failureOf((response) => void response.writeHead(code, { location }).end());
      expect(failed).toMatchObject({ failure: "redirected" });
    }
    expect(other.asked).toEqual([]);
    await other.stop();
  });

  test.each([
    ["seconds", { "retry-after": "3" }, 3_000],
    ["milliseconds", { "retry-after-ms": "1500", "retry-after": "9" }, 1_500],
    ["a date in the past", { "retry-after": "Thu, 01 Jan 1970 00:00:00 GMT" }, 0],
    ["more than an hour", { "retry-after": "999999999" }, 3_600_000],
    ["nonsense", { "retry-after": "soon" }, null],
  ])("a 429 with %s to wait", async (_, headers, retryAfterMs) => {
    const failed = await failureOf(status(429, { error: { message: "slow down" } }, headers));
    expect(failed).toMatchObject({ failure: "rate-limited", retryAfterMs });
  });
});

describe("too much", () => {
  test("a stream that never ends is ended by its tokens", async () => {
    const failed = await failureOf(async (response, _, ended) => {
      response.writeHead(200, { "content-type": "text/event-stream" });
      await forever(response, { piece: eventOf(says({ content: "lorem ipsum dolor" })), ended });
    });
    expect(failed.failure).toBe("endless");
    expect(failed.text.length).toBeLessThan(64 * 32 + 2_048 + 20);
  });

  test("a stream of comments is ended by its bytes", async () => {
    const failed = await failureOf(async (response, _, ended) => {
      response.writeHead(200, { "content-type": "text/event-stream" });
      await forever(response, { piece: `: ${"x".repeat(60_000)}\n\n`, ended });
    });
    expect(failed).toMatchObject({ failure: "endless", text: "" });
  });

  test("a body that never ends is ended by its bytes", async () => {
    const failed = await failureOf(async (response, _, ended) => {
      response.writeHead(200, { "content-type": "application/json" });
      await forever(response, { piece: " ".repeat(65_536), ended });
    });
    expect(failed.failure).toBe("endless");
  });

  test("an event that never ends is ended by its length", async () => {
    const failed = await failureOf(async (response, _, ended) => {
      response.writeHead(200, { "content-type": "text/event-stream" });
      response.write('data: {"choices":[{"index":0,"delta":{"content":"');
      await forever(response, { piece: "a".repeat(65_536), ended });
    });
    expect(failed).toMatchObject({ failure: "malformed", text: "" });
    expect(failed.message).toMatch(/longer than 1048576/);
  });

  test("an error that never ends is read for its beginning", async () => {
    const failed = await failureOf(async (response, _, ended) => {
      response.writeHead(500, { "content-type": "text/plain" });
      await forever(response, { piece: "x".repeat(8_192), ended });
    });
    expect(failed.failure).toBe("overloaded");
  });

  test("headers beyond any measure", async () => {
    const failed = await failureOf((response) => {
      for (let count = 0; count < 40; count++) response.setHeader(`x-${count}`, "y".repeat(1_000));
      response.writeHead(200, { "content-type": "application/json" }).end("{}");
    });
    expect(failed).toMatchObject({ failure: "malformed" });
    expect(failed.message).toMatch(/headers/);
  });

  test("a packed answer is not unpacked", async () => {
    const bomb = gzipSync(Buffer.alloc(50_000_000, 32));
    const failed = await failureOf(raw("application/json", bomb, { "content-encoding": "gzip" }));
    expect(failed).toMatchObject({ failure: "malformed" });
    expect(failed.message).toMatch(/packed \(gzip\)/);
  });
});

describe("too late", () => {
  test("no answer at all", async () => {
    const failed = await failureOf(() => undefined, { firstTokenMsMax: 50 });
    expect(failed).toMatchObject({ failure: "too-slow" });
    expect(failed.message).toMatch(/nothing for 50 ms/);
  });

  test("signs of life are no first token", async () => {
    const failed = await failureOf(
      (response) => {
        response.writeHead(200, { "content-type": "text/event-stream" });
        response.write(`: processing\n\n${eventOf(says({ role: "assistant", content: "" }))}`);
      },
      { firstTokenMsMax: 50 },
    );
    expect(failed.failure).toBe("too-slow");
  });

  test("silence in mid-answer", async () => {
    const impatient = openUpstreamLab({ silentMsMax: 50 });
    server.act(stream([says({ content: "x" })], { done: false, end: false }));
    const events = await impatient.ask({ baseUrl: server.baseUrl });
    expect(events.at(-1)).toMatchObject({ kind: "failed", failure: "too-slow" });
    expect(textOf(events)).toBe("x");
    await impatient.close();
  });

  test("a drip that would take for ever is ended by the total", async () => {
    const failed = await failureOf(
      async (response, _, ended) => {
        response.writeHead(200, { "content-type": "text/event-stream" });
        let isOver = false;
        void ended.then(() => {
          isOver = true;
        });
        while (!isOver) {
          response.write(eventOf(says({ content: "." })));
          await new Promise((resolve) => setTimeout(resolve, 5));
        }
      },
      { totalMsMax: 100, tokensMax: 100_000 },
    );
    expect(failed.failure).toBe("too-slow");
    expect(failed.message).toMatch(/more than 100 ms/);
  });
});

describe("connections", () => {
  const at = (baseUrl: string) => lab.ask({ baseUrl });
  const lastOf = async (baseUrl: string) => (await at(baseUrl)).at(-1);

  test("nobody listens", async () => {
    const gone = await startHostileUpstream();
    await gone.stop();
    expect(await lastOf(gone.baseUrl)).toMatchObject({ kind: "failed", failure: "unreachable" });
  });

  test("a name that does not exist", async () => {
    expect(await lastOf("https://nobody.invalid/v1")).toMatchObject({ kind: "failed", failure: "unreachable" });
  });

  test("a connection that is closed before the answer", async () => {
    const failed = await failureOf((response) => void response.socket?.destroy());
    expect(failed).toMatchObject({ failure: "unreachable" });
  });

  test("something else than HTTP", async () => {
    const other = await listen(
      createServer((socket) => void socket.once("data", () => socket.end("SSH-2.0-OpenSSH_9.9\r\n"))),
    );
    expect(await lastOf(other.baseUrl)).toMatchObject({ kind: "failed", failure: "malformed" });
    await other.stop();
  });

  test("plain HTTP where TLS is due", async () => {
    const last = await lastOf(server.baseUrl.replace("http:", "https:"));
    expect(last).toMatchObject({ kind: "failed", failure: "unreachable" });
  });

  test("plain HTTP, a private name and the metadata service are never spoken to", async () => {
    const asked = server.asked.length;
    for (const baseUrl of [
      "http://api.example.com/v1",
      "http://169.254.169.254/v1",
      "https://[fd00:ec2::254]/v1",
      "ftp://127.0.0.1/v1",
    ]) {
      expect(await lastOf(baseUrl), baseUrl).toMatchObject({ kind: "failed", failure: "unreachable" });
    }
    expect(server.asked).toHaveLength(asked);
  });
});

describe("certificates", () => {
  let folder: string;
  let identity: TlsIdentity;
  let secure: HostileUpstream;
  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), "fallow-upstream-tls-"));
    identity = await keptTlsIdentity(join(folder, "identity"));
    secure = await startHostileUpstream({ tls: identity, host: OF_NO_CERTIFICATE });
    secure.act(WELL);
  });
  afterAll(async () => {
    await secure.stop();
    rmSync(folder, { recursive: true, force: true });
  });

  test("one that nobody vouches for is refused before anything is sent", async () => {
    const last = (await lab.ask({ baseUrl: secure.baseUrl })).at(-1);
    expect(last).toMatchObject({ kind: "failed", failure: "bad-certificate" });
    expect(secure.asked).toEqual([]);
  });

  test("one of another name is refused, also when somebody vouches for it", async () => {
    const trusting = openUpstreamLab({ extraCertificates: [identity.certificatePem] });
    const last = (await trusting.ask({ baseUrl: secure.baseUrl })).at(-1);
    expect(last).toMatchObject({ kind: "failed", failure: "bad-certificate" });
    expect(secure.asked).toEqual([]);
    await trusting.close();
  });

  test("one that is vouched for serves", async () => {
    const good = await startHostileUpstream({ tls: identity });
    good.act(WELL);
    const trusting = openUpstreamLab({ extraCertificates: [identity.certificatePem] });
    expect((await trusting.ask({ baseUrl: good.baseUrl })).at(-1)).toMatchObject({ kind: "end" });
    await trusting.close();
    await good.stop();
  });
});

async function forever(
  response: Parameters<Act>[0],
  { piece, ended }: { piece: string; ended: Promise<void> },
): Promise<void> {
  let isOver = false;
  void ended.then(() => {
    isOver = true;
  });
  while (!isOver) {
    if (!response.write(piece)) await Promise.race([ended, new Promise((resolve) => response.once("drain", resolve))]);
    await new Promise((resolve) => setImmediate(resolve));
  }
}

async function listen(other: Server): Promise<{ baseUrl: string; stop(): Promise<void> }> {
  await new Promise<void>((resolve) => other.listen(0, "127.0.0.1", resolve));
  const address = other.address();
  const port = typeof address === "object" && address !== null ? address.port : 0;
  return {
    baseUrl: `http://127.0.0.1:${port}/v1`,
    stop: () => new Promise((resolve) => other.close(() => resolve())),
  };
}
