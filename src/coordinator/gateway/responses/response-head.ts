/** What a response says of its request: every field, with the value that counted where none was sent. */
import type { ResponseId } from "../../../domain/ids.ts";
import type { ResponseRequest } from "../../../wire/openai/response-request.ts";
import type { AnswerHead } from "../plans/generation-plan.ts";
import type { ResponseHead } from "./response-format.ts";

export function responseHead(body: ResponseRequest, head: AnswerHead, id: ResponseId): ResponseHead {
  return {
    id,
    object: "response",
    created_at: Math.floor(head.createdAtMs / 1000),
    background: false,
    instructions: body.instructions ?? null,
    max_output_tokens: body.max_output_tokens ?? null,
    max_tool_calls: body.max_tool_calls ?? null,
    model: head.modelId,
    parallel_tool_calls: body.parallel_tool_calls ?? true,
    previous_response_id: body.previous_response_id ?? null,
    prompt_cache_key: body.prompt_cache_key ?? null,
    reasoning: { effort: body.reasoning?.effort ?? null, summary: null },
    safety_identifier: body.safety_identifier ?? null,
    service_tier: head.tier,
    temperature: body.temperature ?? 1,
    top_p: body.top_p ?? 1,
    presence_penalty: body.presence_penalty ?? 0,
    frequency_penalty: body.frequency_penalty ?? 0,
    top_logprobs: body.top_logprobs ?? 0,
    text: { format: { ...formatOf(body) }, verbosity: "medium" },
    tool_choice: body.tool_choice ?? "auto",
    tools: (body.tools ?? []).map((tool) => ({
      type: "function",
      name: tool.name,
      description: tool.description ?? null,
      parameters: tool.parameters ?? null,
      strict: tool.strict ?? null,
    })),
    truncation: body.truncation ?? "disabled",
    ...(body.user === null || body.user === undefined ? {} : { user: body.user }),
    metadata: { ...body.metadata },
  };
}

function formatOf(body: ResponseRequest) {
  const format = body.text?.format ?? { type: "text" as const };
  if (format.type !== "json_schema") return format;
  const { name, description, schema, strict } = format;
  return {
    type: "json_schema",
    name,
    schema,
    strict: strict ?? null,
    ...(description === null || description === undefined ? {} : { description }),
  };
}
