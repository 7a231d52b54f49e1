/**
 * Turns a provider's answer, chunk by chunk or whole, into events, and holds it to the rules of the API:
 *
 * | choice  | text, tool call      | finish_reason         | end of the answer |
 * | ------- | -------------------- | --------------------- | ----------------- |
 * | open    | event                | `choice-end`, ended   | `cut`             |
 * | ended   | `malformed`          | ignored if it is the same, else `malformed` | -  |
 *
 * A tool call begins with its name and id before its arguments, and calls are numbered from 0 without a gap. Nothing here knows HTTP.
 *
 * Not handled: `function_call`, which OpenAI replaced by tool calls; an answer with it ends as one without a call.
 */
import type { CloudEvent, CloudFinish, CloudUsage } from "../../ports/cloud.ts";
import { UpstreamFault } from "./upstream-fault.ts";
import {
  answerSchema,
  type UpstreamChoice,
  type UpstreamPart,
  type UpstreamToolCall,
  usageSchema,
} from "./upstream-schema.ts";

type AnswerEvent = CloudEvent | { readonly kind: "noticed"; readonly what: "logprobs" | "usage-nonsense" };

/** As OpenAI: no answer has more calls at once. */
const TOOL_CALLS_MAX = 128;
/** A token is some four characters; the longest in any vocabulary are runs of blanks. */
const CHARS_PER_TOKEN_MAX = 32;
/** A provider may send one character a time. */
const PARTS_PER_TOKEN_MAX = 16;
/** What a short answer may be longer by: counting is never exact to the token. */
const CHARS_MARGIN = 2_048;
const PARTS_MARGIN = 256;

const FINISH: Readonly<Record<string, CloudFinish>> = {
  stop: "stop",
  // Together's and TGI's names.
  eos: "stop",
  eos_token: "stop",
  stop_sequence: "stop",
  length: "length",
  tool_calls: "tool_calls",
  function_call: "tool_calls",
  content_filter: "content_filter",
};

interface ChoiceState {
  finish: CloudFinish | null;
  readonly calls: { readonly id: string; readonly name: string }[];
}

export class AnswerReader {
  readonly #emit: (event: AnswerEvent) => void;
  readonly #choices: readonly ChoiceState[];
  readonly #charsMax: number;
  readonly #partsMax: number;
  #chars = 0;
  #parts = 0;
  #usage: CloudUsage | null = null;
  #hasLogprobs = false;
  #hasBegun = false;

  constructor(limits: { choices: number; tokensMax: number }, emit: (event: AnswerEvent) => void) {
    this.#emit = emit;
    this.#choices = Array.from({ length: limits.choices }, () => ({ finish: null, calls: [] }));
    this.#charsMax = limits.tokensMax * CHARS_PER_TOKEN_MAX + CHARS_MARGIN;
    this.#partsMax = limits.tokensMax * PARTS_PER_TOKEN_MAX + PARTS_MARGIN;
  }

  /** True once the answer said something: text, a call, or the end of a choice. */
  get hasBegun(): boolean {
    return this.#hasBegun;
  }

  /** One chunk of a stream or the whole body, as parsed JSON. Throws `UpstreamFault`. */
  take(value: unknown): void {
    const text = plainText(value);
    if (text === null) this.#takeWhole(value);
    else this.#takeText("text", 0, text);
  }

