/** From a completion request to a plan: one or more prompts, each with `n` choices, in the order of OpenAI's choice indexes. */
import { type Outcome, ok, refuse } from "../../../domain/refusal.ts";
import { PLAIN_PARSER } from "../../../inference/chat/conversation.ts";
import { OPENAI_BOUNDS } from "../../../wire/openai/bounds.ts";
import type { CompletionRequest } from "../../../wire/openai/completion-request.ts";
import { CompletionFormat } from "../answers/completion-format.ts";
import type { CloudModel } from "../legs/cloud-model.ts";
import { completionRecipe } from "../legs/cloud-recipe.ts";
import { planCloudCompletion } from "../legs/plan-cloud.ts";
import type { AskedTerms } from "./asked-terms.ts";
import { checkStreamOptions, type GenerationPlan, samplingOf, stopStringsOf, tokensMaxOf } from "./generation-plan.ts";
import type { PreparedModel } from "./prepared-model.ts";
import { inputTokens } from "./token-input.ts";

/** As OpenAI's. */
const TOKENS_DEFAULT = 16;

export async function planCompletion(
  body: CompletionRequest,
  model: PreparedModel | CloudModel,
  asked: AskedTerms,
): Promise<Outcome<GenerationPlan>> {
  const count = body.n ?? 1;
  if (body.best_of !== null && body.best_of !== undefined && body.best_of !== count) {
    return refuse(
      "unsupported-parameter",
      `best_of is ${body.best_of} and n is ${count}; only equal values are supported`,
      {
        param: "best_of",
      },
    );
  }
  const streams = checkStreamOptions(body);
  if (!streams.ok) return streams;
  if (model.tokenizer === null) {
    return planCloudCompletion(body, model, { terms: asked, defaultMax: TOKENS_DEFAULT });
  }
  const { manifest, tokenizer } = model;
  const sampling = samplingOf(body, tokenizer.vocabSize);
  if (!sampling.ok) return sampling;
  const prompts = await inputTokens(body.prompt, { tokenizer, param: "prompt", special: true });
  if (!prompts.ok) return prompts;
  if (prompts.value.length * count > OPENAI_BOUNDS.promptsMax) {
    const message = `${prompts.value.length} prompts with ${count} choices each; ${OPENAI_BOUNDS.promptsMax} choices in all are taken`;
    return refuse("invalid-request", message, { param: "n" });
  }
  const longest = Math.max(...prompts.value.map((prompt) => prompt.length));
  const tokensMax = tokensMaxOf({
    promptTokens: longest,
    asked: body.max_tokens ?? null,
    defaultMax: TOKENS_DEFAULT,
    contextTokensMax: manifest.contextTokensMax,
    param: "prompt",
  });
  if (!tokensMax.ok) return tokensMax;
  const topLogprobs = body.logprobs ?? null;
  const choices = prompts.value.flatMap((promptTokenIds) =>
    Array.from({ length: count }, () => ({ promptTokenIds, parser: PLAIN_PARSER })),
  );
  return ok({
    model,
    choices,
    promptTokens: prompts.value.reduce((sum, prompt) => sum + prompt.length, 0),
    tokensMax: tokensMax.value,
    isTokensMaxAsked: body.max_tokens !== null && body.max_tokens !== undefined,
    sampling: sampling.value,
    stopStrings: stopStringsOf(body),
    grammar: null,
    ignoreStopTokens: body.ignore_eos === true,
    topLogprobs,
    markers: new Map(),
    seed: body.seed ?? null,
    ...asked,
    cloud: completionRecipe(body),
    isStream: body.stream === true,
    hasUsageChunk: body.stream_options?.include_usage === true,
    format: (head) => new CompletionFormat({ head, choices: choices.length, hasLogprobs: topLogprobs !== null }),
  });
}
