/** Answers as streams: what is written when, what it costs, and what happens when somebody leaves. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { refuse } from "../src/domain/refusal.ts";
import type { Tokenizer } from "../src/ports/tokenizer.ts";
import { chatChunkSchema, completionSchema } from "../src/wire/openai/responses.ts";
import { answering, eventsOf, GatewayFixture } from "./support/gateway-fixture.ts";
import { openTiny } from "./support/tokenizer-fixture.ts";

let tokenizer: Tokenizer;
let closeTokenizer: () => Promise<void>;
let grid: GatewayFixture;

beforeAll(async () => {
  ({ tokenizer, close: closeTokenizer } = await openTiny());
});
afterAll(async () => {
  await closeTokenizer();
});
beforeEach(async () => {
  grid = await GatewayFixture.open(tokenizer);
});
afterEach(async () => {
  await grid.close();
});

const stream = { stream: true, stream_options: { include_usage: true } };
const text = (body: string, choice = 0) =>
  eventsOf(body)
    .events.flatMap((event) => event.choices ?? [])
    .filter((one) => one.index === choice)
    .map((one) => one.text ?? one.delta["content"] ?? "")
    .join("");

/** Reads one piece of a stream. */
async function piece(reader: ReadableStreamDefaultReader<Uint8Array>): Promise<string | null> {
  const step = await reader.read();
  return step.done ? null : new TextDecoder().decode(step.value);
}

function readerOf(response: Response): ReadableStreamDefaultReader<Uint8Array> {
  if (response.body === null) throw new Error("the answer has a body");
  return response.body.getReader();
}

/** Lets promises that are due run, without a clock. */
async function settled(isDone: () => boolean | Promise<boolean>): Promise<void> {
  for (let turn = 0; turn < 10_000 && !(await isDone()); turn++) await new Promise((resolve) => setImmediate(resolve));
  expect(await isDone()).toBe(true);
}

