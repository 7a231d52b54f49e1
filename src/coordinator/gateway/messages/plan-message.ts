/** From a request of `/v1/messages` to the plan of a chat. */
import { no, type Outcome, ok } from "../../../domain/refusal.ts";
import type { CountTokensRequest, MessageRequest } from "../../../wire/anthropic/message-request.ts";
import { OPENAI_BOUNDS } from "../../../wire/openai/bounds.ts";
import type { ChatRequest } from "../../../wire/openai/chat-request.ts";
import { type ParamName, withOwnNames } from "../bodies/param-names.ts";
import type { CloudModel } from "../legs/cloud-model.ts";
import type { GenerationPlan } from "../plans/generation-plan.ts";
import { type PlanSources, planChat } from "../plans/plan-chat.ts";
import type { PreparedModel } from "../plans/prepared-model.ts";
import { chatMessages } from "./message-turns.ts";

const PARAM_NAMES: readonly ParamName[] = [
  { chat: /^messages\[.*$/, own: "messages" },
  { chat: /^tools\[(\d+)\]\.function\.parameters/, own: "tools[$1].input_schema" },
  { chat: /^tool_choice\.function\.name$/, own: "tool_choice.name" },
  { chat: /^response_format(\.json_schema)?/, own: "output_config.format" },
  { chat: /^reasoning_effort$/, own: "output_config.effort" },
  { chat: /^max_(completion_)?tokens$/, own: "max_tokens" },
];

export type AskedMessage = CountTokensRequest & Partial<MessageRequest>;

export interface PlannedMessage {
  readonly plan: GenerationPlan;
  /** `max_tokens` is more than the context leaves: as Anthropic, the answer may then end where the context does. */
  readonly isContextBound: boolean;
}

export async function planMessageChat(
  body: AskedMessage,
  model: PreparedModel | CloudModel,
  sources: PlanSources,
): Promise<Outcome<PlannedMessage>> {
  const messages = chatMessages(body);
  if (!messages.ok) return messages;
  const chat = chatOf(body, { messages: messages.value, model });
  const planned = await planChat(chat, model, sources);
  if (planned.ok) return ok({ plan: planned.value, isContextBound: false });
  const isTooLong = planned.reason.code === "context-length-exceeded";
  const open = isTooLong ? await planChat({ ...chat, max_completion_tokens: null }, model, sources) : planned;
  return open.ok ? ok({ plan: open.value, isContextBound: true }) : no(withOwnNames(open.reason, PARAM_NAMES));
}

function chatOf(
  body: AskedMessage,
  more: { messages: ChatRequest["messages"]; model: PreparedModel | CloudModel },
): ChatRequest {
  const { temperature, top_p, seed } = body;
  const format = body.output_config?.format ?? null;
  return {
    model: body.model,
    messages: more.messages,
    stream: body.stream,
    ...{ temperature, top_p, seed },
    top_k: body.top_k === null || body.top_k === undefined ? null : Math.min(body.top_k, OPENAI_BOUNDS.topKMax),
    stop: body.stop_sequences?.length === 0 ? null : body.stop_sequences,
    max_completion_tokens: body.max_tokens,
    tools: (body.tools ?? []).map(({ name, description, input_schema, strict }) => ({
      type: "function",
      function: { name, description, parameters: input_schema, strict },
    })),
    tool_choice: toolChoiceOf(body),
    parallel_tool_calls: body.tool_choice?.type !== "none" && body.tool_choice?.disable_parallel_tool_use !== true,
    response_format:
      format === null ? null : { type: "json_schema", json_schema: { name: "answer", schema: format.schema } },
    reasoning_effort: effortOf(body, more.model),
  };
}

function toolChoiceOf(body: AskedMessage): ChatRequest["tool_choice"] {
  const choice = body.tool_choice ?? null;
  switch (choice?.type) {
    case undefined:
      return null;
    case "auto":
    case "none":
      return choice?.type;
    case "any":
      return "required";
    case "tool":
      return { type: "function", function: { name: choice?.name ?? "" } };
  }
}

/** Only what the model's template knows: Anthropic's clients send these without asking whether it does. A provider's template nobody knows. */
function effortOf(body: AskedMessage, model: PreparedModel | CloudModel): ChatRequest["reasoning_effort"] {
  if (model.tokenizer === null) return null;
  if (body.thinking?.type === "disabled") return "none";
  const effort = body.output_config?.effort ?? (body.thinking ? "medium" : null);
  const source = model.chat.ok ? model.chat.value.prompt.template.source : "";
  const isKnown = source.includes("reasoning_effort") || source.includes("enable_thinking");
  if (effort === null || !isKnown) return null;
  return effort === "max" ? "xhigh" : effort;
}
