/** What the gateway refuses, and how it says so. */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import type { Tokenizer } from "../src/ports/tokenizer.ts";
import { errorBodySchema } from "../src/wire/openai/error.ts";
import { chatCompletionSchema } from "../src/wire/openai/responses.ts";
import { answering, GatewayFixture } from "./support/gateway-fixture.ts";
import { openTiny } from "./support/tokenizer-fixture.ts";

let tokenizer: Tokenizer;
let closeTokenizer: () => Promise<void>;
let grid: GatewayFixture;

beforeAll(async () => {
  ({ tokenizer, close: closeTokenizer } = await openTiny());
  grid = await GatewayFixture.open(tokenizer);
});
afterAll(async () => {
  await grid.close();
  await closeTokenizer();
});
beforeEach(() => {
  grid.onGenerate = answering(grid, "and it was so.");
});

async function refused(response: Response | Promise<Response>) {
  const answer = await response;
  const { error } = errorBodySchema.parse(await answer.json());
  expect(answer.headers.get("x-request-id")).toMatch(/^req_/);
  return { status: answer.status, headers: answer.headers, ...error };
}

const USER = { role: "user", content: "Hello" };
const FUNCTION = { type: "function", function: { name: "f", parameters: { type: "object", properties: {} } } };
const schemaFormat = (schema: unknown) => ({
  response_format: { type: "json_schema", json_schema: { name: "s", schema } },
});
const image = { type: "image_url", image_url: { url: "data:" } };