describe("a stream", () => {
  test("has chunks of OpenAI's shape, usage when asked for, and ends with [DONE]", async () => {
    grid.onGenerate = answering(grid, "In the beginning — 漢字 😀.");
    const response = await grid.chat(stream);
    expect(response.headers.get("content-type")).toBe("text/event-stream; charset=utf-8");
    const body = await response.text();
    const { events, isDone } = eventsOf(body);
    expect(isDone).toBe(true);
    for (const event of events) chatChunkSchema.parse(event);
    expect(text(body)).toBe("In the beginning — 漢字 😀.");
    expect(events[0]?.choices[0]?.delta).toEqual({ role: "assistant", content: "", refusal: null });
    expect(events.at(-2)?.choices[0]).toMatchObject({ delta: {}, finish_reason: "stop" });
    expect(events.at(-1)).toMatchObject({ choices: [], usage: { prompt_tokens: expect.any(Number) } });
    expect(events.slice(0, -1).every((event) => event.usage === null)).toBe(true);
    expect(await grid.spent()).toBe(
      (events.at(-1)?.usage?.prompt_tokens ?? 0) + 2 * (events.at(-1)?.usage?.completion_tokens ?? 0),
    );
  });

  test("of several choices and of completions keeps each apart", async () => {
    grid.onGenerate = (generation) => answering(grid, `choice ${generation.request.choice}`)(generation);
    const chat = await (await grid.chat({ ...stream, n: 3 })).text();
    for (const choice of [0, 1, 2]) expect(text(chat, choice)).toBe(`choice ${choice}`);
    const prompts = { model: "tiny", prompt: ["a", "b"], ...stream };
    const completions = await (await grid.request("/v1/completions", prompts)).text();
    for (const event of eventsOf(completions).events) completionSchema.parse(event);
    for (const choice of [0, 1]) expect(text(completions, choice)).toBe(`choice ${choice}`);
    const seeds = grid.generations.map((generation) => generation.request.seed);
    expect(new Set(seeds).size).toBe(seeds.length);
  });

  test("of a client that is slower than the engine carries several tokens in one event", async () => {
    const response = grid.chat(stream);
    const [generation] = await grid.asked(1);
    const ids = await grid.ids("And God said, Let there be light");
    generation?.start();
    generation?.send([ids[0] ?? 0]);
    const reader = readerOf(await response);
    for (const id of ids.slice(1)) generation?.send([id]);
    const first = eventsOf((await piece(reader)) ?? "").events;
    expect(first).toHaveLength(2);
    expect(first[1]?.choices[0]?.delta["content"]).toBe("And God said, Let there be light");
    await reader.cancel();
  });

  test("says how it ended only after its charge is on disk", async () => {
    const response = grid.chat(stream);
    const [generation] = await grid.asked(1);
    generation?.send(await grid.ids("Amen"));
    generation?.end("length");
    const reader = readerOf(await response);
    const open = (await piece(reader)) ?? "";
    expect(open).toContain('"finish_reason":"length"');
    expect(open).not.toContain("[DONE]");
    expect(await grid.store.receipts.leafCount()).toBe(0);
    const rest = (await piece(reader)) ?? "";
    expect(rest).toContain("[DONE]");
    expect(await grid.store.receipts.leafCount()).toBe(1);
    expect(rest).toMatch(/: receipt rcpt_\w+ cost_usd 0\.0000\d\d/);
  });

  test("holds back what may become a stop string, and never shows it", async () => {
    const response = grid.chat({ ...stream, stop: ["light.", "xyz"] });
    const [generation] = await grid.asked(1);
    generation?.send(await grid.ids("Let there be light"));
    const reader = readerOf(await response);
    expect(text((await piece(reader)) ?? "")).toBe("Let there be ");
    generation?.send(await grid.ids(". And there was"));
    const end = (await piece(reader)) ?? "";
    expect(end).toContain('"finish_reason":"stop"');
    expect(text(end)).toBe("");
    expect(generation?.finishedBy).toBe("stop-string");
    await reader.read();
  });

  test("that never met its stop string shows what was held back", async () => {
    const response = grid.chat({ ...stream, stop: "light." });
    const [generation] = await grid.asked(1);
    generation?.send(await grid.ids("there be light"));
    generation?.end("length");
    expect(text(await (await response).text())).toBe("there be light");
  });

  test("that fails in its middle ends with an error event and without [DONE], and is free", async () => {
    const response = grid.chat(stream);
    const [generation] = await grid.asked(1);
    generation?.send(await grid.ids("And God"));
    const answer = await response;
    generation?.fail(refuse("upstream-lost", "the node was lost, and no other took over").reason);
    const body = await answer.text();
    const { events, isDone } = eventsOf(body);
    expect(isDone).toBe(false);
    expect(text(body.replace(/data: \{"error.*\n/, ""))).toBe("And God");
    expect(events.at(-1)?.error).toMatchObject({
      code: "upstream_lost",
      message: "the node was lost, and no other took over",
    });
    expect(body).not.toContain('"finish_reason":"stop"');
    expect(await grid.spent()).toBe(0);
    expect((await grid.balance()).held).toBe(0);
  });

  test("that is refused before its first token is an error with its status", async () => {
    for (const isStream of [true, false]) {
      grid.onGenerate = (generation) =>
        generation.fail(refuse("queue-full", "the queue is full", { retryAfterMs: 2_500 }).reason);
      const response = await grid.chat({ stream: isStream });
      expect([response.status, response.headers.get("retry-after"), response.headers.get("retry-after-ms")]).toEqual([
        503,
        "3",
        "2500",
      ]);
    }
    expect((await grid.balance()).held).toBe(0);
  });

  test("of flex that cannot start is OpenAI's 429, uncharged, and says whether to try again", async () => {
    grid.onGenerate = (generation) =>
      generation.fail(refuse("resource-unavailable", "no slot fell free", { retryAfterMs: 90_000 }).reason);
    const response = await grid.chat({ service_tier: "flex" });
    expect(response.status).toBe(429);
    expect(await response.json()).toMatchObject({ error: { code: "resource_unavailable" } });
    expect([response.headers.get("retry-after"), response.headers.get("x-should-retry")]).toEqual(["90", "true"]);
    expect(await grid.balance()).toEqual({ available: 10_000_000, held: 0 });
    const [flex] = grid.generations;
    expect(flex?.request.terms).toMatchObject({ tier: "flex", deadlineMs: 1_200_000, startWithinMs: 600_000 });
  });

  test("that fails after another choice ended cancels nothing that is over, and is free", async () => {
    const response = grid.chat({ n: 2 });
    const [first, second] = await grid.asked(2);
    first?.send(await grid.ids("one"));
    first?.end("length");
    second?.fail(refuse("upstream-lost", "gone").reason);
    expect((await response).status).toBe(502);
    expect(first?.finishedBy).toBe(null);
    expect(await grid.spent()).toBe(0);
  });
});

describe("a client that leaves", () => {
  test("in mid-stream cancels its generation and pays for what was written to it", async () => {
    const response = grid.chat(stream);
    const [generation] = await grid.asked(1);
    const ids = await grid.ids("And God said");
    generation?.send(ids);
    const reader = readerOf(await response);
    await piece(reader);
    generation?.send(await grid.ids(", Let there be light"));
    await reader.cancel();
    expect(generation?.finishedBy).toBe("cancelled");
    await settled(async () => (await grid.balance()).held === 0);
    expect(await grid.spent()).toBe((generation?.request.promptTokenIds.length ?? 0) + 2 * ids.length);
    const [receipt] = await grid.store.receipts.list({ limit: 1 });
    expect(receipt?.outputTokens).toBe(ids.length);
    expect(receipt?.bodyJson).toContain('"finishReason":"cancelled"');
  });

  test("before anything was written pays nothing", async () => {
    for (const isStream of [true, false]) {
      const leaving = new AbortController();
      const response = grid.chat({ stream: isStream }, { signal: leaving.signal });
      const generation = (await grid.asked(isStream ? 1 : 2)).at(-1);
      generation?.start();
      leaving.abort();
      await response;
      expect(generation?.finishedBy).toBe("cancelled");
      await settled(async () => (await grid.balance()).held === 0);
    }
    expect(await grid.spent()).toBe(0);
    await settled(() => grid.gateway.openRequests() === 0);
  });

  test("while its whole answer is being made pays nothing", async () => {
    const leaving = new AbortController();
    const response = grid.chat({}, { signal: leaving.signal });
    const [generation] = await grid.asked(1);
    generation?.send(await grid.ids("And God"));
    await settled(() => true);
    leaving.abort();
    expect((await response).status).toBe(499);
    await settled(async () => (await grid.balance()).held === 0);
    expect(await grid.spent()).toBe(0);
  });

  test("without a word, reading nothing, is cut after the bound", async () => {
    const response = grid.chat(stream);
    const [generation] = await grid.asked(1);
    generation?.send(await grid.ids("And God said"));
    const reader = readerOf(await response);
    await piece(reader);
    generation?.send(await grid.ids(", Let there be"));
    await grid.pass(59_000);
    expect(generation?.finishedBy).toBe(null);
    expect(grid.connectionsCut).toBe(0);
    await grid.pass(1_500);
    expect(generation?.finishedBy).toBe("cancelled");
    expect(grid.connectionsCut).toBe(1);
    await settled(async () => (await grid.balance()).held === 0);
    expect(await piece(reader)).toBe(null);
  });

  test("is not one that waits for a slow engine", async () => {
    const response = grid.chat(stream);
    const [generation] = await grid.asked(1);
    generation?.send(await grid.ids("And"));
    const reader = readerOf(await response);
    await piece(reader);
    const next = piece(reader);
    await grid.pass(300_000);
    generation?.send(await grid.ids(" God"));
    expect(text((await next) ?? "")).toBe(" God");
    await reader.cancel();
  });

  test("among a thousand that read nothing costs memory for token ids only", async () => {
    grid.onGenerate = (generation) => generation.send([5]);
    const responses = await Promise.all(Array.from({ length: 1_000 }, () => grid.chat({ ...stream, max_tokens: 500 })));
    const before = process.memoryUsage().heapUsed;
    for (const generation of grid.generations) for (let sent = 0; sent < 499; sent++) generation.send([300]);
    globalThis.gc?.();
    const perStream = (process.memoryUsage().heapUsed - before) / 1_000;
    // 499 ids of 8 bytes in an array that doubles, and garbage where the process cannot collect it.
    expect(perStream).toBeLessThan(globalThis.gc === undefined ? 400_000 : 20_000);
    await grid.pass(61_000);
    await settled(() => grid.gateway.openRequests() === 0);
    expect((await grid.balance()).held).toBe(0);
    expect(await grid.spent()).toBe(0);
    await Promise.all(responses.map((response) => response.body?.cancel()));
  });
});
