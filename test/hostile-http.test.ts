/** Clients that send too much, too deep, too slowly or nonsense. Each gets a clear answer, and others are served meanwhile. */
import { connect, type Socket } from "node:net";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { HTTP_BOUNDS } from "../src/adapters/http-server/http-server.ts";
import { exchange, field, list, readWhole } from "./support/exchange.ts";
import { type Grid, startGrid } from "./support/grid.ts";
import { adminGet, askText, expectBalanced, until } from "./support/grid-console.ts";
import { canReadMemory, forgetPeak, peakBytes, residentBytes } from "./support/process-memory.ts";

const MEBIBYTE = 1024 ** 2;
const HUGE_BYTES = 100 * MEBIBYTE;
/** What one oversized body may cost: its bound of 10 MiB, a few times over while it is read and parsed. */
const GROWTH_MAX_BYTES = 80 * MEBIBYTE;
const QUESTION = { prompt: "In the beginning", tokens: 16, seed: 3 } as const;

let grid: Grid;
let port: number;
let text: string;

beforeAll(async () => {
  grid = await startGrid();
  port = Number(new URL(grid.baseUrl).port);
  text = await askText(grid, QUESTION);
});
afterAll(async () => {
  await grid.stop();
});

const expectServing = async () => {
  expect(await askText(grid, QUESTION)).toBe(text);
  await expectBalanced(grid);
};
const post = (body: unknown, headers: Readonly<Record<string, string>> = {}) =>
  exchange({ url: `${grid.apiUrl}/chat/completions`, key: grid.apiKey, body, headers });

describe("a body", () => {
  it("of 100 MB that says its length is refused before it is read", async () => {
    const grown = await growthWhile(async () => {
      const answer = await rawExchange(
        `POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${grid.apiKey}\r\n` +
          `content-type: application/json\r\ncontent-length: ${HUGE_BYTES}\r\n\r\n`,
        { flood: "x".repeat(MEBIBYTE), floodBytes: HUGE_BYTES },
      );
      expect(answer).toMatch(/^HTTP\/1\.1 413 /);
      expect(answer).toContain("at most");
    });
    expect(grown).toBeLessThan(GROWTH_MAX_BYTES);
    await expectServing();
  });

  it("of 100 MB in chunks without a length is refused at the bound", async () => {
    const part = `${MEBIBYTE.toString(16)}\r\n${"x".repeat(MEBIBYTE)}\r\n`;
    const grown = await growthWhile(async () => {
      const answer = await rawExchange(
        `POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${grid.apiKey}\r\n` +
          "content-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n",
        { flood: part, floodBytes: HUGE_BYTES },
      );
      expect(answer).toMatch(/^HTTP\/1\.1 413 /);
    });
    expect(grown).toBeLessThan(GROWTH_MAX_BYTES);
    await expectServing();
  });

  it("that nests a million deep is refused by its depth", async () => {
    for (const body of [
      "[".repeat(1_000_000),
      `{"a":`.repeat(1_000_000),
      `{"model":"tiny","x":${"[".repeat(100)}${"]".repeat(100)}}`,
    ]) {
      const answer = await post(body);
      expect(answer.status).toBe(400);
      expect(readWhole(answer.body).error?.message).toMatch(/nests deeper than \d+ levels/);
    }
    await expectServing();
  });

  it("that is no UTF-8 is refused with the place of the first wrong byte", async () => {
    const body = Buffer.concat([
      Buffer.from('{"model":"tiny","prompt":"'),
      Buffer.from([0xc3, 0x28]),
      Buffer.from('"}'),
    ]);
    const answer = await post(body);
    expect(answer.status).toBe(400);
    expect(readWhole(answer.body).error?.message).toContain("position 26");
  });

  it("of the wrong shape is refused by the name of what is wrong", async () => {
    const message = { role: "user", content: "hello" };
    const cases: readonly (readonly [unknown, RegExp])[] = [
      ["", /empty/],
      ["{", /JSON/],
      ["null", /object/i],
      [{ model: "tiny", messages: [] }, /messages/],
      [{ model: "tiny", messages: "hello" }, /messages/],
      [{ model: "tiny", messages: [{ role: "wizard", content: "x" }] }, /role/],
      [{ model: "tiny", messages: [message], temperature: "hot" }, /temperature/],
      [{ model: "tiny", messages: [message], n: 1e9 }, /\bn\b/],
      [{ model: "tiny", messages: [message], max_tokens: -1 }, /max_tokens/],
      [{ model: "tiny", messages: [message], surprise: true }, /surprise/],
      [{ model: 7, messages: [message] }, /model/],
      [{ model: "tiny", messages: [{ role: "user", content: "word ".repeat(5_000) }] }, /token/],
    ];
    for (const [body, said] of cases) {
      const answer = await post(body);
      expect(answer.status, `${JSON.stringify(body).slice(0, 100)}: ${answer.body}`).toBe(400);
      expect(readWhole(answer.body).error?.message).toMatch(said);
    }
    await expectServing();
  });

  it("that is cut in the middle charges nothing", async () => {
    const socket = await open();
    socket.write(
      `POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${grid.apiKey}\r\n` +
        'content-type: application/json\r\ncontent-length: 1000\r\n\r\n{"model":"tiny",',
    );
    socket.destroy();
    await expectServing();
  });
});

