/**
 * A server that was good when it was attached and is bad afterwards: each way in which one can be ends one request with its reason, and nothing
 * else. What is asked before is answered by a real engine's server behind it.
 */
import { mkdtemp, rm } from "node:fs/promises";
import {
  createServer,
  request as httpRequest,
  type IncomingMessage,
  type Server,
  type ServerResponse,
} from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { DEFAULT_SAMPLING } from "../src/domain/sampling.ts";
import type { Engine, GenerateEvent } from "../src/ports/engine.ts";
import { type AttachedFixture, attachedFixture } from "./support/attached-fixture.ts";
import { type RunningServer, startAttachedServer } from "./support/attached-servers.ts";
import { generate, taskOf } from "./support/engine-fixture.ts";
import { writeRandomModel } from "./support/random-model.ts";

type Deed = (response: ServerResponse) => void;

let upstream: RunningServer;
let front: Server;
let deed: Deed | null = null;
let isDead = false;
let fixture: AttachedFixture;
let engine: Engine;

beforeAll(async () => {
  upstream = await startAttachedServer("llama-server");
  front = createServer((request, response) => {
    if (isDead) request.socket.destroy();
    else if (deed !== null && request.url === "/completion") deed(response);
    else pass(request, response);
  });
  await new Promise<void>((resolve) => front.listen(0, "127.0.0.1", resolve));
  const address = front.address();
  const port = typeof address === "object" && address !== null ? address.port : 0;
  fixture = attachedFixture(`http://127.0.0.1:${port}`, {
    times: { firstByteMsMax: 400, silenceMsMax: 200, lookMs: 50 },
  });
  engine = await fixture.load();
});

afterAll(async () => {
  await fixture[Symbol.asyncDispose]();
  front.closeAllConnections();
  front.close();
  await upstream[Symbol.asyncDispose]();
});

function pass(request: IncomingMessage, response: ServerResponse): void {
  const { method, url = "/", headers } = request;
  const onward = httpRequest(`${upstream.url}${url}`, { method, headers }, (answer) => {
    response.writeHead(answer.statusCode ?? 500, answer.headers);
    answer.pipe(response);
  });
  onward.on("error", () => response.destroy());
  request.pipe(onward);
}

const event = (tokens: readonly number[], count: number, more: Record<string, unknown> = {}) =>
  `data: ${JSON.stringify({ content: ",", tokens, stop: false, tokens_predicted: count, ...more })}\n\n`;
const stream = (response: ServerResponse) => response.writeHead(200, { "content-type": "text/event-stream" });
const END = event([], 2, { content: "", stop: true, stop_type: "limit" });

interface Told {
  readonly tokenIds: readonly number[];
  readonly last: GenerateEvent;
}

function told(): Promise<Told> {
  const tokenIds: number[] = [];
  return new Promise((resolve) => {
    engine.generate(taskOf({ tokensMax: 8 }), (happened) => {
      if (happened.kind === "tokens") tokenIds.push(...happened.tokens.map(({ tokenId }) => tokenId));
      else resolve({ tokenIds, last: happened });
    });
  });
}

