/** From the API's messages to the turns that a template reads. */
import { type Outcome, ok, refuse } from "../../../domain/refusal.ts";
import type { ChatToolCall, ChatTurn } from "../../../inference/chat/conversation.ts";
import type { ChatMessage } from "../../../wire/openai/chat-request.ts";

export function chatTurns(messages: readonly ChatMessage[]): Outcome<readonly ChatTurn[]> {
  const turns: ChatTurn[] = [];
  const callIds = new Set<string>();
  for (const [index, message] of messages.entries()) {
    const unknown = message.role === "tool" && !callIds.has(message.tool_call_id) ? message.tool_call_id : null;
    if (unknown !== null) {
      return refuse(
        "invalid-request",
        `no earlier assistant message has a tool call with the id ${JSON.stringify(unknown)}`,
        {
          param: `messages[${index}].tool_call_id`,
        },
      );
    }
    const turn = turnOf(message);
    for (const { id } of turn.toolCalls) callIds.add(id);
    turns.push(turn);
  }
  return ok(turns);
}

const PLAIN = { name: null, toolCalls: [], toolCallId: null, reasoning: null } as const;

function turnOf(message: ChatMessage): ChatTurn {
  switch (message.role) {
    case "system":
    case "developer":
    case "user":
      return { ...PLAIN, role: message.role, text: textOf(message.content), name: message.name ?? null };
    case "tool":
      return {
        ...PLAIN,
        role: "tool",
        text: textOf(message.content),
        name: message.name ?? null,
        toolCallId: message.tool_call_id,
      };
    case "function":
      return { ...PLAIN, role: "tool", text: message.content ?? "", name: message.name };
    case "assistant":
      return {
        ...PLAIN,
        role: "assistant",
        text:
          message.content === null || message.content === undefined ? (message.refusal ?? "") : textOf(message.content),
        name: message.name ?? null,
        toolCalls: toolCallsOf(message),
        reasoning: message.reasoning_content ?? null,
      };
  }
}

function toolCallsOf(message: Extract<ChatMessage, { role: "assistant" }>): readonly ChatToolCall[] {
  const calls = (message.tool_calls ?? []).map((call) => ({
    id: call.id,
    name: call.function.name,
    argumentsText: call.function.arguments,
  }));
  const old = message.function_call ?? null;
  return old === null ? calls : [...calls, { id: `call_${old.name}`, name: old.name, argumentsText: old.arguments }];
}

type Content = string | readonly ({ type: "text"; text: string } | { type: "refusal"; refusal: string })[];

/** Parts are one text: how it was cut into parts means nothing to a template. */
function textOf(content: Content): string {
  if (typeof content === "string") return content;
  return content.map((part) => (part.type === "text" ? part.text : part.refusal)).join("");
}
