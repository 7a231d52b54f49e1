/**
 * Stock clients of the other APIs against the real grid: OpenAI's Responses and Anthropic's messages, by the official SDKs, the AI SDK and
 * LangChain, as their users write it. The bundled model writes nonsense, so calls are forced and JSON is held to a schema.
 */
import { createAnthropic } from "@ai-sdk/anthropic";
import { createOpenAI } from "@ai-sdk/openai";
import Anthropic from "@anthropic-ai/sdk";
import { zodOutputFormat } from "@anthropic-ai/sdk/helpers/zod";
import { ChatAnthropic } from "@langchain/anthropic";
import { HumanMessage } from "@langchain/core/messages";
import { ChatOpenAI } from "@langchain/openai";
import { generateText, type LanguageModel, Output, streamText, tool } from "ai";
import OpenAI from "openai";
import { zodTextFormat } from "openai/helpers/zod";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { z } from "zod";
import { type Grid, startGrid } from "./support/grid.ts";
import { expectBalanced } from "./support/grid-console.ts";

let grid: Grid;
let openai: OpenAI;
let anthropic: Anthropic;

beforeAll(async () => {
  grid = await startGrid();
  openai = new OpenAI({ baseURL: grid.apiUrl, apiKey: grid.apiKey, maxRetries: 0 });
  anthropic = new Anthropic({ baseURL: grid.baseUrl, apiKey: grid.apiKey, maxRetries: 0 });
});
afterAll(async () => {
  await expectBalanced(grid);
  await grid.stop();
});

async function collected<T>(pages: AsyncIterable<T>): Promise<readonly T[]> {
  const items: T[] = [];
  for await (const item of pages) items.push(item);
  return items;
}

const PROMPT = "In the beginning God created";
const SHORT = { model: "tiny", input: PROMPT, max_output_tokens: 24 };
const Forecast = z.strictObject({ city: z.enum(["Paris", "Oslo"]), days: z.int().min(1).max(7) });
/** Anthropic's client leaves bounds of numbers out of the schema that it sends, and checks them afterwards. */
const City = Forecast.pick({ city: true });
const PARAMETERS = {
  type: "object" as const,
  properties: { city: { type: "string", enum: ["Paris", "Oslo"] }, days: { type: "integer", minimum: 1, maximum: 7 } },
  required: ["city", "days"],
  additionalProperties: false,
};
const FORECAST = { type: "function" as const, name: "get_forecast", strict: true, parameters: PARAMETERS };