describe("headers", () => {
  it("of a megabyte, or ten thousand of them, are refused with 431", async () => {
    const long = `x-long: ${"x".repeat(MEBIBYTE)}\r\n`;
    const many = Array.from({ length: 10_000 }, (_, at) => `x-${at}: y\r\n`).join("");
    for (const headers of [long, many]) {
      const answer = await rawExchange(`GET /v1/models HTTP/1.1\r\nhost: x\r\n${headers}\r\n`);
      expect(answer).toMatch(/^HTTP\/1\.1 431 /);
    }
    await expectServing();
  });

  it("that trickle in hold a connection no longer than the bound, and nobody waits for them", async () => {
    const startedMs = performance.now();
    const sockets = await Promise.all(Array.from({ length: 300 }, () => open()));
    const closed = sockets.map((socket) => new Promise<void>((resolve) => socket.once("close", () => resolve())));
    for (const socket of sockets) socket.write("GET /v1/models HTTP/1.1\r\nhost: x\r\n");
    const trickle = setInterval(() => {
      for (const socket of sockets) if (socket.writable) socket.write("x-slow: y\r\n");
    }, 500);
    await expectServing();
    await Promise.all(closed);
    clearInterval(trickle);
    // Twice the interval at which the server looks, for a busy machine.
    expect(performance.now() - startedMs).toBeLessThan(HTTP_BOUNDS.headersMs + 3 * HTTP_BOUNDS.checkMs);
    await expectServing();
  });

  it("that are no HTTP are refused", async () => {
    for (const said of ["\u0016\u0003\u0001\u0002", "GET\r\n\r\n", "SSH-2.0-OpenSSH_9.0\r\n", "\0".repeat(1_000)]) {
      expect(await rawExchange(said)).toMatch(/^(HTTP\/1\.1 400 .*|)/);
    }
    await expectServing();
  });
});

describe("keys", () => {
  it("that are wrong, missing or mangled are refused, a thousand at once too", async () => {
    const ask = (key: string | null, headers: Readonly<Record<string, string>> = {}) =>
      exchange({ url: `${grid.apiUrl}/models`, key, headers });
    for (const key of [null, "wrong", "sk-fallow-", `${grid.apiKey}x`, "x".repeat(4_000)]) {
      expect((await ask(key)).status).toBe(401);
    }
    expect((await ask(null, { authorization: "Basic Zm9vOmJhcg==" })).status).toBe(401);
    const many = await Promise.all(Array.from({ length: 1_000 }, (_, at) => ask(`sk-fallow-${at}`)));
    expect(new Set(many.map(({ status }) => status))).toEqual(new Set([401]));
    await expectServing();
  });
});

