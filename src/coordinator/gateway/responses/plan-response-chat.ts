/**
 * From a request of `/v1/responses` to a plan: the answers before it and its own items become the messages of a chat, the chat is
 * planned, and the answer is written as a response. With `truncation: "auto"` the oldest messages go until the rest fits.
 */
import { no, type Outcome, ok, refuse } from "../../../domain/refusal.ts";
import type { ChatMessage, ChatRequest } from "../../../wire/openai/chat-request.ts";
import type { InputTokensRequest, ResponseRequest } from "../../../wire/openai/response-request.ts";
import { type ParamName, withOwnNames } from "../bodies/param-names.ts";
import type { CloudModel } from "../legs/cloud-model.ts";
import type { GenerationPlan } from "../plans/generation-plan.ts";
import { type PlanSources, planChat } from "../plans/plan-chat.ts";
import type { PreparedModel } from "../plans/prepared-model.ts";
import { itemsOfInput } from "./input-items.ts";
import { messagesOf } from "./items-to-messages.ts";
import { type HistoryReader, itemsBefore, withReferences } from "./response-history.ts";

export type AskedResponse = InputTokensRequest & Partial<ResponseRequest>;
type StoredItems = Parameters<typeof messagesOf>[0];

const PARAM_NAMES: readonly ParamName[] = [
  { chat: /^messages(\[\d+\].*)?$/, own: "input" },
  { chat: /^tools\[(\d+)\]\.function\.parameters/, own: "tools[$1].parameters" },
  { chat: /^tool_choice\.function\.name$/, own: "tool_choice.name" },
  { chat: /^response_format\.json_schema/, own: "text.format" },
  { chat: /^response_format$/, own: "text.format" },
  { chat: /^reasoning_effort$/, own: "reasoning.effort" },
  { chat: /^max_(completion_)?tokens$/, own: "max_output_tokens" },
];

/** What an answer is left at least, where messages go for it: a quarter of the context, up to this. */
const ROOM_TOKENS_MAX = 1_024;

export interface PlannedResponse {
  readonly plan: GenerationPlan;
  /** Of this request alone, in place of references what they name. */
  readonly input: StoredItems;
}

export async function planResponseChat(
  body: AskedResponse,
  model: PreparedModel | CloudModel,
  more: { readonly reader: HistoryReader; readonly sources: PlanSources },
): Promise<Outcome<PlannedResponse>> {
  const wrong = wrongFields(body);
  if (wrong !== null) return wrong;
  const history = await historyOf(body, more.reader);
  if (!history.ok) return history;
  const { before, input } = history.value;
  const instructions = body.instructions ?? "";
  const messages: ChatMessage[] = [
    ...(instructions === "" ? [] : [{ role: "system" as const, content: instructions }]),
    ...messagesOf([...before, ...input]),
  ];
  const chat = chatOf(body, messages);
  const planned = await planChat(chat, model, more.sources);
  if (planned.ok) return ok({ plan: planned.value, input });
  const isTooLong = planned.reason.code === "context-length-exceeded" && body.truncation === "auto";
  const shorter = isTooLong && model.tokenizer !== null ? await planShorter(chat, model, more.sources) : null;
  if (shorter !== null) return ok({ plan: shorter, input });
  return no(withOwnNames(planned.reason, PARAM_NAMES));
}

function wrongFields(body: AskedResponse) {
  const names = (body.tools ?? []).map((tool) => tool.name);
  const choice = body.tool_choice ?? null;
  if (choice !== null && typeof choice === "object" && choice.type === "allowed_tools") {
    const unknown = choice.tools.find((tool) => !names.includes(tool.name));
    if (unknown !== undefined) {
      const message = `tool_choice allows ${JSON.stringify(unknown.name)}, which is not among the tools`;
      return refuse("invalid-request", message, { param: "tool_choice.tools" });
    }
  }
  const hasLogprobs = body.include?.includes("message.output_text.logprobs") === true;
  if ((body.top_logprobs ?? 0) > 0 && !hasLogprobs) {
    const message = 'top_logprobs needs include: ["message.output_text.logprobs"]';
    return refuse("invalid-request", message, { param: "top_logprobs" });
  }
  return null;
}