  #takeWhole(value: unknown): void {
    const parsed = answerSchema.safeParse(value);
    if (!parsed.success) {
      const issue = parsed.error.issues[0];
      throw malformed(`what it sent does not fit the API (${issue?.path.join(".") ?? ""}: ${issue?.message ?? ""})`);
    }
    const { choices, usage } = parsed.data;
    for (const choice of choices ?? []) this.#takeChoice(choice);
    if (usage !== undefined && usage !== null) this.#takeUsage(usage);
  }

  /** The answer is over. Emits `end`, or throws `cut` when a choice has not ended. */
  end(): void {
    if (!this.isComplete) throw new UpstreamFault("cut", "the answer stopped before its end");
    this.#emit({ kind: "end", usage: this.#usage });
  }

  get isComplete(): boolean {
    return this.#choices.every(({ finish }) => finish !== null);
  }

  #takeChoice(choice: UpstreamChoice): void {
    const at = choice.index ?? 0;
    const state = this.#choices[at];
    if (state === undefined) {
      throw malformed(`it sent choice ${at} of ${this.#choices.length} that were asked for (they count from 0)`);
    }
    if (choice.logprobs !== undefined && choice.logprobs !== null && !this.#hasLogprobs) {
      this.#hasLogprobs = true;
      this.#emit({ kind: "noticed", what: "logprobs" });
    }
    if (choice.text !== undefined && choice.text !== null) this.#takeText("text", at, choice.text);
    const part = choice.delta ?? choice.message;
    if (part !== undefined && part !== null) this.#takePart(at, part);
    const finish = choice.finish_reason ?? "";
    if (finish !== "") this.#finish(at, finish.toLowerCase());
  }

  #takePart(at: number, part: UpstreamPart): void {
    this.#takeText("reasoning", at, part.reasoning_content ?? part.reasoning ?? "");
    this.#takeText("text", at, part.content ?? "");
    this.#takeText("text", at, part.refusal ?? "");
    for (const call of part.tool_calls ?? []) this.#takeCall(at, call);
  }

  #takeText(kind: "text" | "reasoning", choice: number, text: string): void {
    if (text === "") return;
    this.#openState(choice, kind);
    this.#count(text.length);
    this.#emit({ kind, choice, text });
  }

  #takeCall(choice: number, call: UpstreamToolCall): void {
    const { calls } = this.#openState(choice, "a tool call");
    const { id = null, index } = call;
    const name = call.function?.name ?? "";
    // Some providers leave the number out: an id that is not known begins a call.
    const unnumbered =
      id === null || id === "" || calls.at(-1)?.id === id ? Math.max(0, calls.length - 1) : calls.length;
    const at = index ?? unnumbered;
    const known = calls[at];
    if (known === undefined) {
      if (at !== calls.length || at >= TOOL_CALLS_MAX || id === null || id === "" || name === "") {
        throw malformed(
          `tool call ${at} came out of order: ${calls.length} had begun, and one begins with id and name`,
        );
      }
      calls.push({ id, name });
      this.#count(name.length);
      this.#emit({ kind: "tool-call", choice, index: at, id, name });
    } else if ((name !== "" && name !== known.name) || (id !== null && id !== "" && id !== known.id)) {
      throw malformed(`tool call ${at} changed its id or name in mid-answer`);
    }
    const text = call.function?.arguments ?? "";
    if (text === "") return;
    this.#count(text.length);
    this.#emit({ kind: "tool-arguments", choice, index: at, text });
  }

  #finish(choice: number, named: string): void {
    const state = this.#choices[choice];
    if (named === "error") throw new UpstreamFault("overloaded", "it ended the answer with an error");
    const finish = FINISH[named];
    if (finish === undefined) throw malformed(`it ended a choice with the reason ${JSON.stringify(named)}`);
    if (state === undefined || state.finish === finish) return;
    if (state.finish !== null) throw malformed(`it ended choice ${choice} as ${state.finish} and then as ${finish}`);
    state.finish = finish;
    this.#hasBegun = true;
    this.#emit({ kind: "choice-end", choice, reason: finish });
  }

  #openState(choice: number, what: string): ChoiceState {
    const state = this.#choices[choice];
    if (state === undefined || state.finish !== null)
      throw malformed(`it sent ${what} of choice ${choice} after its end`);
    this.#hasBegun = true;
    return state;
  }

  #count(chars: number): void {
    this.#chars += chars;
    this.#parts += 1;
    if (this.#chars <= this.#charsMax && this.#parts <= this.#partsMax) return;
    throw new UpstreamFault(
      "endless",
      `it sent ${this.#chars} characters in ${this.#parts} parts, far more than was asked for`,
    );
  }

  #takeUsage(value: unknown): void {
    const parsed = usageSchema.safeParse(value);
    if (!parsed.success) {
      this.#emit({ kind: "noticed", what: "usage-nonsense" });
      this.#usage = null;
      return;
    }
    const { prompt_tokens, completion_tokens, prompt_tokens_details } = parsed.data;
    const cachedTokens = Math.min(prompt_tokens_details?.cached_tokens ?? 0, prompt_tokens);
    this.#usage = { promptTokens: prompt_tokens, cachedTokens, completionTokens: completion_tokens ?? 0 };
  }
}

/**
 * The text of a chunk that says nothing else, as nearly all of a stream do; null: it has to be looked at. What the schema takes is taken here
 * as the same; a schema over each costs as much as the rest of the way.
 */
function plainText(value: unknown): string | null {
  if (!isRecord(value) || (value["usage"] ?? null) !== null) return null;
  const { choices } = value;
  if (!Array.isArray(choices) || choices.length !== 1) return null;
  const choice: unknown = choices[0];
  if (!isRecord(choice) || !isRecord(choice["delta"])) return null;
  for (const name in choice) {
    if (name === "delta" || (name === "index" && choice["index"] === 0)) continue;
    if (choice[name] !== null) return null;
  }
  const { delta } = choice;
  for (const name in delta) if (name !== "content" && name !== "role" && delta[name] !== null) return null;
  const { content } = delta;
  return typeof content === "string" && content !== "" ? content : null;
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function malformed(message: string): UpstreamFault {
  return new UpstreamFault("malformed", message);
}
