/** A chat as templates see it: what the API's message shapes come down to. */
export interface ChatTurn {
  readonly role: "system" | "developer" | "user" | "assistant" | "tool";
  readonly text: string;
  readonly name: string | null;
  /** Of an assistant. */
  readonly toolCalls: readonly ChatToolCall[];
  /** Of a tool's answer. */
  readonly toolCallId: string | null;
  /** What an assistant thought, where the API gave it back. */
  readonly reasoning: string | null;
}

export interface ChatToolCall {
  readonly id: string;
  readonly name: string;
  /** As the model wrote it; usually a JSON object. */
  readonly argumentsText: string;
}

export interface ToolSpec {
  readonly name: string;
  readonly description: string | null;
  /** JSON schema of the arguments; null: a function without arguments. */
  readonly parameters: Readonly<Record<string, unknown>> | null;
}

/** A piece of an answer, as the API tells its kinds apart. */
export type OutputDelta =
  | { readonly kind: "text"; readonly text: string }
  | { readonly kind: "reasoning"; readonly text: string }
  | { readonly kind: "tool-call"; readonly index: number; readonly name: string }
  | { readonly kind: "tool-arguments"; readonly index: number; readonly text: string };

/** Turns an answer's text, given piece by piece, into deltas. `finish` comes once, after the last push. */
export interface OutputParser {
  push(text: string): readonly OutputDelta[];
  finish(): readonly OutputDelta[];
  /** True while pushed text waits to be understood. */
  readonly isHolding: boolean;
}

export const PLAIN_PARSER: OutputParser = {
  push: (text) => (text === "" ? [] : [{ kind: "text", text }]),
  finish: () => [],
  isHolding: false,
};
