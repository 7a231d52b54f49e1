/** Anthropic's `/v1/messages` over the real gateway: blocks, events, errors in its shape, and models as its clients list them. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { refuse } from "../src/domain/refusal.ts";
import type { Tokenizer } from "../src/ports/tokenizer.ts";
import {
  anthropicErrorSchema,
  anthropicModelListSchema,
  type Message,
  type MessageEvent,
  messageEventSchema,
  messageSchema,
} from "../src/wire/anthropic/message.ts";
import { errorBodySchema } from "../src/wire/openai/error.ts";
import { answering, GatewayFixture } from "./support/gateway-fixture.ts";
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

const HELLO = { model: "tiny", max_tokens: 256, messages: [{ role: "user", content: "Hello" }] };
const ask = (body: object) => grid.request("/v1/messages", { ...HELLO, ...body });
async function answered(body: object = {}): Promise<Message> {
  const response = await ask(body);
  const json: unknown = await response.json();
  expect(response.status, JSON.stringify(json)).toBe(200);
  return messageSchema.parse(json);
}
async function streamed(body: object = {}): Promise<readonly MessageEvent[]> {
  const text = await (await ask({ ...body, stream: true })).text();
  return text
    .split("\n\n")
    .filter((block) => block.startsWith("event: "))
    .map((block) => {
      const [name, data] = block.split("\n");
      const parsed = messageEventSchema.parse(JSON.parse((data ?? "").slice("data: ".length)));
      expect(name).toBe(`event: ${parsed.type}`);
      return parsed;
    });
}
const lastPrompt = (): string => {
  const ids = grid.generations.at(-1)?.request.promptTokenIds ?? [];
  return new TextDecoder().decode(Buffer.concat(ids.map((id) => grid.tokenizer.piece(id))));
};

const WEATHER = {
  name: "get_weather",
  input_schema: { type: "object", properties: { city: { enum: ["Oslo"] } }, required: ["city"] },
};
const CALL = '<tool_call>\n{"name": "get_weather", "arguments": {"city":"Oslo"}}\n</tool_call>';

describe("a message", () => {
  test("has text, a stop reason and usage, and costs what a chat costs", async () => {
    grid.onGenerate = answering(grid, "In the beginning.");
    const message = await answered({ system: [{ type: "text", text: "Be brief." }] });
    expect(message).toMatchObject({
      type: "message",
      role: "assistant",
      model: "tiny",
      content: [{ type: "text", text: "In the beginning." }],
      stop_reason: "end_turn",
      stop_sequence: null,
      usage: { service_tier: "standard" },
    });
    expect(await grid.spent()).toBe(message.usage.input_tokens + 2 * message.usage.output_tokens);
    expect(lastPrompt()).toContain("Be brief.");
  });

  test("streams Anthropic's events in their order", async () => {
    grid.onGenerate = answering(grid, "In the beginning.");
    const events = await streamed();
    const types = events.map((event) => event.type);
    expect(types.slice(0, 3)).toEqual(["message_start", "ping", "content_block_start"]);
    expect(types.slice(-3)).toEqual(["content_block_stop", "message_delta", "message_stop"]);
    expect(new Set(types.slice(3, -3))).toEqual(new Set(["content_block_delta"]));
    const text = events.map((event) =>
      event.type === "content_block_delta" && event.delta.type === "text_delta" ? event.delta.text : "",
    );
    expect(text.join("")).toBe("In the beginning.");
    const start = events[0]?.type === "message_start" ? events[0].message : null;
    const end = events.find((event) => event.type === "message_delta");
    expect(start?.usage.input_tokens).toBe(end?.usage.input_tokens);
    expect(start?.usage.output_tokens).toBe(0);
    expect(end?.usage.output_tokens).toBeGreaterThan(0);
  });

  test("calls tools, several at once, and takes their results", async () => {
    grid.onGenerate = answering(grid, `Let me look. ${CALL}${CALL}`);
    const message = await answered({ tools: [WEATHER] });
    expect(message.stop_reason).toBe("tool_use");
    expect(message.content.map((block) => block.type)).toEqual(["text", "tool_use", "tool_use"]);
    const calls = message.content.filter((block) => block.type === "tool_use");
    expect(calls.map((call) => call.input)).toEqual([{ city: "Oslo" }, { city: "Oslo" }]);
    expect(new Set(calls.map((call) => call.id)).size).toBe(2);
    const events = await streamed({ tools: [WEATHER] });
    const json = events.map((event) =>
      event.type === "content_block_delta" && event.delta.type === "input_json_delta" ? event.delta.partial_json : "",
    );
    expect(json.join("")).toBe('{"city":"Oslo"}{"city":"Oslo"}');
    grid.onGenerate = answering(grid, "Rain.");
    const [first, second] = calls;
    await answered({
      tools: [WEATHER],
      messages: [
        { role: "user", content: "Weather?" },
        { role: "assistant", content: message.content.map(({ ...block }) => block) },
        {
          role: "user",
          content: [
            { type: "tool_result", tool_use_id: first?.id, content: [{ type: "text", text: "Rain, 7 degrees" }] },
            { type: "tool_result", tool_use_id: second?.id, content: "no such city", is_error: true },
            { type: "text", text: "So?" },
          ],
        },
      ],
    });
    const prompt = lastPrompt();
    for (const said of ["Rain, 7 degrees", "Error: no such city", "So?"]) expect(prompt).toContain(said);
  });

  test("stops at a sequence and names it, and at its bound", async () => {
    grid.onGenerate = answering(grid, "one two three");
    expect(await answered({ stop_sequences: ["zzz", " two"] })).toMatchObject({
      stop_reason: "stop_sequence",
      stop_sequence: " two",
      content: [{ text: "one" }],
    });
    grid.onGenerate = (generation) => {
      generation.start();
      generation.send([300, 301]);
      generation.end("length");
    };
    expect(await answered({ max_tokens: 2 })).toMatchObject({ stop_reason: "max_tokens", stop_sequence: null });
    const full = await answered({ max_tokens: 5_000 });
    expect(full).toMatchObject({ stop_reason: "model_context_window_exceeded" });
    expect(full.usage.input_tokens + (grid.generations.at(-1)?.request.tokensMax ?? 0)).toBe(1024);
    const tooLong = await ask({ messages: [{ role: "user", content: "word ".repeat(2_000) }] });
    expect(tooLong.status).toBe(400);
  });

  test("that fails in its middle ends with an error event and costs nothing", async () => {
    grid.onGenerate = (generation) => {
      generation.start();
      generation.send([300, 301]);
      setImmediate(() => generation.fail(refuse("upstream-lost", "the node is gone").reason));
    };
    const events = await streamed();
    expect(events.at(-1)).toMatchObject({ type: "error", error: { type: "api_error", message: "the node is gone" } });
    expect(events.some((event) => event.type === "message_stop")).toBe(false);
    expect(await grid.spent()).toBe(0);
  });

  test("is asked for by tool choice, schema and tier", async () => {
    grid.onGenerate = (generation) => {
      generation.start();
      generation.end("stop-token");
    };
    await answered({ tools: [WEATHER], tool_choice: { type: "any" } });
    await answered({ tools: [WEATHER], tool_choice: { type: "tool", name: "get_weather" } });
    const schema = { type: "object", properties: { n: { type: "integer" } }, required: ["n"] };
    await answered({ output_config: { format: { type: "json_schema", schema } } });
    for (const { request } of grid.generations) expect(request.grammar).not.toBeNull();
    await answered({ tools: [WEATHER], tool_choice: { type: "none" } });
    await answered({ thinking: { type: "enabled", budget_tokens: 32 } });
    for (const { request } of grid.generations.slice(-2)) expect(request.grammar).toBeNull();
    expect(await answered({ service_tier: "standard_only" })).toMatchObject({ usage: { service_tier: "standard" } });
    expect(await answered({ service_tier: "priority" })).toMatchObject({ usage: { service_tier: "priority" } });
    expect(grid.generations.at(-1)?.request.terms.tier).toBe("priority");
  });
});

describe("what is refused", () => {
  test.each([
    [{ messages: [{ role: "user", content: [{ type: "image", source: {} }] }] }, "messages[0].content[0].type"],
    [{ tools: [{ type: "web_search_20250305", name: "web_search" }] }, "tools[0].type"],
    [{ messages: [...HELLO.messages, { role: "assistant", content: "I" }] }, "the last message"],
    [{ max_tokens: undefined }, "max_tokens"],
    [{ container: "x" }, "container"],
    [{ temperature: 1.5 }, "temperature"],
    [{ tools: [{ ...WEATHER, input_schema: { type: 7 } }] }, "tools[0].input_schema"],
  ])("%j is told in Anthropic's shape", async (body, named) => {
    const response = await ask(body);
    expect(response.status).toBe(400);
    const error = anthropicErrorSchema.parse(await response.json());
    expect(error.error.type).toBe("invalid_request_error");
    expect(error.error.message).toContain(named);
    expect(error.request_id).toBe(response.headers.get("request-id"));
    expect(grid.generations).toHaveLength(0);
  });

  test("also by the door, by the path and by the method", async () => {
    const post = (path: string, headers: Record<string, string>) => grid.request(path, HELLO, { headers });
    const typed = async (response: Response) => anthropicErrorSchema.parse(await response.json()).error.type;
    expect(await typed(await post("/v1/messages", { authorization: "Bearer fal_wrong" }))).toBe("authentication_error");
    expect(await typed(await ask({ model: "none" }))).toBe("not_found_error");
    expect(await typed(await post("/v1/messages/batches", {}))).toBe("not_found_error");
    const got = await grid.request("/v1/messages");
    expect([got.status, got.headers.get("allow")]).toEqual([405, "POST"]);
    expect(await typed(got)).toBe("invalid_request_error");
    const busy = await ask({ messages: [{ role: "user", content: "x".repeat(11_000_000) }] });
    expect([busy.status, await typed(busy)]).toEqual([413, "request_too_large"]);
    const ours = await (await grid.request("/v1/chat/completions", {})).json();
    expect(errorBodySchema.parse(ours).error.param).toBe("model");
  });
});

describe("Anthropic's other routes", () => {
  test("count a prompt without running it, with the key in x-api-key", async () => {
    grid.onGenerate = answering(grid, "Yes.");
    const { max_tokens: _, ...body } = { ...HELLO, system: "Be brief.", tools: [WEATHER] };
    const request = new Request("http://grid.test/v1/messages/count_tokens", {
      method: "POST",
      headers: { "x-api-key": grid.secret, "anthropic-version": "2023-06-01", "content-type": "application/json" },
      body: JSON.stringify(body),
    });
    const counted = await (await grid.gateway.fetch(request, { remoteAddress: null })).json();
    expect(grid.generations).toHaveLength(0);
    const message = await answered(body);
    expect(counted).toEqual({ input_tokens: message.usage.input_tokens });
  });

  test("list models in its shape for its version header, and in OpenAI's without", async () => {
    const headers = { "anthropic-version": "2023-06-01" };
    const listed = await (await grid.request("/v1/models?limit=5", undefined, { headers })).json();
    expect(anthropicModelListSchema.parse(listed)).toMatchObject({
      data: [{ type: "model", id: "tiny", max_input_tokens: 1024 }],
      has_more: false,
      first_id: "tiny",
    });
    expect(await (await grid.request("/v1/models/tiny", undefined, { headers })).json()).toMatchObject({ id: "tiny" });
    const after = await (await grid.request("/v1/models?after_id=tiny", undefined, { headers })).json();
    expect(after).toMatchObject({ data: [], first_id: null });
    const unknown = await grid.request("/v1/models/none", undefined, { headers });
    expect(anthropicErrorSchema.parse(await unknown.json()).error.type).toBe("not_found_error");
    expect(await (await grid.request("/v1/models")).json()).toMatchObject({ object: "list", data: [{ id: "tiny" }] });
  });
});
