import { absurd, assert } from "../../../domain/assert.ts";
import type { Refusal } from "../../../domain/refusal.ts";
import type { OutputDelta } from "../../../inference/chat/conversation.ts";
import type {
  ChatChunk,
  ChatCompletion,
  FinishReason,
  TokenLogprobEntry,
  ToolCall,
  Usage,
} from "../../../wire/openai/responses.ts";
import type { AnswerHead } from "../plans/generation-plan.ts";
import type { ChoiceOutput } from "./answer-format.ts";
import { type AnswerFormat, DONE_EVENT, event, failureEvent } from "./answer-format.ts";

type ChunkDelta = ChatChunk["choices"][number]["delta"];

interface CollectedChoice {
  content: string;
  reasoning: string;
  readonly toolCalls: { id: string; name: string; argumentsText: string }[];
  readonly logprobs: TokenLogprobEntry[];
  finishReason: FinishReason | null;
  hasOpened: boolean;
}

/**
 * `chat.completion` and its chunks. What is the same in every chunk of a request is turned into JSON once; a delta costs one
 * `JSON.stringify`.
 */
export class ChatFormat implements AnswerFormat {
  readonly #head: AnswerHead;
  readonly #hasLogprobs: boolean;
  readonly #makeCallId: () => string;
  readonly #choices: readonly CollectedChoice[];
  readonly #before: string;
  readonly #after: string;

  constructor(options: { head: AnswerHead; choices: number; hasLogprobs: boolean; makeCallId: () => string }) {
    this.#head = options.head;
    this.#hasLogprobs = options.hasLogprobs;
    this.#makeCallId = options.makeCallId;
    this.#choices = Array.from({ length: options.choices }, () => ({
      content: "",
      reasoning: "",
      toolCalls: [],
      logprobs: [],
      finishReason: null,
      hasOpened: false,
    }));
    const fields = JSON.stringify({ ...this.#fields("chat.completion.chunk") });
    this.#before = `data: ${fields.slice(0, -1)},"choices":[{"index":`;
    this.#after = `}]${options.head.hasUsageChunk ? ',"usage":null' : ""}}\n\n`;
  }

  events(output: ChoiceOutput): string {
    const choice = this.#choice(output.choice);
    let events = "";
    if (!choice.hasOpened) {
      choice.hasOpened = true;
      events += this.#chunk(output.choice, { delta: { role: "assistant", content: "", refusal: null } });
    }
    const deltas = this.#chunkDeltas(output.deltas);
    // Logprobs of held-back text have no delta of their own yet.
    if (deltas.length === 0 && output.logprobs.length > 0) deltas.push({ content: "" });
    for (const [index, delta] of deltas.entries()) {
      events += this.#chunk(output.choice, { delta, logprobs: index === 0 ? output.logprobs : [] });
    }
    if (output.finishReason !== null) {
      events += this.#chunk(output.choice, { delta: {}, finishReason: output.finishReason });
    }
    return events;
  }

  end(usage: Usage, comment: string): string {
    const chunk = { ...this.#fields("chat.completion.chunk"), choices: [], usage };
    const usageEvent = this.#head.hasUsageChunk ? event(JSON.stringify(chunk)) : "";
    return `${usageEvent}${comment}${DONE_EVENT}`;
  }

  failure(reason: Refusal): string {
    return failureEvent(reason);
  }

  collect(output: ChoiceOutput): void {
    const choice = this.#choice(output.choice);
    for (const delta of output.deltas) this.#collectDelta(choice, delta);
    choice.logprobs.push(...output.logprobs);
    choice.finishReason = output.finishReason;
  }

  body(usage: Usage): string {
    const choices = this.#choices.map((choice, index): ChatCompletion["choices"][number] => {
      assert(choice.finishReason !== null, `choice ${index} has ended`);
      const calls = choice.toolCalls.map(
        ({ id, name, argumentsText }): ToolCall => ({
          id,
          type: "function",
          function: { name, arguments: argumentsText },
        }),
      );
      return {
        index,
        message: {
          role: "assistant",
          content: choice.content === "" && calls.length > 0 ? null : choice.content,
          refusal: null,
          ...(choice.reasoning === "" ? {} : { reasoning_content: choice.reasoning }),
          ...(calls.length === 0 ? {} : { tool_calls: calls }),
        },
        logprobs: this.#hasLogprobs ? { content: choice.logprobs, refusal: null } : null,
        finish_reason: choice.finishReason,
      };
    });
    const body: ChatCompletion = { ...this.#fields("chat.completion"), choices, usage };
    return JSON.stringify(body);
  }

  #fields<Kind extends string>(object: Kind) {
    const { requestId, createdAtMs, modelId, tier, systemFingerprint } = this.#head;
    return {
      id: `chatcmpl-${requestId.slice("req_".length)}`,
      object,
      created: Math.floor(createdAtMs / 1000),
      model: modelId,
      service_tier: tier,
      system_fingerprint: systemFingerprint,
    };
  }

  #chunk(
    choice: number,
    part: { delta: ChunkDelta; logprobs?: readonly TokenLogprobEntry[]; finishReason?: FinishReason },
  ): string {
    const logprobs =
      this.#hasLogprobs && part.logprobs !== undefined && part.logprobs.length > 0
        ? JSON.stringify({ content: part.logprobs, refusal: null })
        : "null";
    const finish = part.finishReason === undefined ? "null" : `"${part.finishReason}"`;
    return `${this.#before}${choice},"delta":${JSON.stringify(part.delta)},"logprobs":${logprobs},"finish_reason":${finish}${this.#after}`;
  }

  #chunkDeltas(deltas: readonly OutputDelta[]): ChunkDelta[] {
    return deltas.map((delta): ChunkDelta => {
      switch (delta.kind) {
        case "text":
          return { content: delta.text };
        case "reasoning":
          return { reasoning_content: delta.text };
        case "tool-call": {
          const call = { name: delta.name, arguments: "" };
          return { tool_calls: [{ index: delta.index, id: this.#makeCallId(), type: "function", function: call }] };
        }
        case "tool-arguments":
          return { tool_calls: [{ index: delta.index, function: { arguments: delta.text } }] };
        default:
          return absurd(delta);
      }
    });
  }

  #collectDelta(choice: CollectedChoice, delta: OutputDelta): void {
    switch (delta.kind) {
      case "text":
        choice.content += delta.text;
        return;
      case "reasoning":
        choice.reasoning += delta.text;
        return;
      case "tool-call":
        choice.toolCalls.push({ id: this.#makeCallId(), name: delta.name, argumentsText: "" });
        return;
      case "tool-arguments": {
        const call = choice.toolCalls[delta.index];
        assert(call !== undefined, `call ${delta.index} was named before its arguments`);
        call.argumentsText += delta.text;
        return;
      }
      default:
        absurd(delta);
    }
  }

  #choice(index: number): CollectedChoice {
    const choice = this.#choices[index];
    assert(choice !== undefined, `choice ${index} is one of ${this.#choices.length}`);
    return choice;
  }
}
