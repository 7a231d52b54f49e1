/** `/v1/responses` over the real gateway and store: items, events, what is kept, and what is refused by name. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { startResponseSweep } from "../src/coordinator/gateway/responses/response-sweep.ts";
import { FallowError } from "../src/domain/fault.ts";
import { refuse } from "../src/domain/refusal.ts";
import type { Tokenizer } from "../src/ports/tokenizer.ts";
import { simLog } from "../src/sim/sim-log.ts";
import { errorBodySchema } from "../src/wire/openai/error.ts";
import {
  deletedResponseSchema,
  type ResponseEvent,
  type ResponseObject,
  responseEventSchema,
  responseItemListSchema,
  responseSchema,
} from "../src/wire/openai/response-object.ts";
import { answering, GatewayFixture, type ScriptedGeneration } from "./support/gateway-fixture.ts";
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

const ask = (body: object) => grid.request("/v1/responses", { model: "tiny", input: "Hello", ...body });
async function answered(body: object = {}): Promise<ResponseObject> {
  const response = await ask(body);
  const json: unknown = await response.json();
  expect(response.status, JSON.stringify(json)).toBe(200);
  return responseSchema.parse(json);
}
async function streamed(body: object = {}): Promise<{ events: readonly ResponseEvent[]; text: string }> {
  const text = await (await ask({ ...body, stream: true })).text();
  const blocks = text.split("\n\n").filter((block) => block.startsWith("event: "));
  const events = blocks.map((block) => {
    const [name, data] = block.split("\n");
    const parsed = responseEventSchema.parse(JSON.parse((data ?? "").slice("data: ".length)));
    expect(name).toBe(`event: ${parsed.type}`);
    return parsed;
  });
  expect(events.map((one) => one.sequence_number)).toEqual(events.map((_, index) => index));
  return { events, text };
}
async function refused(body: object) {
  const response = await ask(body);
  expect(response.status).toBe(400);
  return errorBodySchema.parse(await response.json()).error;
}
const lastPrompt = async (): Promise<string> => {
  const ids = grid.generations.at(-1)?.request.promptTokenIds ?? [];
  return new TextDecoder().decode(Buffer.concat(ids.map((id) => grid.tokenizer.piece(id)))).trim();
};

const WEATHER = {
  type: "function",
  name: "get_weather",
  parameters: { type: "object", properties: { city: { enum: ["Oslo"] } }, required: ["city"] },
};
const CALL = '<tool_call>\n{"name": "get_weather", "arguments": {"city":"Oslo"}}\n</tool_call>';

describe("a response", () => {
  test("is a message with usage and every field of the request, and charged as a chat is", async () => {
    grid.onGenerate = answering(grid, "In the beginning.");
    const response = await answered({ instructions: "Be brief.", metadata: { a: "b" }, temperature: 0.5 });
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
    expect(await lastPrompt()).toContain("Be brief.");
  });

  test("that is cut by its bound is incomplete", async () => {
    grid.onGenerate = (generation) => {
      generation.start();
      generation.send([300, 301]);
      generation.end("length");
    };
    const response = await answered({ max_output_tokens: 2 });
    expect(response).toMatchObject({
      status: "incomplete",
      incomplete_details: { reason: "max_output_tokens" },
      output: [{ status: "incomplete" }],
    });
    const { events } = await streamed({ max_output_tokens: 2 });
    expect(events.at(-1)?.type).toBe("response.incomplete");
  });

  test("streams OpenAI's events in their order, and the last holds what a whole answer would", async () => {
    grid.onGenerate = answering(grid, "In the beginning.");
    const { events, text } = await streamed();
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
    const { events } = await streamed({ tools: [WEATHER] });
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
    expect(await answered({ tools: [WEATHER] })).toMatchObject({ output: [{}, { name: "get_weather" }, {}] });
  });

  test("that fails in its middle ends with an error and a failed response, is not kept and costs nothing", async () => {
    grid.onGenerate = (generation) => {
      generation.start();
      generation.send([300, 301]);
      setImmediate(() => generation.fail(refuse("upstream-lost", "the node is gone").reason));
    };
    const { events, text } = await streamed();
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

describe("a conversation", () => {
  test("goes on from a kept answer with its input, output and calls, but not its instructions", async () => {
    grid.onGenerate = answering(grid, CALL);
    const first = await answered({ input: "Weather in Oslo?", tools: [WEATHER], instructions: "Be brief." });
    const call = first.output.find((item) => item.type === "function_call");
    grid.onGenerate = answering(grid, "Rain.");
    const second = await answered({
      previous_response_id: first.id,
      input: [{ type: "function_call_output", call_id: call?.call_id, output: "Rain, 7 degrees" }],
      tools: [WEATHER],
    });
    expect(second.previous_response_id).toBe(first.id);
    const third = await answered({ previous_response_id: second.id, input: "And then?" });
    const prompt = await lastPrompt();
    for (const said of ["Weather in Oslo?", "Rain, 7 degrees", "Rain.", "And then?"]) expect(prompt).toContain(said);
    expect(prompt).not.toContain("Be brief.");
    expect(prompt.indexOf("Rain, 7 degrees")).toBeLessThan(prompt.indexOf("And then?"));
    expect(third.status).toBe("completed");
  });

  test("takes references to items of kept answers in place of the items", async () => {
    grid.onGenerate = answering(grid, "A unicorn.");
    const first = await answered({ input: "Tell me." });
    const second = await answered({
      input: [
        { role: "user", content: "Tell me." },
        { type: "item_reference", id: first.output[0]?.id },
        { id: first.output[0]?.id },
        { role: "user", content: "More." },
      ],
    });
    expect((await lastPrompt()).split("A unicorn.")).toHaveLength(3);
    const listed = responseItemListSchema.parse(
      await (await grid.request(`/v1/responses/${second.id}/input_items?order=asc&limit=2`)).json(),
    );
    expect(listed.has_more).toBe(true);
    expect(listed.data[1]).toMatchObject({ role: "assistant", content: [{ type: "output_text", text: "A unicorn." }] });
    const rest = await grid.request(`/v1/responses/${second.id}/input_items?order=asc&after=${listed.last_id}`);
    expect(responseItemListSchema.parse(await rest.json())).toMatchObject({ data: [{}, {}], has_more: false });
    expect(await refused({ input: [{ type: "item_reference", id: "msg_unknown" }] })).toMatchObject({
      param: "input[0].id",
    });
  });

  test("that breaks, or belongs to another tenant, is refused by the id that is not there", async () => {
    grid.onGenerate = answering(grid, "Yes.");
    const first = await answered();
    const second = await answered({ previous_response_id: first.id });
    const removed = await grid.request(`/v1/responses/${first.id}`, undefined, { method: "DELETE" });
    expect(deletedResponseSchema.parse(await removed.json())).toMatchObject({ id: first.id, deleted: true });
    for (const previous of [second.id, first.id]) {
      const error = await refused({ previous_response_id: previous });
      expect(error).toMatchObject({ param: "previous_response_id", code: "invalid_request" });
      expect(error.message).toContain(first.id);
    }
    const unkept = await answered({ store: false });
    expect(unkept.store).toBe(false);
    expect(await refused({ previous_response_id: unkept.id })).toMatchObject({ param: "previous_response_id" });
    expect(await refused({ previous_response_id: "nonsense" })).toMatchObject({ param: "previous_response_id" });
    expect((await grid.request(`/v1/responses/${unkept.id}`)).status).toBe(404);
  });

  test("with truncation auto leaves out its oldest messages, and no others", async () => {
    grid.onGenerate = answering(grid, "Yes.");
    const long = "word ".repeat(120);
    const input = [
      { role: "developer", content: "The rule." },
      ...Array.from({ length: 12 }, (_, index) => ({ role: "user", content: `Part ${index}. ${long}` })),
    ];
    expect(await refused({ input })).toMatchObject({ code: "context_length_exceeded", param: "input" });
    await answered({ input, truncation: "auto" });
    const prompt = await lastPrompt();
    expect(prompt).toContain("The rule.");
    expect(prompt).toContain("Part 11.");
    expect(prompt).not.toContain("Part 0.");
    const kept = [...prompt.matchAll(/Part (\d+)\./g)].map(([, number]) => Number(number));
    expect(kept).toEqual(Array.from({ length: kept.length }, (_, index) => 12 - kept.length + index));
    const asked = grid.generations.at(-1)?.request;
    expect((asked?.promptTokenIds.length ?? 0) + (asked?.tokensMax ?? 0)).toBe(1024);
    expect(asked?.tokensMax).toBeGreaterThanOrEqual(256);
  });

  test("expires after 30 days, and the sweep removes it", async () => {
    grid.onGenerate = answering(grid, "Yes.");
    const { id } = await answered();
    const log = simLog((line) => grid.logged.push(line.event));
    const sweep = startResponseSweep({ store: grid.store.responses, clock: grid.clock, log });
    await grid.pass(30 * 86_400_000 - 10_000);
    expect((await grid.request(`/v1/responses/${id}`)).status).toBe(200);
    await grid.pass(20_000);
    expect((await grid.request(`/v1/responses/${id}`)).status).toBe(404);
    sweep.stop();
    expect(await refused({ previous_response_id: id })).toMatchObject({ param: "previous_response_id" });
  });
});

describe("what is asked of the model", () => {
  test("counts a prompt without running anything", async () => {
    grid.onGenerate = answering(grid, "Yes.");
    const body = { input: "How long is this?", instructions: "Count.", tools: [WEATHER] };
    const counted = await grid.request("/v1/responses/input_tokens", { model: "tiny", ...body });
    expect(grid.generations).toHaveLength(0);
    const { usage } = await answered(body);
    expect(await counted.json()).toEqual({ object: "response.input_tokens", input_tokens: usage?.input_tokens });
  });

  test("a schema, a required call and allowed tools become grammars", async () => {
    grid.onGenerate = (generation: ScriptedGeneration) => {
      generation.start();
      generation.end("stop-token");
    };
    const schema = { type: "object", properties: { n: { type: "integer" } }, required: ["n"] };
    await answered({ text: { format: { type: "json_schema", name: "n", schema } } });
    await answered({ tools: [WEATHER], tool_choice: "required" });
    const other = { ...WEATHER, name: "other" };
    const choice = { type: "allowed_tools", mode: "required", tools: [{ type: "function", name: "other" }] };
    await answered({ tools: [WEATHER, other], tool_choice: choice });
    await answered({ tools: [WEATHER, other], tool_choice: { type: "function", name: "other" } });
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
    const error = await refused(body);
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
    const [item] = (await answered({ include })).output;
    if (item?.type !== "message") throw new Error("a message");
    expect(item.content[0]?.logprobs.map((entry) => entry.token).join("")).toBe(item.content[0]?.text);
    const { events } = await streamed({ include });
    const deltas = events.filter((event) => event.type === "response.output_text.delta");
    for (const delta of deltas) expect(delta.logprobs.map((entry) => entry.token).join("")).toBe(delta.delta);
  });
});

describe("kept responses", () => {
  test("that the store does not take are answered all the same, and say that they were not kept", async () => {
    grid.onGenerate = answering(grid, "Yes.");
    const fault = new FallowError("store-unavailable", "the disk is gone");
    grid.store.responses.put = () => Promise.reject(fault);
    const response = await answered();
    expect(response).toMatchObject({ status: "completed", store: false });
    expect(grid.logged.some((line) => line.includes("response not kept"))).toBe(true);
    expect((await grid.request(`/v1/responses/${response.id}`)).status).toBe(404);
  });

  test("cannot be cancelled, streamed again, or compacted, and are unknown under a wrong id", async () => {
    grid.onGenerate = answering(grid, "Yes.");
    const { id } = await answered();
    const statuses = async (path: string, body?: object) => (await grid.request(path, body)).status;
    expect(await statuses(`/v1/responses/${id}/cancel`, {})).toBe(400);
    expect(await statuses(`/v1/responses/${id}?stream=true`)).toBe(400);
    expect(await statuses("/v1/responses/compact", { model: "tiny" })).toBe(400);
    for (const path of ["/v1/responses/resp_x", "/v1/responses/resp_x/input_items"])
      expect(await statuses(path)).toBe(404);
    expect(await statuses(`/v1/responses/${id}/input_items?limit=0`)).toBe(400);
    expect(await statuses(`/v1/responses/${id}/input_items?order=up`)).toBe(400);
    expect(await statuses(`/v1/responses/${id}/input_items?after=msg_none`)).toBe(400);
    expect((await grid.request("/v1/responses")).headers.get("allow")).toBe("POST");
  });
});