describe("a thousand clients that open streams and read nothing", () => {
  it("cost bounded memory, and others are served", async () => {
    const before = canReadMemory ? residentBytes(grid.pid) : 0;
    const body = JSON.stringify({
      model: "tiny",
      prompt: "And",
      max_tokens: 48,
      logprobs: 5,
      ignore_eos: true,
      stream: true,
    });
    const sockets = await Promise.all(Array.from({ length: 1_000 }, () => open()));
    for (const socket of sockets) {
      socket.pause();
      socket.write(
        `POST /v1/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${grid.apiKey}\r\n` +
          `content-type: application/json\r\ncontent-length: ${body.length}\r\n\r\n${body}`,
      );
    }
    let mostOpen = 0;
    await until("most of the thousand run or wait", async () => {
      const requests = field(await adminGet(grid, "/status"), "requests");
      mostOpen = Math.max(mostOpen, Number(field(requests, "inFlight")) + Number(field(requests, "queued")));
      return mostOpen >= 700;
    });
    const first = await exchange({ url: `${grid.apiUrl}/models`, key: grid.apiKey });
    expect(first.status).toBe(200);
    const urgent = await exchange({
      url: `${grid.apiUrl}/completions`,
      key: grid.apiKey,
      body: { model: "tiny", prompt: "And", max_tokens: 4, service_tier: "priority" },
    });
    expect(urgent.status, urgent.body).toBe(200);
    if (canReadMemory) expect(residentBytes(grid.pid) - before).toBeLessThan(250 * MEBIBYTE);
    for (const socket of sockets) socket.destroy();
    await expectServing();
  });
});

describe("a client that reads nothing of what it asked for", () => {
  it("is gone after the bound, pays for what was written to it, and its slots are free", async () => {
    const boundS = 1;
    await using impatient = await startGrid({ args: ["--threads", "1", "--client-stall", String(boundS)] });
    const before = await askText(impatient, QUESTION);
    const asked = { choices: 8, tokens: 900 };
    // Large events: the operating system takes some megabytes of a stream before it notices that nobody reads.
    const body = JSON.stringify({
      model: "tiny",
      messages: [{ role: "user", content: "And" }],
      max_completion_tokens: asked.tokens,
      n: asked.choices,
      logprobs: true,
      top_logprobs: 20,
      ignore_eos: true,
      stream: true,
    });
    const socket = await open(Number(new URL(impatient.baseUrl).port));
    socket.pause();
    socket.write(
      `POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${impatient.apiKey}\r\n` +
        `content-type: application/json\r\ncontent-length: ${body.length}\r\n\r\n${body}`,
    );
    const gone = /clients_gone_total\{[^}]*cause="stalled"[^}]*\} 1\b/;
    await until("the client is taken for gone", async () => {
      const metrics = await exchange({ url: `${impatient.baseUrl}/metrics`, key: impatient.apiKey });
      return gone.test(metrics.body);
    });
    await until("nothing runs any more", async () => {
      const status = await adminGet(impatient, "/status");
      return field(field(status, "requests"), "inFlight") === 0 && field(field(status, "requests"), "settled") === 2;
    });
    const [receipt] = list(field(await adminGet(impatient, "/requests"), "requests"));
    expect(Number(field(receipt, "outputTokens"))).toBeGreaterThan(0);
    expect(Number(field(receipt, "outputTokens"))).toBeLessThan(asked.choices * asked.tokens);
    expect(await askText(impatient, QUESTION)).toBe(before);
    await expectBalanced(impatient);
    socket.destroy();
  });
});

/** By how much the coordinator's memory rose above what it was, at its highest. */
async function growthWhile(work: () => Promise<void>): Promise<number> {
  if (!canReadMemory) {
    await work();
    return 0;
  }
  const before = residentBytes(grid.pid);
  forgetPeak(grid.pid);
  await work();
  return peakBytes(grid.pid) - before;
}

function open(toPort = port): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect({ port: toPort, host: "127.0.0.1" }, () => {
      socket.off("error", reject);
      // A server that cuts a hostile client is what is wanted.
      socket.on("error", () => socket.destroy());
      resolve(socket);
    });
    socket.once("error", reject);
  });
}

/** Sends bytes as they are and answers what came until the server closed. */
async function rawExchange(head: string, more: { flood: string; floodBytes: number } | null = null): Promise<string> {
  const socket = await open();
  let answer = "";
  socket.setEncoding("latin1");
  socket.on("data", (data: string) => {
    answer += data;
    // An answer has come: no need to wait for an idle connection's end.
    if (/\r\n\r\n[\s\S]*\}/.test(answer)) socket.destroySoon();
  });
  const closed = new Promise<void>((resolve) => socket.once("close", () => resolve()));
  socket.write(head);
  if (more !== null) {
    for (let sent = 0; sent < more.floodBytes && socket.writable && answer === ""; sent += more.flood.length) {
      if (socket.write(more.flood)) continue;
      await Promise.race([new Promise((resolve) => socket.once("drain", resolve)), closed]);
    }
  } else {
    socket.end();
  }
  await closed;
  return answer;
}
