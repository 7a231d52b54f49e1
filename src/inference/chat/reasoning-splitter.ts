/**
 * Models that think aloud put it between `<think>` and `</think>`, and some templates open it in the prompt already. What is
 * between is reasoning, the rest the answer. The marker counts only at the start of an answer.
 */
import type { OutputDelta, OutputParser } from "./conversation.ts";
import { partialMarkerChars } from "./json-scanner.ts";

const OPEN = "<think>";
const CLOSE = "</think>";

export function isReasoningTemplate(templateSource: string): boolean {
  return templateSource.includes(OPEN) || templateSource.includes(CLOSE);
}

export class ReasoningSplitter implements OutputParser {
  readonly #answer: OutputParser;
  #state: "start" | "reasoning" | "after" | "answer";
  #held = "";
  /** The line break behind the opening mark has been looked for. */
  #hasReasoned = false;

  /** `prompt`: the rendered prompt, whose end tells whether the reasoning is open. */
  constructor(options: { prompt: string; answer: OutputParser }) {
    this.#answer = options.answer;
    this.#state = options.prompt.trimEnd().endsWith(OPEN) ? "reasoning" : "start";
  }

  get isHolding(): boolean {
    return this.#held !== "" || this.#answer.isHolding;
  }

  push(text: string): readonly OutputDelta[] {
    if (this.#state === "answer") return this.#answer.push(text);
    this.#held += text;
    const deltas: OutputDelta[] = [];
    if (this.#state === "start") this.#begin();
    if (this.#state === "reasoning") this.#reason(deltas);
    if (this.#state === "after") {
      this.#held = this.#held.trimStart();
      if (this.#held !== "") this.#state = "answer";
    }
    if (this.#state === "answer") {
      const rest = this.#held;
      this.#held = "";
      deltas.push(...this.#answer.push(rest));
    }
    return deltas;
  }

  finish(): readonly OutputDelta[] {
    const rest = this.#held;
    this.#held = "";
    if (rest === "" || this.#state === "after") return this.#answer.finish();
    if (this.#state === "reasoning") return [{ kind: "reasoning", text: rest }, ...this.#answer.finish()];
    return [...this.#answer.push(rest), ...this.#answer.finish()];
  }

  #begin(): void {
    const trimmed = this.#held.trimStart();
    if (trimmed.startsWith(OPEN)) {
      this.#state = "reasoning";
      this.#held = trimmed.slice(OPEN.length);
    } else if (!OPEN.startsWith(trimmed)) {
      this.#state = "answer";
    }
  }

  #reason(deltas: OutputDelta[]): void {
    if (!this.#hasReasoned) this.#held = this.#held.replace(/^\n/, "");
    this.#hasReasoned ||= this.#held !== "";
    const end = this.#held.indexOf(CLOSE);
    const shown = end === -1 ? this.#held.length - partialMarkerChars(this.#held, [CLOSE]) : end;
    if (shown > 0) deltas.push({ kind: "reasoning", text: this.#held.slice(0, shown) });
    this.#held = this.#held.slice(end === -1 ? shown : end + CLOSE.length);
    if (end !== -1) this.#state = "after";
  }
}
