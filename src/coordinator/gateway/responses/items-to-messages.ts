/** From items of `/v1/responses` to the messages of a chat. What follows each other and is one turn of the assistant becomes one message. */
import type { ChatMessage } from "../../../wire/openai/chat-request.ts";
import type { SpokenItem, StoredItem } from "../../../wire/openai/response-items.ts";

type AssistantMessage = Extract<ChatMessage, { role: "assistant" }>;

/** The reasoning, words and calls of one turn, while more of it may follow. */
interface Turn {
  reasoning: string;
  text: string | null;
  readonly calls: NonNullable<AssistantMessage["tool_calls"]>;
}

export function messagesOf(items: readonly StoredItem[]): readonly ChatMessage[] {
  const writer = new MessageWriter();
  for (const item of items) writer.add(item);
  return writer.end();
}

class MessageWriter {
  readonly #messages: ChatMessage[] = [];
  #turn: Turn | null = null;

  add(item: StoredItem): void {
    switch (item.type) {
      case "reasoning":
        // Words or calls before it belong to the turn before.
        this.#fresh().reasoning += reasoningText(item);
        return;
      case "function_call":
        this.#open().calls.push({
          id: item.call_id,
          type: "function",
          function: { name: item.name, arguments: item.arguments },
        });
        return;
      case "function_call_output":
        this.#close();
        this.#messages.push({ role: "tool", tool_call_id: item.call_id, content: outputText(item.output) });
        return;
      default:
        this.#say(item);
    }
  }

  end(): readonly ChatMessage[] {
    this.#close();
    return this.#messages;
  }

  #say(item: SpokenItem): void {
    if (item.role === "assistant") {
      this.#fresh().text = spokenText(item);
      return;
    }
    this.#close();
    this.#messages.push({ role: item.role, content: spokenText(item) });
  }

  #open(): Turn {
    this.#turn ??= { reasoning: "", text: null, calls: [] };
    return this.#turn;
  }

  /** A turn that has no words and no calls yet. */
  #fresh(): Turn {
    if (this.#turn !== null && (this.#turn.text !== null || this.#turn.calls.length > 0)) this.#close();
    return this.#open();
  }

  #close(): void {
    if (this.#turn === null) return;
    const { reasoning, text, calls } = this.#turn;
    this.#turn = null;
    this.#messages.push({
      role: "assistant",
      content: text ?? (calls.length > 0 ? null : ""),
      ...(calls.length === 0 ? {} : { tool_calls: calls }),
      ...(reasoning === "" ? {} : { reasoning_content: reasoning }),
    });
  }
}

function reasoningText(item: Extract<StoredItem, { type: "reasoning" }>): string {
  const own = (item.content ?? []).map((part) => part.text).join("");
  return own === "" ? item.summary.map((part) => part.text).join("\n") : own;
}

function outputText(output: string | readonly { text: string }[]): string {
  return typeof output === "string" ? output : output.map((part) => part.text).join("");
}

function spokenText(item: SpokenItem): string {
  if (typeof item.content === "string") return item.content;
  return item.content.map((part) => (part.type === "refusal" ? part.refusal : part.text)).join("");
}
