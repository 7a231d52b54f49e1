/** Stock clients against the real grid: what `fallow up` starts, asked by the official SDKs as their users write it. */
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { HumanMessage } from "@langchain/core/messages";
import { ChatOpenAI } from "@langchain/openai";
import { generateText, jsonSchema, Output, streamText, tool } from "ai";
import OpenAI from "openai";
import { zodResponseFormat } from "openai/helpers/zod";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { z } from "zod";
import { exchange, parsed } from "./support/exchange.ts";
import { type Grid, startGrid } from "./support/grid.ts";
import { adminGet, expectBalanced, until } from "./support/grid-console.ts";

let grid: Grid;
let client: OpenAI;

beforeAll(async () => {
  grid = await startGrid();
  client = new OpenAI({ baseURL: grid.apiUrl, apiKey: grid.apiKey, maxRetries: 0 });
});
afterAll(async () => {
  await expectBalanced(grid);
  await grid.stop();
});

const QUESTION = [{ role: "user" as const, content: "In the beginning God created" }];
const SHORT = { model: "tiny", messages: QUESTION, max_completion_tokens: 24, seed: 1 };
const FORECAST = {
  type: "function" as const,
  function: {
    name: "get_forecast",
    description: "Weather of the next days.",
    strict: true,
    parameters: {
      type: "object",
      properties: {
        city: { type: "string", enum: ["Paris", "Oslo"] },
        days: { type: "integer", minimum: 1, maximum: 7 },
      },
      required: ["city", "days"],
      additionalProperties: false,
    },
  },
};
const forecastArguments = z.strictObject({ city: z.enum(["Paris", "Oslo"]), days: z.int().min(1).max(7) });

