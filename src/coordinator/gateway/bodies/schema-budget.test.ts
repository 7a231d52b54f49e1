import { describe, expect, test } from "vitest";
import type { ToolSpec } from "../../../inference/chat/conversation.ts";
import { HERMES } from "../../../inference/chat/tool-format.ts";
import { chatRequestSchema } from "../../../wire/openai/chat-request.ts";
import { answerGrammar } from "../plans/answer-grammar.ts";
import { SCHEMA_CHARS_MAX, SCHEMA_VALUES_MAX } from "./schema-budget.ts";

const messages = [{ role: "user", content: "hi" }];

function grammarOf(schema: unknown) {
  const json_schema = { name: "answer", schema };
  const body = chatRequestSchema.parse({ model: "m", messages, response_format: { type: "json_schema", json_schema } });
  return answerGrammar({ body, tools: [], format: HERMES });
}

const numbered = (count: number) => Array.from({ length: count }, (_, at) => at);

describe("the schemas of a request", () => {
  test.each([
    ["values", { enum: numbered(SCHEMA_VALUES_MAX) }, `at most ${SCHEMA_VALUES_MAX} values`],
    ["nested values", { anyOf: numbered(4_000).map((at) => ({ const: at, title: "t" })) }, "values"],
    ["letters", { description: "x".repeat(SCHEMA_CHARS_MAX) }, `at most ${SCHEMA_CHARS_MAX} characters`],
    ["branches to compare", { oneOf: numbered(501).map((at) => ({ const: at })) }, "at most 500 are supported"],
    [
      "letters in a name",
      { properties: { ["a".repeat(50_000)]: true }, additionalProperties: { type: "null" } },
      "deep",
    ],
  ])("are refused when they have too many %s", (_, schema, message) => {
    expect(grammarOf(schema)).toMatchObject({
      ok: false,
      reason: {
        code: "invalid-request",
        param: "response_format.json_schema.schema",
        message: expect.stringContaining(message),
      },
    });
  });

  test("count together over all tools that may be called", () => {
    const parameters = { type: "object", properties: { a: { enum: numbered(900) } } };
    const tools = numbered(12).map((at): ToolSpec => ({ name: `t${at}`, description: null, parameters }));
    const asked = tools.map(({ name }) => ({ type: "function", function: { name, parameters } }));
    const body = chatRequestSchema.parse({ model: "m", messages, tools: asked, tool_choice: "required" });
    expect(answerGrammar({ body, tools, format: HERMES })).toMatchObject({
      ok: false,
      reason: { param: "tools[11].function.parameters", message: expect.stringContaining("is too large") },
    });
  });

  test("may name a format only that is one", () => {
    expect(grammarOf({ type: "string", format: "constructor" })).toMatchObject({
      ok: false,
      reason: { message: expect.stringContaining('format "constructor" is not supported') },
    });
  });

  test("of an enum with a thousand texts are taken", () => {
    expect(grammarOf({ enum: numbered(1_000).map((at) => `value ${at}`) })).toMatchObject({ ok: true });
  });
});
