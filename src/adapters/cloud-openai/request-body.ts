/** What is sent: the caller's body with what only the adapter knows. */
import type { UpstreamCall } from "../../ports/cloud-upstream.ts";

export interface UpstreamRequest {
  readonly path: "/chat/completions" | "/completions";
  readonly body: string;
  readonly isStream: boolean;
  /** How many choices were asked for. */
  readonly choices: number;
}

/** Their values are the adapter's alone. */
const OWN_FIELDS: ReadonlySet<string> = new Set([
  "model",
  "stream",
  "stream_options",
  "user",
  "max_tokens",
  "max_completion_tokens",
]);
const CHOICES_MAX = 128;

/** No request goes out without a bound of its tokens: what it may cost is known before. */
export function requestOf({ model, form, tokensMax, isWhole = false }: UpstreamCall): UpstreamRequest {
  const { abilities } = model;
  const isStream = !isWhole && (abilities?.streams ?? true);
  const asksUsage = isStream && (abilities?.reportsUsage ?? true);
  const given = Object.fromEntries(Object.entries(form.body).filter(([name]) => !OWN_FIELDS.has(name)));
  const field = form.kind === "raw" ? "max_tokens" : (abilities?.tokensField ?? "max_tokens");
  const body = {
    ...given,
    model: model.upstreamModel,
    [field]: boundOf(form.body, tokensMax),
    ...(isStream ? { stream: true } : {}),
    ...(asksUsage ? { stream_options: { include_usage: true } } : {}),
    ...(form.kind === "raw" ? { prompt: form.prompt } : {}),
    ...(abilities?.wantsContinueFlag === true && endsWithAssistant(form.body)
      ? { continue_final_message: true, add_generation_prompt: false }
      : {}),
  };
  return {
    path: form.kind === "raw" ? "/completions" : "/chat/completions",
    body: JSON.stringify(body),
    isStream,
    choices: choicesOf(form.body),
  };
}

function boundOf(body: Readonly<Record<string, unknown>>, tokensMax: number): number {
  const asked = body["max_completion_tokens"] ?? body["max_tokens"];
  return typeof asked === "number" && asked >= 1 ? Math.min(asked, tokensMax) : tokensMax;
}

function choicesOf({ n }: Readonly<Record<string, unknown>>): number {
  return typeof n === "number" && Number.isInteger(n) && n >= 1 ? Math.min(n, CHOICES_MAX) : 1;
}

function endsWithAssistant({ messages }: Readonly<Record<string, unknown>>): boolean {
  const last: unknown = Array.isArray(messages) ? messages.at(-1) : null;
  return typeof last === "object" && last !== null && "role" in last && last.role === "assistant";
}