async function historyOf(
  body: AskedResponse,
  reader: HistoryReader,
): Promise<Outcome<{ before: StoredItems; input: StoredItems }>> {
  const input = await withReferences(reader, itemsOfInput(body.input));
  if (!input.ok) return input;
  const previous = body.previous_response_id ?? null;
  const before = previous === null ? ok([]) : await itemsBefore(reader, previous);
  if (!before.ok) return before;
  if (input.value.length + before.value.length === 0 && (body.instructions ?? "") === "") {
    return refuse("invalid-request", "there is nothing to answer: 'input' is missing", { param: "input" });
  }
  return ok({ before: before.value, input: input.value });
}

function chatOf(body: AskedResponse, messages: readonly ChatMessage[]): ChatRequest {
  const { tools, toolChoice } = toolsOf(body);
  const hasLogprobs = body.include?.includes("message.output_text.logprobs") === true;
  const { temperature, top_p, top_k, frequency_penalty, presence_penalty, logit_bias, seed, stop, ignore_eos } = body;
  return {
    model: body.model,
    messages: [...messages],
    stream: body.stream,
    ...{ temperature, top_p, top_k, frequency_penalty, presence_penalty, logit_bias, seed, stop, ignore_eos },
    max_completion_tokens: body.max_output_tokens,
    logprobs: hasLogprobs,
    top_logprobs: hasLogprobs ? (body.top_logprobs ?? 0) : null,
    response_format: formatOf(body),
    tools: tools.map(({ name, description, parameters, strict }) => ({
      type: "function",
      function: { name, description, parameters, strict },
    })),
    tool_choice: toolChoice,
    parallel_tool_calls: body.parallel_tool_calls,
    reasoning_effort: body.reasoning?.effort,
  };
}

function toolsOf(body: AskedResponse) {
  const tools = body.tools ?? [];
  const choice = body.tool_choice ?? null;
  if (choice === null || typeof choice === "string") return { tools, toolChoice: choice };
  if (choice.type === "function") {
    return { tools, toolChoice: { type: "function" as const, function: { name: choice.name } } };
  }
  const allowed = new Set(choice.tools.map((tool) => tool.name));
  return { tools: tools.filter((tool) => allowed.has(tool.name)), toolChoice: choice.mode };
}

function formatOf(body: AskedResponse): ChatRequest["response_format"] {
  const format = body.text?.format ?? null;
  if (format === null || format.type !== "json_schema") return format;
  const { name, description, schema, strict } = format;
  return { type: "json_schema", json_schema: { name, description, schema, strict } };
}

/** The plan that leaves out as few of the oldest messages as can be; null when even the newest alone does not fit. */
async function planShorter(
  chat: ChatRequest,
  model: PreparedModel,
  sources: PlanSources,
): Promise<GenerationPlan | null> {
  const asked = chat.max_completion_tokens ?? null;
  const room = asked ?? Math.min(ROOM_TOKENS_MAX, Math.floor(model.manifest.contextTokensMax / 4));
  const planWithout = async (dropped: number, tokens: number | null) => {
    const messages = withoutOldest(chat.messages, dropped);
    const planned = await planChat({ ...chat, messages, max_completion_tokens: tokens }, model, sources);
    return planned.ok ? planned.value : null;
  };
  let [fewest, most] = [1, spokenCount(chat.messages) - 1];
  if (most < 1 || (await planWithout(most, room)) === null) return null;
  while (fewest < most) {
    const middle = Math.floor((fewest + most) / 2);
    if ((await planWithout(middle, room)) === null) fewest = middle + 1;
    else most = middle;
  }
  return await planWithout(most, asked);
}

const isRule = (message: ChatMessage) => message.role === "system" || message.role === "developer";

function spokenCount(messages: readonly ChatMessage[]): number {
  return messages.filter((message) => !isRule(message)).length;
}

/** Rules stay; an output whose call went goes with it. */
function withoutOldest(messages: readonly ChatMessage[], count: number): ChatMessage[] {
  let left = count;
  const callIds = new Set<string>();
  return messages.filter((message) => {
    if (isRule(message)) return true;
    if (left > 0) {
      left--;
      return false;
    }
    if (message.role === "assistant") for (const call of message.tool_calls ?? []) callIds.add(call.id);
    return message.role !== "tool" || callIds.has(message.tool_call_id);
  });
}
