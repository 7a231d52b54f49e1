/** `/v1/responses` over the real gateway: items, events, and what is refused by name. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { refuse } from "../src/domain/refusal.ts";
import type { Tokenizer } from "../src/ports/tokenizer.ts";
import { answering, GatewayFixture, type ScriptedGeneration } from "./support/gateway-fixture.ts";
import { answered, CALL, lastPrompt, refused, streamed, WEATHER } from "./support/response-asks.ts";
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

describe("a response", () => {
  test("is a message with usage and every field of the request, and charged as a chat is", async () => {
    grid.onGenerate = answering(grid, "In the beginning.");
    const response = await answered(grid, { instructions: "Be brief.", metadata: { a: "b" }, temperature: 0.5 });
    expect(response).toMatchObject({
      status: "completed",
      output: [{ type: "message", status: "completed", content: [{ type: "output_text", text: "In the beginning." }] }],
      instructions: "Be brief.",
      metadata: { a: "b" },
      temperature: 0.5,
      service_tier: "default",
      store: true,
      tool_choice: "auto",
      tools: [],
    });
    const { usage } = response;
    expect(await grid.spent()).toBe((usage?.input_tokens ?? 0) + 2 * (usage?.output_tokens ?? 0));
    expect(lastPrompt(grid)).toContain("Be brief.");
  });

  test("that is cut by its bound is incomplete", async () => {
    grid.onGenerate = (generation) => {
      generation.start();
      generation.send([300, 301]);
      generation.end("length");
    };
    const response = await answered(grid, { max_output_tokens: 2 });
    expect(response).toMatchObject({
      status: "incomplete",
      incomplete_details: { reason: "max_output_tokens" },
      output: [{ status: "incomplete" }],
    });
    const { events } = await streamed(grid, { max_output_tokens: 2 });
    expect(events.at(-1)?.type).toBe("response.incomplete");
  });

  test("streams OpenAI's events in their order, and the last holds what a whole answer would", async () => {
    grid.onGenerate = answering(grid, "In the beginning.");
    const { events, text } = await streamed(grid);
    const types = events.map((event) => event.type);
    expect(types.slice(0, 4)).toEqual([
      "response.created",
      "response.in_progress",
      "response.output_item.added",
      "response.content_part.added",
    ]);
    expect(types.slice(-4)).toEqual([
      "response.output_text.done",
      "response.content_part.done",
      "response.output_item.done",
      "response.completed",
    ]);
    expect(new Set(types.slice(4, -4))).toEqual(new Set(["response.output_text.delta"]));
    const said = events.map((event) => (event.type === "response.output_text.delta" ? event.delta : "")).join("");
    expect(said).toBe("In the beginning.");
    const last = events.at(-1);
    if (last?.type !== "response.completed") throw new Error("the stream is whole");
    expect(last.response.output).toMatchObject([{ content: [{ text: "In the beginning." }] }]);
    expect(text.endsWith("data: [DONE]\n\n")).toBe(true);
    const kept = await grid.request(`/v1/responses/${last.response.id}`);
    expect(await kept.json()).toEqual(last.response);
  });

  test("with calls has an item for each, and words before them", async () => {
    grid.onGenerate = answering(grid, `Let me look. ${CALL}${CALL}`);
    const { events } = await streamed(grid, { tools: [WEATHER] });
    const last = events.at(-1);
    if (last?.type !== "response.completed") throw new Error("the stream is whole");
    expect(last.response.output.map((item) => item.type)).toEqual(["message", "function_call", "function_call"]);
    const [, first, second] = last.response.output;
    expect(first).toMatchObject({ name: "get_weather", arguments: '{"city":"Oslo"}', status: "completed" });
    if (first?.type !== "function_call" || second?.type !== "function_call") throw new Error("two calls");
    expect(first.call_id).not.toBe(second.call_id);
    const ofFirst = events.filter((event) => "item_id" in event && event.item_id === first.id).map((one) => one.type);
    expect(ofFirst.at(-1)).toBe("response.function_call_arguments.done");
    expect(ofFirst[0]).toBe("response.function_call_arguments.delta");
    expect(await answered(grid, { tools: [WEATHER] })).toMatchObject({ output: [{}, { name: "get_weather" }, {}] });
  });

  test("that fails in its middle ends with an error and a failed response, is not kept and costs nothing", async () => {
    grid.onGenerate = (generation) => {
      generation.start();
      generation.send([300, 301]);
      setImmediate(() => generation.fail(refuse("upstream-lost", "the node is gone").reason));
    };
    const { events, text } = await streamed(grid);
    expect(events.slice(-2).map((event) => event.type)).toEqual(["error", "response.failed"]);
    expect(events.at(-1)).toMatchObject({
      response: { status: "failed", error: { code: "server_error", message: "the node is gone" }, store: false },
    });
    expect(text).not.toContain("[DONE]");
    expect(await grid.spent()).toBe(0);
    const id = events.at(-1)?.type === "response.failed" ? Reflect.get(Object(events.at(-1)), "response").id : "";
    expect((await grid.request(`/v1/responses/${id}`)).status).toBe(404);
  });

  test("is made once for an idempotency key, as a whole and as a stream", async () => {
    grid.onGenerate = answering(grid, "Once.");
    for (const stream of [false, true]) {
      const send = () =>
        grid.request(
          "/v1/responses",
          { model: "tiny", input: "Hello", stream },
          { headers: { "idempotency-key": `key-${stream}` } },
        );
      const [first, again] = [await (await send()).text(), await (await send()).text()];
      expect(again).toBe(first);
    }
    expect(grid.generations).toHaveLength(2);
  });
});

describe("what is asked of the model", () => {
  test("counts a prompt without running anything", async () => {
    grid.onGenerate = answering(grid, "Yes.");
    const body = { input: "How long is this?", instructions: "Count.", tools: [WEATHER] };
    const counted = await grid.request("/v1/responses/input_tokens", { model: "tiny", ...body });
    expect(grid.generations).toHaveLength(0);
    const { usage } = await answered(grid, body);
    expect(await counted.json()).toEqual({ object: "response.input_tokens", input_tokens: usage?.input_tokens });
  });

  test("a schema, a required call and allowed tools become grammars", async () => {
    grid.onGenerate = (generation: ScriptedGeneration) => {
      generation.start();
      generation.end("stop-token");
    };
    const schema = { type: "object", properties: { n: { type: "integer" } }, required: ["n"] };
    await answered(grid, { text: { format: { type: "json_schema", name: "n", schema } } });
    await answered(grid, { tools: [WEATHER], tool_choice: "required" });
    const other = { ...WEATHER, name: "other" };
    const choice = { type: "allowed_tools", mode: "required", tools: [{ type: "function", name: "other" }] };
    await answered(grid, { tools: [WEATHER, other], tool_choice: choice });
    await answered(grid, { tools: [WEATHER, other], tool_choice: { type: "function", name: "other" } });
    const grammars = grid.generations.map((generation) => generation.request.grammar ?? "");
    expect(grammars.every((grammar) => grammar !== "")).toBe(true);
    expect(grammars[1]).toContain("get_weather");
    for (const grammar of grammars.slice(2)) {
      expect(grammar).toContain("other");
      expect(grammar).not.toContain("get_weather");
    }
  });

  test.each([
    [{ background: true }, "background"],
    [{ tools: [{ type: "web_search_preview" }] }, "tools[0].type"],
    [
      { input: [{ role: "user", content: [{ type: "input_image", image_url: "data:," }] }] },
      "input[0].content[0].type",
    ],
    [{ conversation: "conv_1" }, "conversation"],
    [{ prompt: { id: "pmpt_1" } }, "prompt"],
    [{ include: ["file_search_call.results"] }, "include[0]"],
    [{ truncation: "middle" }, "truncation"],
    [{ n: 2 }, "n"],
    [{ service_tier: "scale" }, "service_tier"],
    [{ text: { format: { type: "json_schema", name: "x", schema: { type: "nonsense" } } } }, "text.format.schema"],
    [{ tools: [{ ...WEATHER, parameters: { type: 7 } }] }, "tools[0].parameters"],
    [{ tools: [WEATHER], tool_choice: { type: "function", name: "none" } }, "tool_choice.name"],
    [{ reasoning: { effort: "high" } }, "reasoning.effort"],
    [{ top_logprobs: 3 }, "top_logprobs"],
    [{ max_output_tokens: 5_000 }, "input"],
    [{ input: [] }, "input"],
    [{ input: [{ type: "function_call_output", call_id: "call_none", output: "x" }] }, "input"],
  ])("%j is refused by its name", async (body, param) => {
    const error = await refused(grid, body);
    expect(error.param).toBe(param);
    expect(error.type).toBe("invalid_request_error");
    expect(grid.generations).toHaveLength(0);
  });

  test("logprobs come with the text that they belong to", async () => {
    grid.onGenerate = (generation) => {
      generation.start();
      void grid.ids("In the beginning").then((ids) => {
        for (const id of ids) generation.send([id], { logprob: -0.5 });
        generation.end("length");
      });
    };
    const include = ["message.output_text.logprobs"];
    const [item] = (await answered(grid, { include })).output;
    if (item?.type !== "message") throw new Error("a message");
    expect(item.content[0]?.logprobs.map((entry) => entry.token).join("")).toBe(item.content[0]?.text);
    const { events } = await streamed(grid, { include });
    const deltas = events.filter((event) => event.type === "response.output_text.delta");
    for (const delta of deltas) expect(delta.logprobs.map((entry) => entry.token).join("")).toBe(delta.delta);
  });
});
