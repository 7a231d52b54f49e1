/** How an answer is written: as events of a stream, or as one body. One of these serves one request. */

import type { Refusal } from "../../../domain/refusal.ts";
import type { FinishReason, Usage } from "../../../wire/openai/responses.ts";
import { errorBody } from "../error-table.ts";
import type { ChoiceStep } from "./choice-text.ts";

export interface ChoiceOutput extends ChoiceStep {
  readonly choice: number;
  /** Null until the choice's last output. */
  readonly finishReason: FinishReason | null;
  /** With the last output: the stop string that ended the choice. */
  readonly stopString?: string | null;
}

export interface AnswerFormat {
  /** Events for one output of a choice, each a whole `data: …` block; the first of a choice opens it. */
  events(output: ChoiceOutput): string;
  /** The last events of a stream that was settled; `comment` is a line for them that no client reads as data. */
  end(usage: Usage, comment: string): string;
  /** The last event of a stream that failed: nobody may take it for a whole answer. */
  failure(reason: Refusal): string;
  /** Keeps an output for the body. */
  collect(output: ChoiceOutput): void;
  /** The whole body, after the last output was collected. */
  body(usage: Usage): string;
  /** Writes what outlives the answer, before its last byte. A storage that fails is told of, not thrown. */
  keep?(usage: Usage): Promise<void>;
}

export const DONE_EVENT = "data: [DONE]\n\n";

export function event(json: string): string {
  return `data: ${json}\n\n`;
}

/** As OpenAI ends a stream that failed; without `[DONE]`. */
export function failureEvent(reason: Refusal): string {
  return event(JSON.stringify(errorBody(reason)));
}
