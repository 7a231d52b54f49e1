/**
 * The output of a response as it grows: pieces of an answer become items, and each change of an item an event in OpenAI's order.
 *
 * | piece          | open item is of its kind | otherwise                                              |
 * | -------------- | ------------------------ | ------------------------------------------------------ |
 * | text           | its delta                | the open item is done, a message is added, its part, its delta |
 * | reasoning      | its delta                | the same with a reasoning item                         |
 * | tool-call      | –                        | the open item is done, a call is added                 |
 * | tool-arguments | its delta                | a bug: a call is named before its arguments            |
 * | the end        | it is done               | an answer without any item gets an empty message       |
 */
import { absurd, assert } from "../../../domain/assert.ts";
import type { ResponseId } from "../../../domain/ids.ts";
import type { OutputDelta } from "../../../inference/chat/conversation.ts";
import type { OutputItem, ResponseEvent } from "../../../wire/openai/response-object.ts";
import type { TokenLogprobEntry } from "../../../wire/openai/responses.ts";
import type { ChoiceOutput } from "../answers/answer-format.ts";
import { itemId } from "./item-ids.ts";

type Unnumbered<E> = E extends unknown ? Omit<E, "sequence_number"> : never;
export type OutputEvent = Unnumbered<ResponseEvent>;

interface OpenText {
  readonly kind: "message" | "reasoning";
  readonly id: string;
  text: string;
  readonly logprobs: TokenLogprobEntry[];
}
interface OpenCall {
  readonly kind: "function_call";
  readonly id: string;
  readonly callId: string;
  readonly name: string;
  text: string;
}
type ItemStatus = OutputItem["status"];

const PART = { content_index: 0 } as const;

export class ResponseOutput {
  readonly #responseId: ResponseId;
  readonly #makeCallId: () => string;
  readonly #items: OutputItem[] = [];
  #open: OpenText | OpenCall | null = null;
  #logprobs: TokenLogprobEntry[] = [];
  #reasoning = "";

  constructor(options: { responseId: ResponseId; makeCallId: () => string }) {
    this.#responseId = options.responseId;
    this.#makeCallId = options.makeCallId;
  }

  /** Items that are done. */
  get items(): readonly OutputItem[] {
    return this.#items;
  }

  /** All reasoning so far. */
  get reasoning(): string {
    return this.#reasoning;
  }

