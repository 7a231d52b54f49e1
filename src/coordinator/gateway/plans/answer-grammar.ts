/**
 * What an answer may look like, as a grammar: `response_format`, and a tool call where one is required. A tool that the model
 * may leave alone makes no grammar, but its parameters have to be a JSON schema all the same.
 */
import { Ajv2020 } from "ajv/dist/2020.js";
import { assert } from "../../../domain/assert.ts";
import { no, type Outcome, ok, type Refusal, refuse } from "../../../domain/refusal.ts";
import type { ToolSpec } from "../../../inference/chat/conversation.ts";
import type { ToolFormat } from "../../../inference/chat/tool-format.ts";
import {
  GRAMMAR_CHARS_MAX,
  GrammarBuilder,
  GrammarTooLarge,
  literal,
} from "../../../inference/grammar/grammar-builder.ts";
import { addSchema } from "../../../inference/grammar/json-schema-grammar.ts";
import type { ChatRequest, ResponseFormat } from "../../../wire/openai/chat-request.ts";
import { SchemaBudget } from "../bodies/schema-budget.ts";

/** Only for its meta-schema: whether what a caller sent is a JSON schema at all. */
const metaSchema = new Ajv2020({ strict: false, validateFormats: false });
const DRAFT = "https://json-schema.org/draft/2020-12/schema";

export function answerGrammar(request: GrammarRequest): Outcome<string | null> {
  const budget = new SchemaBudget();
  const wrong = wrongTool(request.body, budget);
  if (wrong !== null) return no(wrong);
  const builder = new GrammarBuilder();
  try {
    const root = answerRoot(builder, { ...request, budget });
    return root.ok && root.value !== null ? ok(builder.text(root.value)) : root;
  } catch (thrown) {
    if (!(thrown instanceof GrammarTooLarge)) throw thrown;
    return refuse("invalid-request", `the schemas make a grammar of more than ${GRAMMAR_CHARS_MAX} characters`, {
      param: request.tools.length > 0 ? "tools" : "response_format",
    });
  }
}

/** Of all tools that came, also of those that this answer cannot call, the first whose parameters are no JSON schema. */
function wrongTool(body: ChatRequest, budget: SchemaBudget): Refusal | null {
  for (const [index, tool] of (body.tools ?? []).entries()) {
    const schema = tool.function.parameters ?? null;
    const wrong = schema === null ? null : wrongSchema({ schema, param: parametersOf(index), budget });
    if (wrong !== null) return wrong;
  }
  return null;
}

const parametersOf = (toolIndex: number) => `tools[${toolIndex}].function.parameters`;

interface GrammarRequest {
  readonly body: ChatRequest;
  readonly tools: readonly ToolSpec[];
  readonly format: ToolFormat;
}

interface GrammarWork extends GrammarRequest {
  readonly budget: SchemaBudget;
}

/** The expression for a whole answer; null when it may be anything. */
function answerRoot(builder: GrammarBuilder, request: GrammarWork): Outcome<string | null> {
  const { body, tools, budget } = request;
  const forced = forcedTools(body, tools);
  const wanted = body.response_format ?? { type: "text" };
  if (forced !== null && wanted.type !== "text") {
    const message = "response_format cannot hold where tool_choice requires a call; leave one out";
    return refuse("invalid-request", message, { param: "response_format" });
  }
  if (forced !== null) return addCalls(builder, { ...request, tools: forced });
  if (wanted.type === "text") return ok(null);
  const answer = addAnswer(builder, { wanted, budget });
  if (!answer.ok || tools.length === 0) return answer;
  // A model with tools may also call one instead of answering.
  const calls = addCalls(builder, request);
  return calls.ok ? ok(`(${answer.value}) | (${calls.value})`) : calls;
}

function addAnswer(
  builder: GrammarBuilder,
  { wanted, budget }: { wanted: Exclude<ResponseFormat, { type: "text" }>; budget: SchemaBudget },
): Outcome<string> {
  if (wanted.type === "json_object") return ok(builder.base("object"));
  const param = "response_format.json_schema.schema";
  const { schema } = wanted.json_schema;
  if (schema === null || schema === undefined) {
    return refuse("invalid-request", `parameter '${param}' is missing`, { param });
  }
  const wrong = wrongSchema({ schema, param, budget });
  return wrong === null ? compiled(builder, { schema, param }) : no(wrong);
}

/** The tools of which one has to be called; null when none has to. */
function forcedTools(body: ChatRequest, tools: readonly ToolSpec[]): readonly ToolSpec[] | null {
  const choice = body.tool_choice ?? null;
  if (choice === "required") return tools;
  if (choice === null || typeof choice === "string") return null;
  return tools.filter((tool) => tool.name === choice.function.name);
}

/** One call of one of the tools, written as the model's family writes it. */
function addCalls(builder: GrammarBuilder, request: GrammarWork): Outcome<string> {
  const { before, between, after } = request.format.written;
  const calls: string[] = [];
  for (const tool of request.tools) {
    const index = (request.body.tools ?? []).findIndex((one) => one.function.name === tool.name);
    const param = parametersOf(index);
    const values = compiled(builder, {
      schema: tool.parameters ?? { type: "object", properties: {}, additionalProperties: false },
      param,
    });
    if (!values.ok) return values;
    calls.push(`${literal(before + tool.name + between)} (${values.value}) ${literal(after)}`);
  }
  return ok(calls.join(" | "));
}

/** Of a schema that `wrongSchema` found to be one. */
function compiled(builder: GrammarBuilder, { schema, param }: { schema: unknown; param: string }): Outcome<string> {
  const root = addSchema(builder, schema);
  if (root.ok) return root;
  const { pointer, message } = root.reason;
  return refuse("invalid-request", `'${param}' cannot be enforced: ${message} (at ${pointer})`, { param });
}

interface SchemaSource {
  readonly schema: unknown;
  readonly param: string;
  readonly budget: SchemaBudget;
}

function wrongSchema({ schema, param, budget }: SchemaSource): Refusal | null {
  const tooMuch = budget.take(schema);
  if (tooMuch !== null) return refuse("invalid-request", `'${param}' is too large: ${tooMuch}`, { param }).reason;
  const problem = notASchema(schema);
  if (problem === null) return null;
  return refuse("invalid-request", `'${param}' is not a JSON schema: ${problem}`, { param }).reason;
}

function notASchema(schema: unknown): string | null {
  if (typeof schema === "boolean") return null;
  if (typeof schema !== "object" || schema === null) return "a schema is an object or a boolean";
  if (metaSchema.validate(DRAFT, withoutDialect(schema))) return null;
  const error = metaSchema.errors?.[0];
  assert(error !== undefined, "what does not validate has an error");
  return `${error.message ?? "it does not validate"} (at #${error.instancePath})`;
}

/** Drafts differ in little that matters here, so that a schema of any of them is held to the newest. */
function withoutDialect(schema: object): object {
  const { $schema: _, ...rest }: { $schema?: unknown } = { ...schema };
  return rest;
}
