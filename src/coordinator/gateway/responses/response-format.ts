/** `response` and the events of its stream. */
import type { Refusal } from "../../../domain/refusal.ts";
import type { ResponseObject } from "../../../wire/openai/response-object.ts";
import type { Usage } from "../../../wire/openai/responses.ts";
import { type AnswerFormat, type ChoiceOutput, DONE_EVENT } from "../answers/answer-format.ts";
import { ERROR_TABLE } from "../error-table.ts";
import type { OutputEvent, ResponseOutput } from "./response-output.ts";

/** What is the same in the object from its first event to its last. */
export type ResponseHead = Omit<
  ResponseObject,
  "status" | "output" | "usage" | "error" | "incomplete_details" | "completed_at" | "store"
>;

export interface ResponseFormatOptions {
  readonly head: ResponseHead;
  readonly output: ResponseOutput;
  readonly wallSeconds: () => number;
  /** How many tokens a text has. */
  readonly countTokens: (text: string) => Promise<number>;
  /** Null: it is not to be kept. False when it could not be kept. */
  readonly store: ((body: ResponseObject) => Promise<boolean>) | null;
}

const IN_PROGRESS = {
  status: "in_progress",
  output: [],
  usage: null,
  error: null,
  incomplete_details: null,
  completed_at: null,
} as const;

export class ResponseFormat implements AnswerFormat {
  readonly #options: ResponseFormatOptions;
  #sequence = 0;
  #isCut = false;
  #isStored: boolean;
  #completedAt: number | null = null;
  #reasoningTokens = 0;

  constructor(options: ResponseFormatOptions) {
    this.#options = options;
    this.#isStored = options.store !== null;
  }

  events(output: ChoiceOutput): string {
    const opening = this.#sequence === 0 ? this.#opening() : "";
    return opening + this.#written(this.#take(output));
  }

  collect(output: ChoiceOutput): void {
    this.#take(output);
  }

  async keep(usage: Usage): Promise<void> {
    const { output, countTokens, store, wallSeconds } = this.#options;
    this.#completedAt = wallSeconds();
    // Counted from its text: which tokens of the answer were reasoning is not known one by one.
    if (output.reasoning !== "") {
      this.#reasoningTokens = Math.min(usage.completion_tokens, await countTokens(output.reasoning));
    }
    if (store !== null) this.#isStored = await store(this.#ended(usage));
  }

  end(usage: Usage, comment: string): string {
    const response = this.#ended(usage);
    const type = this.#isCut ? "response.incomplete" : "response.completed";
    return `${this.#written([{ type, response }])}${comment}${DONE_EVENT}`;
  }

  failure(reason: Refusal): string {
    const { status, code } = ERROR_TABLE[reason.code];
    const { output } = this.#options;
    const opening = this.#sequence === 0 ? this.#opening() : "";
    const closing = output.abandon();
    const response: ResponseObject = {
      ...this.#options.head,
      ...IN_PROGRESS,
      status: "failed",
      output: [...output.items],
      error: { code: status === 429 ? "rate_limit_exceeded" : "server_error", message: reason.message },
      store: false,
    };
    const error: OutputEvent = { type: "error", code, message: reason.message, param: reason.param };
    return opening + this.#written([...closing, error, { type: "response.failed", response }]);
  }

  body(usage: Usage): string {
    return JSON.stringify(this.#ended(usage));
  }

  #opening(): string {
    const response: ResponseObject = { ...this.#options.head, ...IN_PROGRESS, output: [], store: this.#isStored };
    return this.#written([
      { type: "response.created", response },
      { type: "response.in_progress", response },
    ]);
  }

  #take(output: ChoiceOutput): readonly OutputEvent[] {
    if (output.finishReason === "length") this.#isCut = true;
    return this.#options.output.push(output);
  }

  #ended(usage: Usage): ResponseObject {
    return {
      ...this.#options.head,
      status: this.#isCut ? "incomplete" : "completed",
      completed_at: this.#isCut ? null : this.#completedAt,
      error: null,
      incomplete_details: this.#isCut ? { reason: "max_output_tokens" } : null,
      output: [...this.#options.output.items],
      store: this.#isStored,
      usage: {
        input_tokens: usage.prompt_tokens,
        input_tokens_details: { cached_tokens: 0, cache_write_tokens: 0 },
        output_tokens: usage.completion_tokens,
        output_tokens_details: { reasoning_tokens: this.#reasoningTokens },
        total_tokens: usage.total_tokens,
        ...(usage.cost === undefined ? {} : { cost: usage.cost }),
      },
    };
  }

  #written(events: readonly OutputEvent[]): string {
    return events
      .map(({ type, ...fields }) => {
        const json = JSON.stringify({ type, sequence_number: this.#sequence++, ...fields });
        return `event: ${type}\ndata: ${json}\n\n`;
      })
      .join("");
  }
}