  push(output: ChoiceOutput): readonly OutputEvent[] {
    const events: OutputEvent[] = [];
    const hasText = output.deltas.some((delta) => delta.kind === "text");
    // Logprobs of text that is still held back wait for it; those of calls and reasoning are not shown.
    if (hasText || this.#open?.kind === "message") this.#logprobs.push(...output.logprobs);
    for (const delta of output.deltas) this.#take(delta, events);
    if (output.finishReason === null) return events;
    const status = output.finishReason === "length" ? "incomplete" : "completed";
    if (this.#open === null && this.#items.length === 0) this.#openText("message", events);
    this.#done(events, status);
    return events;
  }

  /** It failed: what is open stays as far as it came. */
  abandon(): readonly OutputEvent[] {
    const events: OutputEvent[] = [];
    this.#done(events, "incomplete");
    return events;
  }

  #take(delta: OutputDelta, events: OutputEvent[]): void {
    switch (delta.kind) {
      case "text":
        this.#say(this.#text("message", events), { delta: delta.text, events });
        return;
      case "reasoning":
        this.#reasoning += delta.text;
        this.#say(this.#text("reasoning", events), { delta: delta.text, events });
        return;
      case "tool-call":
        this.#call(delta.name, events);
        return;
      case "tool-arguments": {
        const call = this.#open;
        assert(call?.kind === "function_call", "a call is named before its arguments");
        call.text += delta.text;
        events.push({ type: "response.function_call_arguments.delta", ...this.#place(call), delta: delta.text });
        return;
      }
      default:
        absurd(delta);
    }
  }

  #say(open: OpenText, said: { delta: string; events: OutputEvent[] }): void {
    const { delta, events } = said;
    open.text += delta;
    const place = { ...this.#place(open), ...PART };
    if (open.kind === "reasoning") {
      events.push({ type: "response.reasoning_text.delta", ...place, delta });
      return;
    }
    const logprobs = this.#logprobs;
    this.#logprobs = [];
    open.logprobs.push(...logprobs);
    events.push({ type: "response.output_text.delta", ...place, delta, logprobs });
  }

  #text(kind: OpenText["kind"], events: OutputEvent[]): OpenText {
    if (this.#open?.kind === kind) return this.#open;
    return this.#openText(kind, events);
  }

  #openText(kind: OpenText["kind"], events: OutputEvent[]): OpenText {
    this.#done(events, "completed");
    const open: OpenText = { kind, id: this.#nextId(kind), text: "", logprobs: [] };
    this.#open = open;
    const [item, part] =
      kind === "message"
        ? [message(open, "in_progress", []), textPart(open)]
        : [reasoning(open, "in_progress", []), reasoningPart(open)];
    events.push({ type: "response.output_item.added", output_index: this.#items.length, item });
    events.push({ type: "response.content_part.added", ...this.#place(open), ...PART, part });
    return open;
  }

  #call(name: string, events: OutputEvent[]): void {
    this.#done(events, "completed");
    const open: OpenCall = {
      kind: "function_call",
      id: this.#nextId("function_call"),
      callId: this.#makeCallId(),
      name,
      text: "",
    };
    this.#open = open;
    const item = call(open, "in_progress");
    events.push({ type: "response.output_item.added", output_index: this.#items.length, item });
  }

  /** Ends the open item, if there is one. */
  #done(events: OutputEvent[], status: ItemStatus): void {
    const open = this.#open;
    if (open === null) return;
    this.#open = null;
    const place = this.#place(open);
    switch (open.kind) {
      case "message": {
        open.logprobs.push(...this.#logprobs);
        this.#logprobs = [];
        const { text, logprobs } = open;
        const part = textPart(open);
        events.push({ type: "response.output_text.done", ...place, ...PART, text, logprobs });
        events.push({ type: "response.content_part.done", ...place, ...PART, part });
        this.#add(message(open, status, [part]), events);
        return;
      }
      case "reasoning": {
        const part = reasoningPart(open);
        events.push({ type: "response.reasoning_text.done", ...place, ...PART, text: open.text });
        events.push({ type: "response.content_part.done", ...place, ...PART, part });
        this.#add(reasoning(open, status, [part]), events);
        return;
      }
      case "function_call": {
        const { name, text } = open;
        events.push({ type: "response.function_call_arguments.done", ...place, name, arguments: text });
        this.#add(call(open, status), events);
        return;
      }
      default:
        absurd(open);
    }
  }

  #add(item: OutputItem, events: OutputEvent[]): void {
    events.push({ type: "response.output_item.done", output_index: this.#items.length, item });
    this.#items.push(item);
  }

  #place(open: { readonly id: string }) {
    return { item_id: open.id, output_index: this.#items.length };
  }

  #nextId(kind: "message" | "reasoning" | "function_call"): string {
    return itemId(this.#responseId, { kind, side: "output", index: this.#items.length });
  }
}

const textPart = ({ text, logprobs }: OpenText) => ({
  type: "output_text" as const,
  text,
  annotations: [],
  logprobs: [...logprobs],
});
const reasoningPart = ({ text }: OpenText) => ({ type: "reasoning_text" as const, text });

function message(open: OpenText, status: ItemStatus, content: ReturnType<typeof textPart>[]): OutputItem {
  return { id: open.id, type: "message", status, role: "assistant", content };
}

function reasoning(open: OpenText, status: ItemStatus, content: ReturnType<typeof reasoningPart>[]): OutputItem {
  return { id: open.id, type: "reasoning", status, summary: [], content, encrypted_content: null };
}

function call({ id, callId, name, text }: OpenCall, status: ItemStatus): OutputItem {
  return { id, type: "function_call", status, call_id: callId, name, arguments: text };
}