describe("the official OpenAI client on /v1/responses", () => {
  test("makes a response, gets it again, lists its input, and deletes it", async () => {
    const made = await openai.responses.create({ ...SHORT, metadata: { a: "b" }, instructions: "Be brief." });
    expect(made.output_text).toMatch(/\w/);
    expect(["completed", "incomplete"]).toContain(made.status);
    expect(made.usage?.total_tokens).toBe((made.usage?.input_tokens ?? 0) + (made.usage?.output_tokens ?? 0));
    const again = await openai.responses.retrieve(made.id);
    expect(again.output).toEqual(made.output);
    const items = await collected(openai.responses.inputItems.list(made.id));
    expect(items).toMatchObject([{ type: "message", role: "user", content: [{ type: "input_text", text: PROMPT }] }]);
    await openai.responses.delete(made.id);
    await expect(openai.responses.retrieve(made.id)).rejects.toBeInstanceOf(OpenAI.NotFoundError);
    const { input_tokens } = await openai.responses.inputTokens.count({ model: "tiny", input: PROMPT });
    expect(input_tokens).toBeGreaterThan(3);
  });

  test("streams: raw events, and the helper's final response", async () => {
    const whole = await openai.responses.create({ ...SHORT, temperature: 0 });
    const stream = await openai.responses.create({ ...SHORT, temperature: 0, stream: true });
    let text = "";
    for await (const event of stream) if (event.type === "response.output_text.delta") text += event.delta;
    expect(text).toBe(whole.output_text);
    const helper = openai.responses.stream({ ...SHORT, temperature: 0 });
    const deltas: string[] = [];
    helper.on("response.output_text.delta", (event) => deltas.push(event.delta));
    const final = await helper.finalResponse();
    expect(deltas.join("")).toBe(whole.output_text);
    expect(final.output_text).toBe(whole.output_text);
    expect(final.usage).toEqual(whole.usage);
  });

  test("parses structured output, as a whole and as a stream", async () => {
    const Verse = z.object({ book: z.enum(["Genesis", "Exodus"]), chapter: z.int().min(1).max(50) });
    const body = { ...SHORT, max_output_tokens: 200, text: { format: zodTextFormat(Verse, "verse") } };
    const parsed = await openai.responses.parse(body);
    expect(Verse.parse(parsed.output_parsed)).toBeTruthy();
    const streamed = await openai.responses.stream(body).finalResponse();
    expect(Verse.parse(streamed.output_parsed)).toBeTruthy();
  });

  test("calls a tool, gets its output back, and goes on by previous_response_id", async () => {
    const asked = { model: "tiny", input: "Weather in Oslo?", max_output_tokens: 200, tools: [FORECAST] };
    const first = await openai.responses.create({ ...asked, tool_choice: "required" });
    const [call] = first.output;
    if (call?.type !== "function_call") throw new Error("the answer is a call");
    Forecast.parse(JSON.parse(call.arguments));
    const output = { type: "function_call_output" as const, call_id: call.call_id, output: "Rain." };
    const second = await openai.responses.create({ ...SHORT, previous_response_id: first.id, input: [output] });
    expect(second.output_text).toMatch(/\w/);
    const third = await openai.responses.create({ ...SHORT, previous_response_id: second.id, input: "And then?" });
    expect(third.usage?.input_tokens).toBeGreaterThan(second.usage?.input_tokens ?? 0);
    const runner = openai.responses.stream({ ...asked, tool_choice: { type: "function", name: "get_forecast" } });
    let json = "";
    runner.on("response.function_call_arguments.delta", (event) => {
      json += event.delta;
    });
    const final = await runner.finalResponse();
    expect(final.output[0]).toMatchObject({ type: "function_call", name: "get_forecast", arguments: json });
  });

  test("takes the whole history as items, with store off", async () => {
    const first = await openai.responses.create({ ...SHORT, store: false });
    const history: OpenAI.Responses.ResponseInput = [
      { role: "user", content: PROMPT },
      ...first.output.filter((item) => item.type === "message"),
      { role: "user", content: [{ type: "input_text", text: "More." }] },
    ];
    const second = await openai.responses.create({ ...SHORT, input: history, store: false });
    expect(second).toMatchObject({ store: false });
    await expect(openai.responses.retrieve(second.id)).rejects.toMatchObject({ status: 404 });
  });

  test("throws its own errors", async () => {
    const wrong = (body: object) => openai.responses.create({ ...SHORT, ...body });
    await expect(wrong({ background: true })).rejects.toMatchObject({ status: 400, param: "background" });
    await expect(wrong({ tools: [{ type: "web_search" }] })).rejects.toMatchObject({ param: "tools[0].type" });
    await expect(wrong({ previous_response_id: "resp_1" })).rejects.toMatchObject({ param: "previous_response_id" });
    await expect(wrong({ model: "none" })).rejects.toBeInstanceOf(OpenAI.NotFoundError);
  });
});

describe("the official Anthropic client on /v1/messages", () => {
  const ASK = { model: "tiny", max_tokens: 24, messages: [{ role: "user" as const, content: PROMPT }] };
  const TOOL = { name: "get_forecast", input_schema: PARAMETERS };

  test("makes a message, counts its tokens before, and lists models", async () => {
    const message = await anthropic.messages.create({ ...ASK, system: "Be brief." });
    const [block] = message.content;
    expect(block?.type === "text" ? block.text : "").toMatch(/\w/);
    const { max_tokens: _, ...counted } = ASK;
    const { input_tokens } = await anthropic.messages.countTokens({ ...counted, system: "Be brief." });
    expect(input_tokens).toBe(message.usage.input_tokens);
    const models = await collected(anthropic.models.list());
    expect(models.map((model) => model.id)).toEqual(["tiny"]);
    expect(await anthropic.models.retrieve("tiny")).toMatchObject({ type: "model", id: "tiny" });
    const bearer = new Anthropic({ baseURL: grid.baseUrl, authToken: grid.apiKey, apiKey: null, maxRetries: 0 });
    expect((await bearer.messages.create(ASK)).role).toBe("assistant");
  });

  test("streams what a whole answer has, raw and by its helper", async () => {
    const ask = { ...ASK, temperature: 0 };
    const whole = await anthropic.messages.create(ask);
    const text = whole.content[0]?.type === "text" ? whole.content[0].text : "";
    let raw = "";
    for await (const event of await anthropic.messages.create({ ...ask, stream: true })) {
      if (event.type === "content_block_delta" && event.delta.type === "text_delta") raw += event.delta.text;
    }
    expect(raw).toBe(text);
    const helper = anthropic.messages.stream(ask);
    let heard = "";
    helper.on("text", (delta) => {
      heard += delta;
    });
    expect(await helper.finalText()).toBe(text);
    expect(heard).toBe(text);
    expect((await helper.finalMessage()).usage.output_tokens).toBe(whole.usage.output_tokens);
  });

  test("calls a tool and sends its result, and makes JSON of a schema", async () => {
    const messages: Anthropic.MessageParam[] = [{ role: "user", content: "Weather?" }];
    const ask = { model: "tiny", max_tokens: 200, tools: [TOOL], messages };
    const first = await anthropic.messages.create({ ...ask, tool_choice: { type: "any" } });
    expect(first.stop_reason).toBe("tool_use");
    const call = first.content.find((block) => block.type === "tool_use");
    Forecast.parse(call?.input);
    const streamed = anthropic.messages.stream({ ...ask, tool_choice: { type: "tool", name: "get_forecast" } });
    const final = await streamed.finalMessage();
    Forecast.parse(final.content.find((block) => block.type === "tool_use")?.input);
    messages.push({ role: "assistant", content: first.content });
    messages.push({ role: "user", content: [{ type: "tool_result", tool_use_id: call?.id ?? "", content: "Rain." }] });
    const second = await anthropic.messages.create({ ...ask, max_tokens: 16 });
    expect(second.usage.input_tokens).toBeGreaterThan(first.usage.input_tokens);
    const made = await anthropic.messages.parse({
      ...ASK,
      max_tokens: 200,
      output_config: { format: zodOutputFormat(City) },
    });
    expect(City.parse(made.parsed_output)).toBeTruthy();
  });

  test("throws its own errors", async () => {
    const wrong = new Anthropic({ baseURL: grid.baseUrl, apiKey: "fal_wrong", maxRetries: 0 });
    await expect(wrong.messages.create(ASK)).rejects.toBeInstanceOf(Anthropic.AuthenticationError);
    await expect(anthropic.messages.create({ ...ASK, model: "none" })).rejects.toBeInstanceOf(Anthropic.NotFoundError);
    const image = { type: "image" as const, source: { type: "url" as const, url: "http://127.0.0.1/x.png" } };
    const seen = anthropic.messages.create({ ...ASK, messages: [{ role: "user", content: [image] }] });
    await expect(seen).rejects.toBeInstanceOf(Anthropic.BadRequestError);
  });
});

