/** Answers that are given once, seeds, logprobs, tool calls, draining. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { refuse } from "../src/domain/refusal.ts";
import type { Tokenizer } from "../src/ports/tokenizer.ts";
import { answering, eventsOf, GatewayFixture } from "./support/gateway-fixture.ts";
import { aTenant } from "./support/store-samples.ts";
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
describe("an idempotency key", () => {
  const once = { headers: { "idempotency-key": "k1" } };

  test("runs a request once and gives its answer again", async () => {
    grid.onGenerate = answering(grid, "once");
    const first = await grid.chat({}, once);
    const body = await first.text();
    const again = await grid.chat({}, once);
    expect([await again.text(), again.headers.get("idempotent-replayed")]).toEqual([body, "true"]);
    expect(again.headers.get("x-grid-receipt")).toBe(first.headers.get("x-grid-receipt"));
    expect(grid.generations).toHaveLength(1);
  });

  test("gives a stream again as the finished stream", async () => {
    grid.onGenerate = answering(grid, "once upon");
    const body = await (await grid.chat(stream, once)).text();
    const again = await grid.chat(stream, once);
    expect(await again.text()).toBe(body);
    expect(again.headers.get("content-type")).toContain("text/event-stream");
    expect(grid.generations).toHaveLength(1);
  });

  test("with other preferences in its headers is another request", async () => {
    grid.onGenerate = answering(grid, "once");
    expect(await (await grid.chat({}, once)).text()).toContain("once");
    const elsewhere = { headers: { ...once.headers, "x-grid-regions": "mars" } };
    const refusedNow = await grid.chat({}, elsewhere);
    expect([refusedNow.status, refusedNow.headers.get("idempotent-replayed")]).toEqual([400, null]);
    expect((await grid.chat({}, once)).headers.get("idempotent-replayed")).toBe("true");
  });

  test("with another body, or while the first runs, is refused", async () => {
    const running = grid.chat({}, once);
    const [generation] = await grid.asked(1);
    const meanwhile = await grid.chat({}, once);
    expect([meanwhile.status, meanwhile.headers.get("retry-after")]).toEqual([409, "1"]);
    const other = await grid.chat({ seed: 5 }, once);
    expect([other.status, await other.json()]).toMatchObject([400, { error: { code: "idempotency_key_reused" } }]);
    generation?.end("length");
    expect((await running).status).toBe(200);
  });

  test("is free again after a failure", async () => {
    grid.onGenerate = (generation) => generation.fail(refuse("no-capacity", "none").reason);
    expect((await grid.chat({}, once)).status).toBe(503);
    expect((await grid.chat({ n: 99 }, once)).status).toBe(400);
    grid.onGenerate = answering(grid, "now");
    expect((await grid.chat({}, once)).status).toBe(200);
  });
});

describe("the rest", () => {
  test("a seed repeats for its tenant and choice, and without one every request draws anew", async () => {
    grid.onGenerate = answering(grid, "x");
    for (const fields of [{ seed: 7 }, { seed: 7, n: 2 }, { seed: 8 }, {}, {}]) await (await grid.chat(fields)).text();
    const [first, again, second, other, free, freeAgain] = grid.generations.map(({ request }) => request.seed);
    expect(again).toBe(first);
    expect(new Set([first, second, other, free, freeAgain]).size).toBe(5);
  });

  test("logprobs carry the bytes of each token, also of half a character", async () => {
    grid.onGenerate = (generation) => {
      void grid.ids("é😀").then((ids) => {
        for (const id of ids)
          generation.send([id], { logprob: -0.5, top: [{ tokenId: id, logprob: Number.NEGATIVE_INFINITY }] });
        generation.end("length");
      });
    };
    const answer: {
      choices: {
        message: { content: string };
        logprobs: { content: { bytes: number[]; top_logprobs: { logprob: number }[] }[] };
      }[];
    } = JSON.parse(await (await grid.chat({ logprobs: true, top_logprobs: 1 })).text());
    const [choice] = answer.choices;
    const bytes = choice?.logprobs.content.flatMap((entry) => entry.bytes) ?? [];
    expect(new TextDecoder().decode(Uint8Array.from(bytes))).toBe(choice?.message.content);
    expect(choice?.message.content).toBe("é😀");
    expect(choice?.logprobs.content[0]?.top_logprobs[0]?.logprob).toBe(-9999);
    const streamed = await (await grid.chat({ ...stream, logprobs: true })).text();
    const streamedTokens = eventsOf(streamed).events.flatMap((event) =>
      event.choices.flatMap((one) => one.logprobs?.content ?? []),
    );
    expect(streamedTokens.map((entry) => entry.bytes)).toEqual(choice?.logprobs.content.map((entry) => entry.bytes));
  });

  test("tool calls are read out of the text, whole and as deltas", async () => {
    grid.onGenerate = answering(grid, 'Wait. <tool_call>{"name": "f", "arguments": {"a": 1}}</tool_call>');
    const tools = [{ type: "function", function: { name: "f" } }];
    const whole: { choices: unknown[] } = JSON.parse(await (await grid.chat({ tools })).text());
    expect(whole.choices[0]).toMatchObject({
      message: {
        content: "Wait. ",
        tool_calls: [
          {
            id: expect.stringMatching(/^call_[0-9a-f]{24}$/),
            type: "function",
            function: { name: "f", arguments: '{"a": 1}' },
          },
        ],
      },
      finish_reason: "tool_calls",
    });
    const { events } = eventsOf(await (await grid.chat({ ...stream, tools })).text());
    const calls = events.flatMap((event) => event.choices.flatMap(({ delta }) => delta["tool_calls"] ?? [])).flat();
    expect(calls[0]).toMatchObject({
      index: 0,
      id: expect.stringMatching(/^call_/),
      type: "function",
      function: { name: "f", arguments: "" },
    });
    const pieces = calls.slice(1).map((call) => JSON.parse(JSON.stringify(call)).function.arguments);
    expect(pieces.join("")).toBe('{"a": 1}');
    const none: { choices: { message: { content: string } }[] } = JSON.parse(
      await (await grid.chat({ tools, tool_choice: "none" })).text(),
    );
    expect(none.choices[0]?.message.content).toContain("<tool_call>");
  });

  test("draining refuses new requests and waits for those that run", async () => {
    const response = grid.chat(stream);
    const [generation] = await grid.asked(1);
    generation?.send(await grid.ids("And"));
    const answer = await response;
    const drained = grid.gateway.drain(5_000);
    expect((await grid.chat()).status).toBe(503);
    expect((await grid.request("/ready")).status).toBe(503);
    generation?.end("length");
    await answer.text();
    await drained;
    expect(grid.gateway.openRequests()).toBe(0);
  });

  test("a tenant without funds gets nothing, and no node is asked", async () => {
    await grid.store.tenants.create(aTenant(2));
    await grid.addKey(30, "fal_no-funds", { tenantId: aTenant(2).tenantId });
    const response = await grid.chat({}, { headers: { authorization: "Bearer fal_no-funds" } });
    expect([response.status, response.headers.get("x-should-retry")]).toEqual([429, "false"]);
    expect(await response.json()).toMatchObject({ error: { code: "insufficient_quota", type: "insufficient_quota" } });
    expect(grid.generations).toHaveLength(0);
  });
});

describe("an answer tells where it came from", () => {
  test("in headers: tier, node, class, region, wait, cost and receipt, the whole of it where it is asked for", async () => {
    grid.onGenerate = answering(grid, "yes");
    const response = await grid.chat({ service_tier: "flex", grid: { receipt: true } });
    const body = await response.json();
    expect(Object.fromEntries(response.headers)).toMatchObject({
      "x-grid-tier": "flex",
      "x-grid-queue-ms": "0",
      "x-grid-cost-usd": expect.stringMatching(/^0\.0000\d\d$/),
      "x-grid-receipt": expect.stringMatching(/^rcpt_/),
    });
    expect(response.headers.has("x-grid-energy-j")).toBe(false);
    expect(body).toMatchObject({
      service_tier: "flex",
      choices: [{ message: { content: "yes" } }],
      grid: { receipt: { body: { receiptId: response.headers.get("x-grid-receipt"), tier: "flex" } } },
    });
  });

  test("in a stream: at its beginning what is known then, at its end in comments", async () => {
    grid.onGenerate = answering(grid, "yes");
    const response = await grid.chat({ stream: true, grid: { receipt: true } });
    expect(response.headers.get("x-grid-tier")).toBe("default");
    const text = await response.text();
    expect(text).toMatch(/\n: receipt rcpt_\S+ cost_usd 0\.0000\d\d\n: grid_receipt \{"body":.*\}\n\ndata: \[DONE\]/);
  });
});
