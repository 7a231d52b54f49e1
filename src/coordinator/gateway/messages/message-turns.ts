/** From the messages of `/v1/messages` to those of a chat. Results of tools are messages of their own there, and come before the words. */
import { type Outcome, ok, refuse } from "../../../domain/refusal.ts";
import type { CountTokensRequest, MessageParam } from "../../../wire/anthropic/message-request.ts";
import type { ChatMessage } from "../../../wire/openai/chat-request.ts";

type AssistantParam = Extract<MessageParam, { role: "assistant" }>;
type UserParam = Extract<MessageParam, { role: "user" }>;

export function chatMessages(body: CountTokensRequest): Outcome<ChatMessage[]> {
  if (body.messages.at(-1)?.role === "assistant") {
    const message = "the last message is the assistant's: going on from it is not supported; end with a user message";
    return refuse("unsupported-parameter", message, { param: `messages[${body.messages.length - 1}]` });
  }
  const system = textOf(body.system ?? "");
  const messages: ChatMessage[] = system === "" ? [] : [{ role: "system", content: system }];
  for (const message of body.messages) {
    switch (message.role) {
      case "system":
        messages.push({ role: "system", content: textOf(message.content) });
        break;
      case "user":
        messages.push(...userMessages(message));
        break;
      case "assistant":
        messages.push(assistantMessage(message));
        break;
    }
  }
  return ok(messages);
}

function userMessages({ content }: UserParam): readonly ChatMessage[] {
  if (typeof content === "string") return [{ role: "user", content }];
  const results = content.flatMap((block): ChatMessage[] => {
    if (block.type !== "tool_result") return [];
    const text = textOf(block.content ?? "");
    // The chat has no field for it, so it is said.
    const told = block.is_error === true ? `Error: ${text}` : text;
    return [{ role: "tool", tool_call_id: block.tool_use_id, content: told }];
  });
  const words = content.filter((block) => block.type === "text");
  return words.length === 0 && results.length > 0 ? results : [...results, { role: "user", content: textOf(words) }];
}

function assistantMessage({ content }: AssistantParam): ChatMessage {
  if (typeof content === "string") return { role: "assistant", content };
  const calls = content.flatMap((block) =>
    block.type === "tool_use"
      ? [
          {
            id: block.id,
            type: "function" as const,
            function: { name: block.name, arguments: JSON.stringify(block.input) },
          },
        ]
      : [],
  );
  const text = textOf(content.filter((block) => block.type === "text"));
  const reasoning = content.map((block) => (block.type === "thinking" ? block.thinking : "")).join("");
  return {
    role: "assistant",
    content: text === "" && calls.length > 0 ? null : text,
    ...(calls.length === 0 ? {} : { tool_calls: calls }),
    ...(reasoning === "" ? {} : { reasoning_content: reasoning }),
  };
}

function textOf(content: string | readonly { readonly text: string }[]): string {
  return typeof content === "string" ? content : content.map((block) => block.text).join("");
}