describe("a chat request", () => {
  test.each([
    ["no messages", { messages: [] }, "messages", "invalid_request", "at least 1 items"],
    ["messages of a wrong type", { messages: "hi" }, "messages", "invalid_request", "expected array"],
    [
      "an unknown role",
      { messages: [{ role: "robot", content: "x" }] },
      "messages[0].role",
      "unsupported_parameter",
      '"robot"',
    ],
    [
      "content of a wrong type",
      { messages: [{ role: "user", content: 7 }] },
      "messages[0].content",
      "invalid_request",
      "string or array",
    ],
    [
      "an image",
      { messages: [{ role: "user", content: [image] }] },
      "messages[0].content[0].type",
      "unsupported_parameter",
      '"image_url"',
    ],
    ["an unknown parameter", { frobnicate: 1 }, "frobnicate", "unsupported_parameter", "not supported"],
    ["a parameter of other servers", { min_p: 0.1 }, "min_p", "unsupported_parameter", "not supported"],
    ["old-style functions", { functions: [] }, "functions", "unsupported_parameter", "not supported"],
    [
      "an unknown field of a message",
      { messages: [{ ...USER, mood: "good" }] },
      "messages[0].mood",
      "unsupported_parameter",
      "not supported",
    ],
    ["store", { store: true }, "store", "unsupported_parameter", "only false"],
    ["a temperature as text", { temperature: "hot" }, "temperature", "invalid_request", "expected number"],
    ["a temperature too high", { temperature: 3 }, "temperature", "invalid_request", "at most 2"],
    ["too many choices", { n: 9 }, "n", "invalid_request", "at most 8"],
    ["half a choice", { n: 1.5 }, "n", "invalid_request", "whole number"],
    [
      "two different token bounds",
      { max_tokens: 3, max_completion_tokens: 4 },
      "max_tokens",
      "invalid_request",
      "send one of them",
    ],
    ["no tokens", { max_tokens: 0 }, "max_tokens", "invalid_request", "at least 1"],
    [
      "too many stop strings",
      { stop: Array.from({ length: 17 }, (_, index) => `${index}`) },
      "stop",
      "invalid_request",
      "at most 16",
    ],
    ["an empty stop string", { stop: "" }, "stop", "invalid_request", "at least 1"],
    ["top_logprobs alone", { top_logprobs: 2 }, "top_logprobs", "invalid_request", "needs logprobs"],
    [
      "stream_options alone",
      { stream_options: { include_usage: true } },
      "stream_options",
      "invalid_request",
      "needs stream",
    ],
    [
      "a tier that is none",
      { service_tier: "scale" },
      "service_tier",
      "invalid_request",
      '"auto", "default", "flex", "priority"',
    ],
    ["a bias for no token", { logit_bias: { 99999: 1 } }, "logit_bias", "invalid_request", "token 99999"],
    ["a bias for a word", { logit_bias: { hello: 1 } }, "logit_bias.hello", "invalid_request", "token ids"],
    ["metadata that is no text", { metadata: { a: 1 } }, "metadata.a", "invalid_request", "expected string"],
    [
      "too much metadata",
      { metadata: Object.fromEntries(Array.from({ length: 17 }, (_, index) => [`k${index}`, ""])) },
      "metadata",
      "invalid_request",
      "at most 16",
    ],
    [
      "reasoning of a model without",
      { reasoning_effort: "high" },
      "reasoning_effort",
      "unsupported_parameter",
      "reasoning_effort",
    ],
    ["a choice of tools without tools", { tool_choice: "required" }, "tool_choice", "invalid_request", "needs tools"],
    [
      "a choice of an unknown tool",
      { tools: [FUNCTION], tool_choice: { type: "function", function: { name: "g" } } },
      "tool_choice.function.name",
      "invalid_request",
      '"g"',
    ],
    ["two tools of one name", { tools: [FUNCTION, FUNCTION] }, "tools", "invalid_request", "two tools"],
    [
      "a tool that may be left alone and whose parameters are no schema",
      { tools: [FUNCTION, { type: "function", function: { name: "g", parameters: { type: "banana" } } }] },
      "tools[1].function.parameters",
      "invalid_request",
      "is not a JSON schema",
    ],
    [
      "an answer to no call",
      { messages: [USER, { role: "tool", tool_call_id: "call_x", content: "1" }] },
      "messages[1].tool_call_id",
      "invalid_request",
      "call_x",
    ],
    [
      "a schema that is none",
      schemaFormat({ type: "nonsense" }),
      "response_format.json_schema.schema",
      "invalid_request",
      "is not a JSON schema",
    ],
    [
      "a schema with wrong parts",
      schemaFormat({ type: "object", properties: [] }),
      "response_format.json_schema.schema",
      "invalid_request",
      "is not a JSON schema",
    ],
    [
      "a schema with an unsupported keyword",
      schemaFormat({ properties: { a: { not: {} } } }),
      "response_format.json_schema.schema",
      "invalid_request",
      '"not" is not supported (at #/properties/a/not)',
    ],
    [
      "no schema",
      { response_format: { type: "json_schema", json_schema: { name: "s" } } },
      "response_format.json_schema.schema",
      "invalid_request",
      "missing",
    ],
  ])("with %s is refused by its name", async (_, fields, param, code, said) => {
    const answer = await refused(grid.chat(fields));
    expect(answer).toMatchObject({
      status: 400,
      type: "invalid_request_error",
      param,
      code,
      message: expect.stringContaining(said),
    });
  });

  test("whose context overflows says by how many tokens", async () => {
    const answer = await refused(grid.chat({ messages: [{ role: "user", content: "verily ".repeat(3_000) }] }));
    expect(answer).toMatchObject({ status: 400, code: "context_length_exceeded", param: "messages" });
    const [, needed] = /needs (\d+) for the prompt/.exec(answer.message) ?? [];
    expect(answer.message).toContain(`${Number(needed) + 1 - 1024} too many`);
    const asked = await refused(grid.chat({ max_tokens: 1024 }));
    expect(asked.message).toMatch(
      /holds 1024 tokens; the request needs \d+ for the prompt and 1024 for the answer: \d+ too many/,
    );
  });

  test("for an unknown model is 404, and nothing is held", async () => {
    expect(await refused(grid.chat({ model: "gpt-9" }))).toMatchObject({
      status: 404,
      code: "model_not_found",
      param: "model",
    });
    expect((await grid.balance()).held).toBe(0);
  });

  test.each([
    ["nothing", "", "is empty"],
    ["no JSON", "{", "is not valid JSON"],
    ["a list", "[]", "expected object"],
    ["null", "null", "is null"],
    ["too many brackets", "[".repeat(100_000), "nests deeper than 64"],
    ["too deep a value", `{"model":${'{"a":'.repeat(70)}1${"}".repeat(70)}}`, "nests deeper than 64"],
    [
      "a number too large",
      '{"model":"tiny","messages":[{"role":"user","content":"x"}],"temperature":1e999}',
      "temperature",
    ],
    [
      "half a surrogate pair",
      '{"model":"tiny","messages":[{"role":"user","content":"\\ud800"}]}',
      "no canonical JSON form",
    ],
  ])("whose body is %s is refused", async (_, body, said) => {
    expect(await refused(grid.request("/v1/chat/completions", body))).toMatchObject({
      status: 400,
      message: expect.stringContaining(said),
    });
  });

  test.each([
    [[0x7b, 0xff], 1],
    [[0x7b, 0x22, 0xc3, 0x28], 2],
    [[0xed, 0xa0, 0x80], 0],
    [[0x61, 0xf0, 0x9f, 0x98], 1],
  ])("of bytes %j is no UTF-8 at position %i", async (bytes, position) => {
    const answer = await refused(grid.request("/v1/chat/completions", Uint8Array.from(bytes)));
    expect(answer.message).toMatch(new RegExp(`at position ${position}$`));
  });

  test("that is too large is refused by its length, and while it is read", async () => {
    const declared = await refused(
      grid.request("/v1/chat/completions", "{}", { headers: { "content-length": String(100 * 2 ** 20) } }),
    );
    expect(declared).toMatchObject({ status: 413, code: "request_too_large" });
    let sent = 0;
    const body = new ReadableStream<Uint8Array>({
      pull: (controller) => {
        sent += 65_536;
        controller.enqueue(new Uint8Array(65_536).fill(0x20));
      },
    });
    const headers = { authorization: `Bearer ${grid.secret}` };
    const request = new Request("http://grid.test/v1/chat/completions", {
      method: "POST",
      headers,
      body,
      duplex: "half",
    });
    expect(await refused(grid.gateway.fetch(request, { remoteAddress: null }))).toMatchObject({ status: 413 });
    expect(sent).toBeLessThan(11 * 2 ** 20);
  });

  test("of another media type is 415", async () => {
    const headers = { "content-type": "multipart/form-data; boundary=x" };
    expect(await refused(grid.request("/v1/chat/completions", "x", { headers }))).toMatchObject({
      status: 415,
      code: "unsupported_media_type",
    });
  });

  test("is answered in OpenAI's shape, with what it cost", async () => {
    const response = await grid.chat({
      service_tier: "auto",
      user: "u",
      metadata: { a: "b" },
      store: false,
      modalities: ["text"],
    });
    const answer = chatCompletionSchema.parse(await response.json());
    expect(answer).toMatchObject({
      model: "tiny",
      service_tier: "default",
      system_fingerprint: expect.stringMatching(/^fp_[0-9a-f]{12}$/),
    });
    expect(answer.choices).toEqual([
      {
        index: 0,
        message: { role: "assistant", content: "and it was so.", refusal: null },
        logprobs: null,
        finish_reason: "stop",
      },
    ]);
    const { prompt_tokens: prompt, completion_tokens: output } = answer.usage;
    expect(response.headers.get("x-grid-cost-usd")).toBe(((prompt + 2 * output) / 1e6).toFixed(6));
    const receipt = await grid.request(`/v1/grid/receipts/${response.headers.get("x-grid-receipt")}`);
    expect(await receipt.json()).toMatchObject({
      body: { promptTokens: prompt, choices: [{ outputTokens: output, finishReason: "stop" }] },
    });
    expect((await grid.balance()).held).toBe(0);
  });
});