describe("the official OpenAI client", () => {
  test("lists models and gets one", async () => {
    const models: OpenAI.Model[] = [];
    for await (const model of client.models.list()) models.push(model);
    expect(models.map((model) => model.id)).toEqual(["tiny"]);
    expect(await client.models.retrieve("tiny")).toMatchObject({ id: "tiny", object: "model" });
  });

  test("chats, and gets the same text for the same seed", async () => {
    const { data: answer, response } = await client.chat.completions.create(SHORT).withResponse();
    const again = await client.chat.completions.create(SHORT);
    expect(answer.choices[0]?.message.content).toMatch(/\w/);
    expect(again.choices[0]?.message.content).toBe(answer.choices[0]?.message.content);
    expect(answer.service_tier).toBe("default");
    expect(answer.usage?.total_tokens).toBe(
      (answer.usage?.prompt_tokens ?? 0) + (answer.usage?.completion_tokens ?? 0),
    );
    expect(response.headers.get("x-request-id")).toMatch(/^req_/);
    expect(response.headers.get("x-ratelimit-remaining-requests")).toMatch(/^\d+$/);
  });

  test("streams the text that a whole answer has, with usage at the end", async () => {
    const whole = await client.chat.completions.create(SHORT);
    const stream = await client.chat.completions.create({
      ...SHORT,
      stream: true,
      stream_options: { include_usage: true },
    });
    let text = "";
    let usage: OpenAI.CompletionUsage | null = null;
    let finish: string | null = null;
    for await (const chunk of stream) {
      text += chunk.choices[0]?.delta.content ?? "";
      finish = chunk.choices[0]?.finish_reason ?? finish;
      usage = chunk.usage ?? usage;
    }
    expect(text).toBe(whole.choices[0]?.message.content);
    expect(finish).toBe(whole.choices[0]?.finish_reason);
    expect(usage).toEqual(whole.usage);
  });

  test("reads a stream with its helper, several choices at once", async () => {
    const runner = client.chat.completions.stream({ ...SHORT, n: 3, temperature: 1 });
    const final = await runner.finalChatCompletion();
    expect(final.choices).toHaveLength(3);
    expect(new Set(final.choices.map((choice) => choice.message.content)).size).toBeGreaterThan(1);
  });

  test("takes every role and parts of text", async () => {
    const answer = await client.chat.completions.create({
      ...SHORT,
      messages: [
        { role: "system", content: "Be brief." },
        {
          role: "developer",
          content: [
            { type: "text", text: "Answer " },
            { type: "text", text: "plainly." },
          ],
        },
        { role: "user", content: [{ type: "text", text: "Weather?" }], name: "Ann" },
        {
          role: "assistant",
          content: null,
          tool_calls: [
            { id: "call_1", type: "function", function: { name: "get_forecast", arguments: '{"city":"Oslo"}' } },
          ],
        },
        { role: "tool", tool_call_id: "call_1", content: "Rain." },
        { role: "assistant", content: [{ type: "text", text: "It rains." }] },
        { role: "user", content: "And then?" },
      ],
    });
    expect(answer.choices).toHaveLength(1);
  });

  test("gets JSON of a schema, parsed by its helper", async () => {
    const Verse = z.object({
      book: z.enum(["Genesis", "Exodus"]),
      chapter: z.int().min(1).max(50),
      tags: z.array(z.string().max(8)).max(2),
    });
    const answer = await client.chat.completions.parse({
      ...SHORT,
      max_completion_tokens: 200,
      response_format: zodResponseFormat(Verse, "verse"),
    });
    expect(Verse.parse(answer.choices[0]?.message.parsed)).toBeTruthy();
    const object = await client.chat.completions.create({
      ...SHORT,
      max_completion_tokens: 300,
      temperature: 0,
      response_format: { type: "json_object" },
    });
    const [choice] = object.choices;
    if (choice?.finish_reason === "stop") expect(JSON.parse(choice.message.content ?? "")).toBeTypeOf("object");
    else expect(choice?.finish_reason).toBe("length");
  });

  test.each<OpenAI.ChatCompletionToolChoiceOption>([
    "required",
    { type: "function" as const, function: { name: "get_forecast" } },
  ])("gets a tool call that fits its schema with tool_choice %j", async (tool_choice) => {
    const body = { ...SHORT, max_completion_tokens: 200, tools: [FORECAST], tool_choice };
    const answer = await client.chat.completions.create(body);
    const [call] = answer.choices[0]?.message.tool_calls ?? [];
    if (call?.type !== "function") throw new Error("the answer is a call of a function");
    expect(answer.choices[0]?.finish_reason).toBe("tool_calls");
    expect(call.function.name).toBe("get_forecast");
    forecastArguments.parse(JSON.parse(call.function.arguments));
    const final = await client.chat.completions.stream(body).finalChatCompletion();
    const [streamed] = final.choices[0]?.message.tool_calls ?? [];
    expect(streamed).toMatchObject({
      type: "function",
      function: { name: "get_forecast", arguments: call.function.arguments },
    });
  });

  test("gets logprobs whose likeliest token is the one at temperature 0", async () => {
    const answer = await client.chat.completions.create({ ...SHORT, temperature: 0, logprobs: true, top_logprobs: 3 });
    const content = answer.choices[0]?.logprobs?.content ?? [];
    expect(content.map((entry) => entry.token).join("")).toBe(answer.choices[0]?.message.content);
    for (const entry of content) {
      expect(entry.top_logprobs).toHaveLength(3);
      expect(entry.top_logprobs[0]).toMatchObject({ token: entry.token, logprob: entry.logprob });
      expect(entry.logprob).toBeLessThanOrEqual(0);
    }
  });

  test("stops at a stop string, and leans on a bias", async () => {
    const answer = await client.chat.completions.create({ ...SHORT, temperature: 0, max_completion_tokens: 60 });
    const text = answer.choices[0]?.message.content ?? "";
    const stop = text.slice(4, 7);
    const stopped = await client.chat.completions.create({
      ...SHORT,
      temperature: 0,
      max_completion_tokens: 60,
      stop: [stop],
    });
    expect(stopped.choices[0]).toMatchObject({
      finish_reason: "stop",
      message: { content: text.slice(0, text.indexOf(stop)) },
    });
    const biased = await client.chat.completions.create({
      ...SHORT,
      max_completion_tokens: 3,
      logit_bias: { 300: 100 },
    });
    expect(biased.usage?.completion_tokens).toBe(3);
  });

  test("completes texts", async () => {
    const answer = await client.completions.create({
      model: "tiny",
      prompt: ["And God said", "And Moses"],
      max_tokens: 8,
      logprobs: 2,
      seed: 2,
    });
    expect(answer.choices.map((choice) => choice.index)).toEqual([0, 1]);
    expect(answer.choices[0]?.logprobs?.tokens?.join("")).toBe(answer.choices[0]?.text);
  });

  test("embeds texts: equal ones equally, as floats of length 1", async () => {
    const answer = await client.embeddings.create({
      model: "tiny",
      input: ["light and darkness", "bread", "light and darkness"],
    });
    const [first, second, third] = answer.data.map((row) => row.embedding);
    const dot = (a: readonly number[] = [], b: readonly number[] = []) =>
      a.reduce((sum, value, at) => sum + value * (b[at] ?? 0), 0);
    expect(dot(first, first)).toBeCloseTo(1, 3);
    expect(dot(first, third)).toBeCloseTo(1, 3);
    expect(dot(first, second)).toBeLessThan(0.999);
  });

  test("throws its own errors", async () => {
    const wrong = new OpenAI({ baseURL: grid.apiUrl, apiKey: "fal_wrong", maxRetries: 0 });
    await expect(wrong.models.list()).rejects.toBeInstanceOf(OpenAI.AuthenticationError);
    await expect(client.chat.completions.create({ ...SHORT, model: "none" })).rejects.toBeInstanceOf(
      OpenAI.NotFoundError,
    );
    const long = [{ role: "user" as const, content: "word ".repeat(5_000) }];
    await expect(client.chat.completions.create({ ...SHORT, messages: long })).rejects.toMatchObject({
      status: 400,
      code: "context_length_exceeded",
      param: "messages",
    });
    const image = [{ role: "user" as const, content: [{ type: "image_url" as const, image_url: { url: "data:," } }] }];
    await expect(client.chat.completions.create({ ...SHORT, messages: image })).rejects.toMatchObject({
      status: 400,
      code: "unsupported_parameter",
    });
  });

  test("leaves in mid-stream, and the grid is free again and charged what was written", async () => {
    const stream = await client.chat.completions.create({ ...SHORT, max_completion_tokens: 900, stream: true });
    let read = 0;
    for await (const _ of stream) {
      read++;
      if (read === 5) break;
    }
    await until("nothing runs any more", async () => {
      const answer = await exchange({ url: `${grid.baseUrl}/metrics` });
      return /^fallow_requests_open 0$/m.test(answer.body) && /^fallow_attempts_running 0$/m.test(answer.body);
    });
    const receipts = parsed((await exchange({ url: `${grid.apiUrl}/grid/receipts?limit=1`, key: grid.apiKey })).body);
    expect(receipts).toMatchObject({ data: [{ completion_tokens: expect.any(Number) }] });
    expect(JSON.stringify(receipts)).not.toContain('"completion_tokens":900');
    await adminGet(grid, "/status");
  });

  test("sends an idempotency key and gets one charge", async () => {
    const options = { idempotencyKey: "order-66", headers: { "Idempotency-Key": "order-66" } };
    const first = await client.chat.completions.create(SHORT, options);
    const again = await client.chat.completions.create(SHORT, options);
    expect(again.id).toBe(first.id);
  });
});