describe("a server that", () => {
  test.each<[string, Deed, string, number]>([
    ["answers with a page", (response) => response.end("<html>Welcome to the router</html>"), "engine-crashed", 0],
    [
      "sends elsewhere",
      (response) => response.writeHead(302, { location: "http://127.0.0.1:1/" }).end(),
      "engine-crashed",
      0,
    ],
    [
      "puts an error into a good answer",
      (response) => stream(response).end('data: {"error":{"message":"no memory"}}\n\n'),
      "engine-crashed",
      0,
    ],
    ["is overloaded", (response) => response.writeHead(503).end("{}"), "engine-overloaded", 0],
    ["refuses the request", (response) => response.writeHead(400).end('{"error":"bad"}'), "ability-missing", 0],
    ["breaks inside", (response) => response.writeHead(500).end("oops"), "engine-crashed", 0],
    ["ends half a stream", (response) => stream(response).end(event([17], 1) + event([308], 2)), "engine-crashed", 2],
    [
      "is cut in the midst of an event",
      (response) => stream(response).write(`${event([17], 1)}data: {"cont`, () => response.destroy()),
      "engine-crashed",
      1,
    ],
    ["repeats a token", (response) => stream(response).end(event([17], 1) + event([17], 1) + END), "engine-crashed", 1],
    [
      "counts backwards",
      (response) => stream(response).end(event([17], 2) + event([308], 1) + END),
      "engine-crashed",
      1,
    ],
    [
      "tells an id beyond the vocabulary",
      (response) => stream(response).end(event([999_999], 1)),
      "token-out-of-vocabulary",
      0,
    ],
    ["tells an id below zero", (response) => stream(response).end(event([17, -4], 2)), "token-out-of-vocabulary", 1],
    ["tells half an id", (response) => stream(response).end(event([1.5], 1)), "engine-crashed", 0],
    [
      "tells ids as words",
      (response) => stream(response).end('data: {"content":"","tokens":["a"],"stop":false}\n\n'),
      "engine-crashed",
      0,
    ],
    [
      "says that it reached a limit before the first token",
      (response) => stream(response).end(END),
      "engine-crashed",
      0,
    ],
    ["says nothing at all", () => undefined, "engine-hung", 0],
    ["says nothing more", (response) => void stream(response).write(event([17], 1)), "engine-hung", 1],
    [
      "sends one line without an end",
      (response) => {
        stream(response);
        const more = () => {
          while (!response.destroyed && response.write("x".repeat(65_536)));
          if (!response.destroyed) response.once("drain", more);
        };
        more();
      },
      "engine-crashed",
      0,
    ],
  ])("%s", async (_, act, code, tokens) => {
    deed = act;
    const { tokenIds, last } = await told();
    deed = null;
    expect(last).toMatchObject({ kind: "failed", code });
    expect(tokenIds).toHaveLength(tokens);
    expect((await generate(engine, { tokensMax: 4 })).tokenIds).toHaveLength(4);
  });

  test("never stops is stopped after as many tokens as were asked for", async () => {
    deed = (response) => {
      stream(response);
      let count = 0;
      const timer = setInterval(() => response.write(event([17], ++count)), 1);
      response.once("close", () => clearInterval(timer));
    };
    const { tokenIds, last } = await told();
    deed = null;
    expect(last).toMatchObject({ kind: "end", reason: "length" });
    expect(tokenIds).toHaveLength(8);
  });

  test("ends early again and again is asked again from where it was, not for ever", async () => {
    let asked = 0;
    deed = (response) => {
      asked += 1;
      stream(response).end(event([17], 1) + event([], 1, { content: "", stop: true, stop_type: "limit" }));
    };
    const { tokenIds, last } = await told();
    deed = null;
    expect(last).toMatchObject({ kind: "end", reason: "length", usage: { outputTokens: 8 } });
    expect(tokenIds).toHaveLength(8);
    expect(asked).toBe(8);
  });

  test("stops without a token that ends a text gets one, so that the end is the model's own", async () => {
    deed = (response) =>
      stream(response).end(event([17], 1) + event([], 1, { content: "", stop: true, stop_type: "eos" }));
    const { tokenIds, last } = await told();
    deed = null;
    expect(last).toMatchObject({ kind: "end", reason: "stop-token" });
    expect(tokenIds).toHaveLength(2);
  });

  test("loses the ids of a character that takes several tokens is believed in its text", async () => {
    deed = (response) =>
      stream(response).end(
        event([17], 3, { content: "é!" }) +
          event([17], 4) +
          END.replace('"tokens_predicted":2', '"tokens_predicted":4'),
      );
    const { tokenIds } = await told();
    deed = null;
    expect(tokenIds.length).toBeGreaterThan(3);
  });
});

test("a server that goes away ends the engine and what runs on it, and one that comes back is loaded again", async () => {
  const other = attachedFixture(fixtureUrl(), { times: { firstByteMsMax: 5_000, silenceMsMax: 5_000, lookMs: 20 } });
  await using _ = other;
  const first = await other.load();
  deed = (response) => void stream(response).write(event([17], 1));
  const failed = new Promise<GenerateEvent>((resolve) => {
    first.generate(taskOf({ sampling: { ...DEFAULT_SAMPLING, temperature: 0 } }), (happened) => {
      if (happened.kind === "tokens") {
        isDead = true;
        front.closeAllConnections();
      } else resolve(happened);
    });
  });
  expect(await failed).toMatchObject({ kind: "failed", code: "engine-crashed" });
  expect(await first.exited).toMatchObject({ cause: "crashed" });
  await expect(other.load()).rejects.toMatchObject({ code: "attached-unreachable" });
  isDead = false;
  deed = null;
  expect((await generate(await other.load(), { tokensMax: 4 })).tokenIds).toHaveLength(4);
});

test("a server with another model is not taken for the catalogue's", async () => {
  const folder = await mkdtemp(join(tmpdir(), "fallow-attached-"));
  try {
    const weightsPath = join(folder, "other.gguf");
    await writeRandomModel(weightsPath, { fileBytes: 4_000_000, layerCount: 2 });
    await using other = attachedFixture(fixtureUrl());
    const load = other.load({ weightsPath });
    await expect(load).rejects.toMatchObject({
      code: "attached-model-differs",
      message: expect.stringContaining("an embedding length of 256, and it should be 512"),
    });
  } finally {
    await rm(folder, { recursive: true });
  }
});

function fixtureUrl(): string {
  const address = front.address();
  return `http://127.0.0.1:${typeof address === "object" && address !== null ? address.port : 0}`;
}
