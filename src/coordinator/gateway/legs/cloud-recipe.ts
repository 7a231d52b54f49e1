/**
 * How a request is put to a cloud provider: the caller's own body where the provider begins, and where it goes on with what another resource
 * began, the rendered prompt with the text so far, or the conversation with the text so far as its last message.
 */
import type { ProviderModel } from "../../../domain/provider.ts";
import type { CloudForm } from "../../../ports/cloud.ts";
import type { RequestNeeds } from "../../../scheduler/tiers/route-question.ts";
import type { ChatRequest } from "../../../wire/openai/chat-request.ts";
import type { CompletionRequest } from "../../../wire/openai/completion-request.ts";

export interface CloudRecipe {
  readonly needs: Pick<RequestNeeds, "kind" | "hasTools" | "hasJson" | "hasLogprobs" | "hasTokenIds">;
  /** Of a chat: OpenAI's body without what the adapter sets and what is ours alone. Null for completions. */
  readonly chatBody: Readonly<Record<string, unknown>> | null;
  /** Sampling and stop strings, for a raw prompt. */
  readonly rawBody: Readonly<Record<string, unknown>>;
  /**
   * By choice: the prompt as text that a provider tokenises as the grid does. Null where there is none: token ids, a conversation whose
   * content spells control tokens (a raw prompt would let it forge roles), a model whose template the grid does not have.
   */
  readonly rawPrompts: readonly (string | null)[];
  /** Its text is the answer as it is: no reasoning, no tools, no JSON to be held to. Only such a one is gone on with by a last message. */
  readonly isPlainText: boolean;
  /** Parsers need control tokens that a raw answer does not show. */
  readonly hasMarkers: boolean;
}

/** What a choice has so far; empty at its beginning. */
export interface SoFar {
  readonly text: string;
  /** Reasoning or calls of a provider, which cannot be turned back into the model's own text. */
  readonly hasParsed: boolean;
}

/** Null: this provider cannot take the choice at this point. */
export function formFor(
  recipe: CloudRecipe,
  by: { readonly model: Pick<ProviderModel, "abilities">; readonly choice: number; readonly soFar: SoFar },
): CloudForm | null {
  const { abilities } = by.model;
  const { soFar } = by;
  const hasBegun = soFar.text !== "" || soFar.hasParsed;
  const { chatBody, rawBody, needs } = recipe;
  if (!hasBegun && chatBody !== null) return { kind: "chat", body: withoutSeed(chatBody, abilities?.seed ?? false) };
  if (soFar.hasParsed) return null;
  const prompt = recipe.rawPrompts[by.choice] ?? null;
  const canRaw = (abilities?.rawPrompt ?? false) && prompt !== null && !needs.hasJson && !recipe.hasMarkers;
  if (canRaw) {
    // A seed draws by position: after another resource's text it would repeat nothing.
    return {
      kind: "raw",
      prompt: prompt + soFar.text,
      body: withoutSeed(rawBody, !hasBegun && abilities?.seed === true),
    };
  }
  const messages = chatBody?.["messages"];
  const canGoOn = hasBegun && (abilities?.continuesAssistant ?? false) && recipe.isPlainText;
  if (chatBody === null || !canGoOn || !Array.isArray(messages)) return null;
  const body = { ...withoutSeed(chatBody, false), messages: [...messages, { role: "assistant", content: soFar.text }] };
  return { kind: "chat", body };
}

export function chatRecipe(
  body: ChatRequest,
  more: { readonly rawPrompt: string | null; readonly isReasoning: boolean; readonly hasMarkers: boolean },
): CloudRecipe {
  const hasTools = (body.tools ?? []).length > 0;
  const format = body.response_format ?? null;
  const hasJson = format !== null && format.type !== "text";
  const isForced = typeof body.tool_choice === "object" || body.tool_choice === "required";
  return {
    needs: { kind: "chat", hasTools, hasJson, hasLogprobs: body.logprobs === true, hasTokenIds: false },
    // Providers refuse words on tools where there are none.
    chatBody: passedOn(body, hasTools ? [...CHAT_FIELDS, ...TOOL_FIELDS] : CHAT_FIELDS),
    rawBody: passedOn(body, RAW_FIELDS),
    // A call that is forced by a grammar cannot be forced in a raw answer.
    rawPrompts: Array.from({ length: body.n ?? 1 }, () => (isForced ? null : more.rawPrompt)),
    isPlainText: !hasTools && !hasJson && !more.isReasoning,
    hasMarkers: more.hasMarkers,
  };
}

export function completionRecipe(body: CompletionRequest): CloudRecipe {
  const count = body.n ?? 1;
  const prompts: readonly (string | null)[] =
    typeof body.prompt === "string"
      ? [body.prompt]
      : body.prompt.every((one) => typeof one === "string")
        ? body.prompt
        : [null];
  const hasTokenIds = prompts.includes(null);
  return {
    needs: {
      kind: "completion",
      hasTools: false,
      hasJson: false,
      hasLogprobs: (body.logprobs ?? null) !== null,
      hasTokenIds,
    },
    chatBody: null,
    rawBody: passedOn(body, RAW_FIELDS),
    rawPrompts: hasTokenIds ? [] : prompts.flatMap((prompt) => Array.from({ length: count }, () => prompt)),
    isPlainText: true,
    hasMarkers: false,
  };
}

/** Fields that a raw prompt takes as well. */
const RAW_FIELDS = [
  "temperature",
  "top_p",
  "top_k",
  "frequency_penalty",
  "presence_penalty",
  "logit_bias",
  "stop",
  "seed",
  "ignore_eos",
] as const;
/** Of a chat; `n` is not among them: each choice is asked for by itself, so that each can move by itself. */
const CHAT_FIELDS = [...RAW_FIELDS, "messages", "response_format", "reasoning_effort"] as const;
const TOOL_FIELDS = ["tools", "tool_choice", "parallel_tool_calls"] as const;

/** What the caller set, under its own name; null is absent. */
function passedOn<Field extends string>(
  body: Readonly<Partial<Record<Field, unknown>>>,
  fields: readonly Field[],
): Readonly<Record<string, unknown>> {
  return Object.fromEntries(fields.flatMap((field) => (body[field] == null ? [] : [[field, body[field]]])));
}

function withoutSeed(body: Readonly<Record<string, unknown>>, hasSeed: boolean): Readonly<Record<string, unknown>> {
  if (hasSeed || !("seed" in body)) return body;
  const { seed: _, ...rest } = body;
  return rest;
}