describe("the AI SDK", () => {
  const model = () =>
    createOpenAICompatible({
      name: "fallow",
      baseURL: grid.apiUrl,
      apiKey: grid.apiKey,
      includeUsage: true,
      supportsStructuredOutputs: true,
    })("tiny");

  test("streams text with usage", async () => {
    const stream = streamText({ model: model(), prompt: "In the beginning", maxOutputTokens: 16, seed: 3 });
    let text = "";
    for await (const piece of stream.textStream) text += piece;
    expect(text).toMatch(/\w/);
    expect((await stream.usage).outputTokens).toBeGreaterThan(0);
  });

  test("calls a tool and makes an object", async () => {
    const called = await generateText({
      model: model(),
      prompt: "Weather?",
      maxOutputTokens: 200,
      tools: { get_forecast: tool({ inputSchema: forecastArguments }) },
      toolChoice: "required",
    });
    expect(forecastArguments.parse(called.toolCalls[0]?.input)).toBeTruthy();
    const schema = jsonSchema<{ n: number }>({
      type: "object",
      properties: { n: { type: "integer", minimum: 1, maximum: 9 } },
      required: ["n"],
      additionalProperties: false,
    });
    const made = await generateText({
      model: model(),
      prompt: "A number.",
      maxOutputTokens: 60,
      output: Output.object({ schema }),
    });
    expect(made.output.n).toBeGreaterThan(0);
  });
});

describe("LangChain's OpenAI client", () => {
  const model = () =>
    new ChatOpenAI({
      model: "tiny",
      apiKey: grid.apiKey,
      maxTokens: 24,
      maxRetries: 0,
      configuration: { baseURL: grid.apiUrl },
    });

  test("streams", async () => {
    let text = "";
    for await (const chunk of await model().stream([new HumanMessage("In the beginning")])) text += chunk.text;
    expect(text).toMatch(/\w/);
  });

  test("makes an object of a schema", async () => {
    const Count = z.object({ n: z.int().min(1).max(9) });
    const structured = model().withStructuredOutput(Count, { method: "jsonSchema", name: "count" });
    expect(Count.parse(await structured.invoke("A number."))).toBeTruthy();
  });
});
