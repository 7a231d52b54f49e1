/** A tenant of `/v1/responses` on the gateway of the fixture: what it asks and what it reads. */
import { expect } from "vitest";
import { errorBodySchema } from "../../src/wire/openai/error.ts";
import {
  type ResponseEvent,
  type ResponseObject,
  responseEventSchema,
  responseSchema,
} from "../../src/wire/openai/response-object.ts";
import type { GatewayFixture } from "./gateway-fixture.ts";

export const ask = (grid: GatewayFixture, body: object) =>
  grid.request("/v1/responses", { model: "tiny", input: "Hello", ...body });

export async function answered(grid: GatewayFixture, body: object = {}): Promise<ResponseObject> {
  const response = await ask(grid, body);
  const json: unknown = await response.json();
  expect(response.status, JSON.stringify(json)).toBe(200);
  return responseSchema.parse(json);
}

export async function streamed(
  grid: GatewayFixture,
  body: object = {},
): Promise<{ events: readonly ResponseEvent[]; text: string }> {
  const text = await (await ask(grid, { ...body, stream: true })).text();
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

export async function refused(grid: GatewayFixture, body: object) {
  const response = await ask(grid, body);
  expect(response.status).toBe(400);
  return errorBodySchema.parse(await response.json()).error;
}
/** What dispatch was asked last, as text. */
export function lastPrompt(grid: GatewayFixture): string {
  const ids = grid.generations.at(-1)?.request.promptTokenIds ?? [];
  return new TextDecoder().decode(Buffer.concat(ids.map((id) => grid.tokenizer.piece(id)))).trim();
}

export const WEATHER = {
  type: "function",
  name: "get_weather",
  parameters: { type: "object", properties: { city: { enum: ["Oslo"] } }, required: ["city"] },
};
export const OPEN = { responsesMax: 100, charsMax: Number.MAX_SAFE_INTEGER };
export const CALL = '<tool_call>\n{"name": "get_weather", "arguments": {"city":"Oslo"}}\n</tool_call>';
