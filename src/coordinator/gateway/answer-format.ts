/** How an answer is written: as events of a stream, or as one body. One of these serves one request. */

import type { FinishReason, Usage } from "../../wire/openai/responses.ts";
import type { ChoiceStep } from "./choice-text.ts";

export interface ChoiceOutput extends ChoiceStep {
  readonly choice: number;
  /** Null until the choice's last output. */
  readonly finishReason: FinishReason | null;
}

export interface AnswerFormat {
  /** Events for one output of a choice, each a whole `data: …` block; the first of a choice opens it. */
  events(output: ChoiceOutput): string;
  /** The last event, where the client asked for usage. */
  usageEvent(usage: Usage): string;
  /** Keeps an output for the body. */
  collect(output: ChoiceOutput): void;
  /** The whole body, after the last output was collected. */
  body(usage: Usage): string;
}

export const DONE_EVENT = "data: [DONE]\n\n";

export function event(json: string): string {
  return `data: ${json}\n\n`;
}
