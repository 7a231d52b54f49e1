/**
 * The plan of a request for a model that only cloud providers have. Nobody here can count its prompt: a token shows at least one byte, so the
 * bytes bound what is held, and what is charged is what the provider counts within that bound (count-tokens.ts).
 */
import { type Outcome, ok, refuse } from "../../../domain/refusal.ts";
import { DEFAULT_SAMPLING } from "../../../domain/sampling.ts";
import { PLAIN_PARSER } from "../../../inference/chat/conversation.ts";
import { OPENAI_BOUNDS } from "../../../wire/openai/bounds.ts";
import type { ChatRequest } from "../../../wire/openai/chat-request.ts";
import type { CompletionRequest } from "../../../wire/openai/completion-request.ts";
import { ChatFormat } from "../answers/chat-format.ts";
import { CompletionFormat } from "../answers/completion-format.ts";
import type { AskedTerms } from "../plans/asked-terms.ts";
import { chatTurns } from "../plans/chat-turns.ts";
import { type GenerationPlan, stopStringsOf, tokensMaxOf } from "../plans/generation-plan.ts";
import type { PlanSources } from "../plans/plan-chat.ts";
import { type CloudModel, cloudContextTokensMax } from "./cloud-model.ts";
import { type CloudRecipe, chatRecipe, completionRecipe } from "./cloud-recipe.ts";
import { estimatedTokens, utf8Length } from "./count-tokens.ts";

/** What a template puts around a message, at most. */
const MARK_TOKENS = 16;

/** Choices of one prompt share it, so that the provider's count of it is known to be that of the whole. */
const NO_TOKEN_IDS: readonly number[] = [];

/** `asked`: the caller's bound of an answer's tokens. */
export function planCloudChat(
  body: ChatRequest,
  model: CloudModel,
  by: { readonly sources: PlanSources; readonly asked: number | null },
): Outcome<GenerationPlan> {
  const turns = chatTurns(body.messages);
  if (!turns.ok) return turns;
  const { makeCallId, asked: terms } = by.sources;
  const choices = body.n ?? 1;
  const prompt = { text: JSON.stringify([body.messages, body.tools ?? []]), marks: body.messages.length + 1 };
  const recipe = chatRecipe(body, { rawPrompt: null, isReasoning: false, hasMarkers: false });
  return planOf(body, model, {
    ...{ prompt, choices, terms, recipe, asked: by.asked, defaultMax: Number.MAX_SAFE_INTEGER, param: "messages" },
    format: (head) => new ChatFormat({ head, choices, hasLogprobs: false, makeCallId }),
  });
}

/** `defaultMax`: of an answer's tokens, where the caller names none. */
export function planCloudCompletion(
  body: CompletionRequest,
  model: CloudModel,
  by: { readonly terms: AskedTerms; readonly defaultMax: number },
): Outcome<GenerationPlan> {
  const recipe = completionRecipe(body);
  const choices = Math.max(1, recipe.rawPrompts.length);
  if (choices > OPENAI_BOUNDS.promptsMax) {
    const message = `prompts and n make ${choices} choices; ${OPENAI_BOUNDS.promptsMax} in all are taken`;
    return refuse("invalid-request", message, { param: "n" });
  }
  const prompt = { text: JSON.stringify(body.prompt), marks: 1 };
  return planOf(body, model, {
    ...{ prompt, choices, ...by, recipe, asked: body.max_tokens ?? null, param: "prompt" },
    format: (head) => new CompletionFormat({ head, choices, hasLogprobs: false }),
  });
}

interface Planning {
  readonly prompt: { readonly text: string; readonly marks: number };
  readonly choices: number;
  readonly terms: AskedTerms;
  readonly recipe: CloudRecipe;
  readonly asked: number | null;
  readonly defaultMax: number;
  readonly param: string;
  readonly format: GenerationPlan["format"];
}

function planOf(body: ChatRequest | CompletionRequest, model: CloudModel, planning: Planning): Outcome<GenerationPlan> {
  const { prompt, asked, choices } = planning;
  const contextTokensMax = cloudContextTokensMax(model);
  const isOnePrompt = new Set(planning.recipe.rawPrompts).size <= 1;
  const promptTokensLikely = Math.max(1, estimatedTokens(prompt.text));
  const answerMax = Math.max(...model.offers.map(({ model: offered }) => offered.outputTokensMax ?? contextTokensMax));
  const tokensMax = tokensMaxOf({
    promptTokens: promptTokensLikely,
    asked,
    defaultMax: Math.min(planning.defaultMax, answerMax),
    contextTokensMax,
    param: planning.param,
  });
  if (!tokensMax.ok) return tokensMax;
  return ok({
    model,
    choices: Array.from({ length: choices }, () => ({
      promptTokenIds: isOnePrompt ? NO_TOKEN_IDS : [],
      parser: PLAIN_PARSER,
    })),
    promptTokens: utf8Length(prompt.text) + MARK_TOKENS * prompt.marks,
    promptTokensLikely,
    tokensMax: tokensMax.value,
    isTokensMaxAsked: asked !== null,
    sampling: DEFAULT_SAMPLING,
    stopStrings: stopStringsOf(body),
    grammar: null,
    ignoreStopTokens: false,
    topLogprobs: null,
    markers: new Map(),
    seed: body.seed ?? null,
    ...planning.terms,
    isStream: body.stream === true,
    hasUsageChunk: body.stream_options?.include_usage === true,
    cloud: planning.recipe,
    format: planning.format,
  });
}