describe.each([
  ["/v1/responses", () => createOpenAI({ baseURL: grid.apiUrl, apiKey: grid.apiKey }).responses("tiny")],
  ["/v1/chat/completions", () => createOpenAI({ baseURL: grid.apiUrl, apiKey: grid.apiKey }).chat("tiny")],
  ["/v1/messages", () => createAnthropic({ baseURL: grid.apiUrl, apiKey: grid.apiKey })("tiny")],
] as const)("the AI SDK on %s", (_, model: () => LanguageModel) => {
  test("streams text with usage", async () => {
    const stream = streamText({ model: model(), prompt: PROMPT, maxOutputTokens: 16, maxRetries: 0 });
    let text = "";
    for await (const piece of stream.textStream) text += piece;
    expect(text).toMatch(/\w/);
    expect((await stream.usage).outputTokens).toBeGreaterThan(0);
  });

  test("calls a tool, and goes on with its result", async () => {
    const tools = { get_forecast: tool({ inputSchema: Forecast, execute: () => "Rain." }) };
    const ask = { model: model(), maxOutputTokens: 200, maxRetries: 0, tools };
    const called = await generateText({ ...ask, prompt: "Weather?", toolChoice: "required" });
    expect(Forecast.parse(called.toolCalls[0]?.input)).toBeTruthy();
    const messages = [{ role: "user" as const, content: "Weather?" }, ...called.responseMessages];
    const next = await generateText({ ...ask, messages, maxOutputTokens: 8 });
    expect(next.usage.inputTokens).toBeGreaterThan(called.usage.inputTokens ?? 0);
  });

  test("makes an object of a schema", async () => {
    const made = await generateText({
      model: model(),
      prompt: "A forecast.",
      maxOutputTokens: 200,
      maxRetries: 0,
      output: Output.object({ schema: Forecast }),
    });
    expect(Forecast.parse(made.output)).toBeTruthy();
  });
});

describe("LangChain", () => {
  const options = () => ({ model: "tiny", apiKey: grid.apiKey, maxTokens: 200, maxRetries: 0 });
  test.each([
    [
      "/v1/responses",
      () => new ChatOpenAI({ ...options(), useResponsesApi: true, configuration: { baseURL: grid.apiUrl } }),
      // Its client sends no other word to this route.
      "get_forecast",
    ],
    ["/v1/messages", () => new ChatAnthropic({ ...options(), anthropicApiUrl: grid.baseUrl }), "any"],
  ])("on %s streams, calls a tool and makes an object", async (_, model, choice) => {
    let text = "";
    for await (const chunk of await model().stream([new HumanMessage(PROMPT)])) text += chunk.text;
    expect(text).toMatch(/\w/);
    const bound = { name: "get_forecast", description: "Weather.", schema: Forecast };
    const called = await model().bindTools([bound], { tool_choice: choice }).invoke("Weather?");
    expect(Forecast.parse(called.tool_calls?.[0]?.args)).toBeTruthy();
    const structured = model().withStructuredOutput(Forecast, { name: "forecast" });
    expect(Forecast.parse(await structured.invoke("A forecast."))).toBeTruthy();
  });
});
