/**
 * `message` and the events of its stream. Pieces of an answer become content blocks; a piece of another kind ends the open block.
 *
 * | piece          | block    | delta              |
 * | -------------- | -------- | ------------------ |
 * | text           | text     | `text_delta`       |
 * | reasoning      | thinking | `thinking_delta`   |
 * | tool-call      | tool_use | –                  |
 * | tool-arguments | (open)   | `input_json_delta` |
 */
import { absurd, assert } from "../../../domain/assert.ts";
import type { Refusal } from "../../../domain/refusal.ts";
import type { OutputDelta } from "../../../inference/chat/conversation.ts";
import type {
  AnthropicStopReason,
  ContentBlock,
  Message,
  MessageEvent,
  MessageUsage,
} from "../../../wire/anthropic/message.ts";
import type { FinishReason, Usage } from "../../../wire/openai/responses.ts";
import type { AnswerFormat, ChoiceOutput } from "../answers/answer-format.ts";
import type { AnswerHead } from "../plans/generation-plan.ts";
import { anthropicError } from "./message-errors.ts";

export interface MessageFormatOptions {
  readonly head: AnswerHead;
  readonly promptTokens: number;
  /** Its length is bound by the context, not by `max_tokens`. */
  readonly isContextBound: boolean;
  readonly makeCallId: () => string;
  /** How many tokens a text has. */
  readonly countTokens: (text: string) => Promise<number>;
}

interface OpenBlock {
  readonly kind: "text" | "thinking" | "tool_use";
  readonly id: string;
  readonly name: string;
  text: string;
}

const MESSAGE_TIERS = { default: "standard", priority: "priority", flex: "flex" } as const;
const NO_DETAILS = { stop_details: null, container: null } as const;

export class MessageFormat implements AnswerFormat {
  readonly #options: MessageFormatOptions;
  readonly #blocks: ContentBlock[] = [];
  #open: OpenBlock | null = null;
  #hasBegun = false;
  #thinking = "";
  #thinkingTokens = 0;
  #stop: { readonly reason: AnthropicStopReason; readonly sequence: string | null } | null = null;

  constructor(options: MessageFormatOptions) {
    this.#options = options;
  }

