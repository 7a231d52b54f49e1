/** The source of an answer that may run on several resources, and the words of its model. */
import type { RequestTerms } from "../../../domain/generation.ts";
import { SpecialTexts } from "../../../inference/chat/content-guard.ts";
import type { Cloud } from "../../../ports/cloud.ts";
import { FIRST_TOKEN_MS_MAX } from "../../../scheduler/tiers/first-token.ts";
import type { RouteDecision } from "../../../scheduler/tiers/route-question.ts";
import { hybridOf } from "../../../scheduler/tiers/route-rules.ts";
import type { GenerationPlan } from "../plans/generation-plan.ts";
import type { CloudRecipe } from "./cloud-recipe.ts";
import type { LegContext, LegPorts, ModelWords } from "./leg-context.ts";
import type { AnswerSource } from "./leg-events.ts";
import { LegRun } from "./leg-run.ts";

/**
 * Up to so many tokens, an answer that nobody reads along is asked for in one body: for its provider and for us it is a small part of a
 * stream's work. Who makes fewer than 9 tokens a second has not begun in the time that it has for that. Longer answers come as
 * streams, so that a provider that stops is noticed.
 */
const WHOLE_TOKENS_MAX = 256;

/** Dispatch itself where only the grid may run the request: it costs what it costs without any cloud. */
export function sourceFor(
  by: { readonly plan: GenerationPlan; readonly terms: RequestTerms; readonly decision: RouteDecision | null },
  ports: Omit<LegPorts, "cloud"> & { readonly cloud: Cloud | null },
): AnswerSource {
  const { plan, terms, decision } = by;
  const { cloud } = ports;
  const isElsewhere = decision?.ok === true && decision.candidates.some(({ kind }) => kind === "cloud");
  if (!isElsewhere || cloud === null || plan.cloud === undefined) return ports.dispatch;
  const context: LegContext = {
    ports: { ...ports, cloud },
    requestId: terms.requestId,
    modelId: terms.modelId,
    candidates: decision.candidates,
    recipe: plan.cloud satisfies CloudRecipe,
    words: wordsOf(plan),
    lateAfterMs: hybridOf(plan.tier, plan.preferences) === "cloud-fallback" ? FIRST_TOKEN_MS_MAX[plan.tier] : null,
    promptTokensLikely: plan.promptTokensLikely ?? plan.promptTokens,
    isWhole: !plan.isStream && plan.tokensMax <= WHOLE_TOKENS_MAX,
    deadlineAtMs: ports.clock.monoMs() + terms.deadlineMs,
    first: null,
  };
  return {
    generate: (request, onEvent) => {
      const run = new LegRun(context, request, onEvent);
      run.start();
      return run;
    },
  };
}

/** Null where the grid has no vocabulary of the model. */
export function wordsOf(plan: GenerationPlan): ModelWords | null {
  const { tokenizer, vocabulary } = plan.model;
  if (tokenizer === null || vocabulary === null) return null;
  const noBytes = new Uint8Array(0);
  return {
    bytesOf: (tokenId) => {
      if (!plan.ignoreStopTokens && vocabulary.stopTokenIds.has(tokenId)) return noBytes;
      return plan.markers.get(tokenId) ?? vocabulary.bytes(tokenId);
    },
    tokenize: (text) => tokenizer.tokenize([{ text, special: false }], { addBos: false }),
    hasControlText: (text) => new SpecialTexts(tokenizer.specialTexts).split(text) !== null,
  };
}
