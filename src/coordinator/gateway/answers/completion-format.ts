import { assert } from "../../../domain/assert.ts";
import type { Refusal } from "../../../domain/refusal.ts";
import type {
  Completion,
  CompletionLogprobs,
  FinishReason,
  TokenLogprobEntry,
  Usage,
} from "../../../wire/openai/responses.ts";
import type { AnswerHead } from "../plans/generation-plan.ts";
import type { ChoiceOutput } from "./answer-format.ts";
import { type AnswerFormat, DONE_EVENT, event, failureEvent } from "./answer-format.ts";

interface CollectedChoice {
  text: string;
  /** Characters before the next token, for `text_offset`. */
  offset: number;
  readonly logprobs: TokenLogprobEntry[];
  finishReason: FinishReason | null;
}

/** `text_completion`, whose chunks have the same shape as its body. */
export class CompletionFormat implements AnswerFormat {
  readonly #head: AnswerHead;
  readonly #hasLogprobs: boolean;
  readonly #choices: readonly CollectedChoice[];

  constructor(options: { head: AnswerHead; choices: number; hasLogprobs: boolean }) {
    this.#head = options.head;
    this.#hasLogprobs = options.hasLogprobs;
    this.#choices = Array.from({ length: options.choices }, () => ({
      text: "",
      offset: 0,
      logprobs: [],
      finishReason: null,
    }));
  }

  events(output: ChoiceOutput): string {
    const text = textOf(output);
    if (text === "" && output.logprobs.length === 0 && output.finishReason === null) return "";
    const choice = {
      index: output.choice,
      text,
      logprobs: this.#logprobs(output.choice, output.logprobs),
      finish_reason: output.finishReason,
    };
    const usage = this.#head.hasUsageChunk ? { usage: null } : {};
    const chunk: Completion = { ...this.#fields(), choices: [choice], ...usage };
    return event(JSON.stringify(chunk));
  }

  end(usage: Usage, comment: string): string {
    const chunk = { ...this.#fields(), choices: [], usage };
    const usageEvent = this.#head.hasUsageChunk ? event(JSON.stringify(chunk)) : "";
    return `${usageEvent}${comment}${DONE_EVENT}`;
  }

  failure(reason: Refusal): string {
    return failureEvent(reason);
  }

  collect(output: ChoiceOutput): void {
    const choice = this.#choice(output.choice);
    choice.text += textOf(output);
    choice.logprobs.push(...output.logprobs);
    choice.finishReason = output.finishReason;
  }

  body(usage: Usage): string {
    const choices = this.#choices.map(({ text, logprobs, finishReason }, index) => ({
      index,
      text,
      logprobs: this.#logprobs(index, logprobs),
      finish_reason: finishReason,
    }));
    const body: Completion = { ...this.#fields(), choices, usage };
    return JSON.stringify(body);
  }

  #fields() {
    const { requestId, createdAtMs, modelId, tier, systemFingerprint } = this.#head;
    return {
      id: `cmpl-${requestId.slice("req_".length)}`,
      object: "text_completion" as const,
      created: Math.floor(createdAtMs / 1000),
      model: modelId,
      service_tier: tier,
      system_fingerprint: systemFingerprint,
    };
  }

  #logprobs(index: number, entries: readonly TokenLogprobEntry[]): CompletionLogprobs | null {
    if (!this.#hasLogprobs) return null;
    const choice = this.#choice(index);
    return {
      tokens: entries.map((entry) => entry.token),
      token_logprobs: entries.map((entry) => entry.logprob),
      top_logprobs: entries.map((entry) =>
        Object.fromEntries(entry.top_logprobs.map(({ token, logprob }) => [token, logprob])),
      ),
      text_offset: entries.map((entry) => {
        const at = choice.offset;
        choice.offset += entry.token.length;
        return at;
      }),
    };
  }

  #choice(index: number): CollectedChoice {
    const choice = this.#choices[index];
    assert(choice !== undefined, `choice ${index} is one of ${this.#choices.length}`);
    return choice;
  }
}

function textOf(output: ChoiceOutput): string {
  return output.deltas.reduce((text, delta) => (delta.kind === "text" ? text + delta.text : text), "");
}