  events(output: ChoiceOutput): string {
    const opening = this.#hasBegun ? "" : this.#opening();
    return opening + written(this.#take(output));
  }

  collect(output: ChoiceOutput): void {
    this.#take(output);
  }

  async keep(usage: Usage): Promise<void> {
    if (this.#thinking === "") return;
    const tokens = await this.#options.countTokens(this.#thinking);
    this.#thinkingTokens = Math.min(tokens, usage.completion_tokens);
  }

  end(usage: Usage, comment: string): string {
    const { reason, sequence } = this.#ended();
    return (
      comment +
      written([
        {
          type: "message_delta",
          delta: { stop_reason: reason, stop_sequence: sequence, ...NO_DETAILS },
          usage: this.#usage(usage),
        },
        { type: "message_stop" },
      ])
    );
  }

  failure(reason: Refusal): string {
    return written([anthropicError(reason, this.#options.head.requestId)]);
  }

  body(usage: Usage): string {
    const { reason, sequence } = this.#ended();
    const message: Message = {
      ...this.#message(),
      content: this.#blocks,
      stop_reason: reason,
      stop_sequence: sequence,
      usage: this.#usage(usage),
    };
    return JSON.stringify(message);
  }

  #opening(): string {
    this.#hasBegun = true;
    const usage = { prompt_tokens: this.#options.promptTokens, completion_tokens: 0, total_tokens: 0 };
    const message: Message = {
      ...this.#message(),
      content: [],
      stop_reason: null,
      stop_sequence: null,
      usage: this.#usage(usage),
    };
    return written([{ type: "message_start", message }, { type: "ping" }]);
  }

  #message() {
    const { requestId, modelId } = this.#options.head;
    return {
      id: `msg_${requestId.slice("req_".length)}`,
      type: "message" as const,
      role: "assistant" as const,
      model: modelId,
      ...NO_DETAILS,
    };
  }

  #usage(usage: Usage): MessageUsage {
    return {
      input_tokens: usage.prompt_tokens,
      output_tokens: usage.completion_tokens,
      cache_creation_input_tokens: 0,
      cache_read_input_tokens: 0,
      cache_creation: null,
      server_tool_use: null,
      inference_geo: null,
      output_tokens_details: this.#thinkingTokens === 0 ? null : { thinking_tokens: this.#thinkingTokens },
      service_tier: MESSAGE_TIERS[this.#options.head.tier],
      ...(usage.cost === undefined ? {} : { cost: usage.cost }),
    };
  }

  #take(output: ChoiceOutput): readonly MessageEvent[] {
    const events: MessageEvent[] = [];
    for (const delta of output.deltas) this.#add(delta, events);
    if (output.finishReason === null) return events;
    this.#close(events);
    const sequence = output.stopString ?? null;
    const isFull = output.finishReason === "length" && this.#options.isContextBound;
    const reason = isFull ? "model_context_window_exceeded" : stopReasonOf(output.finishReason, sequence);
    this.#stop = { reason, sequence };
    return events;
  }

  #add(delta: OutputDelta, events: MessageEvent[]): void {
    switch (delta.kind) {
      case "text":
        this.#say("text", { text: delta.text, events });
        return;
      case "reasoning":
        this.#thinking += delta.text;
        this.#say("thinking", { text: delta.text, events });
        return;
      case "tool-call":
        this.#begin({ kind: "tool_use", id: this.#options.makeCallId(), name: delta.name, text: "" }, events);
        return;
      case "tool-arguments": {
        assert(this.#open?.kind === "tool_use", "a call is named before its arguments");
        this.#open.text += delta.text;
        events.push(this.#delta({ type: "input_json_delta", partial_json: delta.text }));
        return;
      }
      default:
        absurd(delta);
    }
  }

  #say(kind: "text" | "thinking", said: { text: string; events: MessageEvent[] }): void {
    const { text, events } = said;
    if (this.#open?.kind !== kind) this.#begin({ kind, id: "", name: "", text: "" }, events);
    assert(this.#open !== null, "a block is open");
    this.#open.text += text;
    events.push(
      this.#delta(kind === "text" ? { type: "text_delta", text } : { type: "thinking_delta", thinking: text }),
    );
  }

  #begin(open: OpenBlock, events: MessageEvent[]): void {
    this.#close(events);
    this.#open = open;
    events.push({ type: "content_block_start", index: this.#blocks.length, content_block: blockOf(open) });
  }

  #close(events: MessageEvent[]): void {
    const open = this.#open;
    if (open === null) return;
    this.#open = null;
    // Clients of the stream expect one before a thinking block ends; nothing here is signed.
    if (open.kind === "thinking") events.push(this.#delta({ type: "signature_delta", signature: "" }));
    events.push({ type: "content_block_stop", index: this.#blocks.length });
    this.#blocks.push(blockOf(open));
  }

  #delta(delta: Extract<MessageEvent, { type: "content_block_delta" }>["delta"]): MessageEvent {
    return { type: "content_block_delta", index: this.#blocks.length, delta };
  }

  #ended() {
    assert(this.#stop !== null, "the answer has ended");
    return this.#stop;
  }
}

function stopReasonOf(finish: FinishReason, sequence: string | null): AnthropicStopReason {
  switch (finish) {
    case "length":
      return "max_tokens";
    case "tool_calls":
      return "tool_use";
    case "stop":
      return sequence === null ? "end_turn" : "stop_sequence";
  }
}

function blockOf({ kind, id, name, text }: OpenBlock): ContentBlock {
  switch (kind) {
    case "text":
      return { type: "text", text, citations: null };
    case "thinking":
      return { type: "thinking", thinking: text, signature: "" };
    case "tool_use":
      return { type: "tool_use", id, name, input: inputOf(text), caller: { type: "direct" } };
  }
}

/** What the model wrote, where it is an object; a call that was cut off, or is no JSON, keeps its text under a name of its own. */
function inputOf(text: string): Record<string, unknown> {
  if (text === "") return {};
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === "object" && value !== null && !Array.isArray(value)) return { ...value };
  } catch {
    // Told below: the caller sees what was written.
  }
  return { unparsed_arguments: text };
}

function written(events: readonly MessageEvent[]): string {
  return events.map((event) => `event: ${event.type}\ndata: ${JSON.stringify(event)}\n\n`).join("");
}
