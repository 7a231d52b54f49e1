/** From a chat request to a plan: template, tokens, bounds, grammar, and the parser of the answers. */
import { no, type Outcome, ok, refuse } from "../../../domain/refusal.ts";
import { type OutputParser, PLAIN_PARSER, type ToolSpec } from "../../../inference/chat/conversation.ts";
import { renderPrompt } from "../../../inference/chat/prompt.ts";
import { ReasoningSplitter } from "../../../inference/chat/reasoning-splitter.ts";
import { ToolCallParser } from "../../../inference/chat/tool-call-parser.ts";
import type { ChatRequest } from "../../../wire/openai/chat-request.ts";
import { ChatFormat } from "../answers/chat-format.ts";
import type { CloudModel } from "../legs/cloud-model.ts";
import { chatRecipe } from "../legs/cloud-recipe.ts";
import { planCloudChat } from "../legs/plan-cloud.ts";
import { answerGrammar } from "./answer-grammar.ts";
import type { AskedTerms } from "./asked-terms.ts";
import { chatTurns } from "./chat-turns.ts";
import { checkStreamOptions, type GenerationPlan, samplingOf, stopStringsOf, tokensMaxOf } from "./generation-plan.ts";
import type { PreparedChat, PreparedModel } from "./prepared-model.ts";

export interface PlanSources {
  readonly wallMs: number;
  readonly makeCallId: () => string;
  readonly asked: AskedTerms;
}

const NO_MARKERS: ReadonlyMap<number, Uint8Array> = new Map();

export async function planChat(
  body: ChatRequest,
  model: PreparedModel | CloudModel,
  sources: PlanSources,
): Promise<Outcome<GenerationPlan>> {
  if (model.tokenizer === null) return planInCloud(body, model, sources);
  const { manifest, tokenizer, chat } = model;
  if (!chat.ok) {
    return refuse("invalid-request", `model ${manifest.modelId} cannot chat: ${chat.reason}; use /v1/completions`, {
      param: "model",
    });
  }
  const checked = firstRefusal([checkStreamOptions(body), checkLogprobs(body), checkTools(body)]);
  if (checked !== null) return checked;
  const asked = askedTokens(body);
  if (!asked.ok) return asked;
  const sampling = samplingOf(body, tokenizer.vocabSize);
  if (!sampling.ok) return sampling;
  const variables = templateVariables(body, chat.value);
  if (!variables.ok) return variables;
  const turns = chatTurns(body.messages);
  if (!turns.ok) return turns;
  const tools = activeTools(body);
  const rendered = renderPrompt(chat.value.prompt, {
    turns: turns.value,
    tools,
    variables: variables.value,
    wallMs: sources.wallMs,
  });
  if (!rendered.ok) return rendered;
  const { text, parts } = rendered.value;
  const { bosToken } = chat.value.prompt;
  const addBos = bosToken === "" || !text.startsWith(bosToken);
  const promptTokenIds = await tokenizer.tokenize(parts, { addBos });
  if (promptTokenIds.length === 0) {
    return refuse("invalid-request", "the messages make a prompt without any token", { param: "messages" });
  }
  const tokensMax = tokensMaxOf({
    promptTokens: promptTokenIds.length,
    asked: asked.value,
    defaultMax: manifest.contextTokensMax,
    contextTokensMax: manifest.contextTokensMax,
    param: "messages",
  });
  if (!tokensMax.ok) return tokensMax;
  const grammar = answerGrammar({ body, tools, format: chat.value.prompt.tools.format });
  if (!grammar.ok) return grammar;
  const count = body.n ?? 1;
  const parser = () => answerParser({ chat: chat.value, tools, prompt: text });
  const hasLogprobs = body.logprobs === true;
  return ok({
    model,
    choices: Array.from({ length: count }, () => ({ promptTokenIds, parser: parser() })),
    promptTokens: promptTokenIds.length,
    tokensMax: tokensMax.value,
    isTokensMaxAsked: asked.value !== null,
    sampling: sampling.value,
    stopStrings: stopStringsOf(body),
    grammar: grammar.value,
    ignoreStopTokens: body.ignore_eos === true,
    topLogprobs: hasLogprobs ? (body.top_logprobs ?? 0) : null,
    markers: tools.length > 0 || chat.value.isReasoning ? chat.value.markers : NO_MARKERS,
    seed: body.seed ?? null,
    ...sources.asked,
    cloud: chatRecipe(body, {
      rawPrompt: parts.every(({ special }) => special) ? text : null,
      isReasoning: chat.value.isReasoning,
      hasMarkers: (tools.length > 0 || chat.value.isReasoning) && chat.value.markers.size > 0,
    }),
    isStream: body.stream === true,
    hasUsageChunk: body.stream_options?.include_usage === true,
    format: (head) => new ChatFormat({ head, choices: count, hasLogprobs, makeCallId: sources.makeCallId }),
  });
}

function planInCloud(body: ChatRequest, model: CloudModel, sources: PlanSources): Outcome<GenerationPlan> {
  const checked = firstRefusal([checkStreamOptions(body), checkLogprobs(body), checkTools(body)]);
  if (checked !== null) return checked;
  const asked = askedTokens(body);
  return asked.ok ? planCloudChat(body, model, { sources, asked: asked.value }) : asked;
}

function firstRefusal(outcomes: readonly Outcome<void>[]) {
  for (const outcome of outcomes) if (!outcome.ok) return no(outcome.reason);
  return null;
}

function checkLogprobs(body: ChatRequest): Outcome<void> {
  const isAsked = body.top_logprobs !== null && body.top_logprobs !== undefined;
  if (isAsked && body.logprobs !== true) {
    return refuse("invalid-request", "top_logprobs needs logprobs: true", { param: "top_logprobs" });
  }
  return ok(undefined);
}

function checkTools(body: ChatRequest): Outcome<void> {
  const names = (body.tools ?? []).map((tool) => tool.function.name);
  const double = names.find((name, index) => names.indexOf(name) !== index);
  if (double !== undefined) {
    return refuse("invalid-request", `two tools are named ${JSON.stringify(double)}`, { param: "tools" });
  }
  const choice = body.tool_choice ?? null;
  if (choice !== null && choice !== "none" && choice !== "auto" && names.length === 0) {
    return refuse("invalid-request", "tool_choice needs tools", { param: "tool_choice" });
  }
  if (choice !== null && typeof choice === "object" && !names.includes(choice.function.name)) {
    const known = names.map((name) => JSON.stringify(name)).join(", ");
    return refuse(
      "invalid-request",
      `tool_choice names ${JSON.stringify(choice.function.name)}; the tools are ${known}`,
      {
        param: "tool_choice.function.name",
      },
    );
  }
  return ok(undefined);
}

function askedTokens(body: ChatRequest): Outcome<number | null> {
  const [newer, older] = [body.max_completion_tokens ?? null, body.max_tokens ?? null];
  if (newer !== null && older !== null && newer !== older) {
    return refuse("invalid-request", `max_completion_tokens is ${newer} and max_tokens is ${older}; send one of them`, {
      param: "max_tokens",
    });
  }
  return ok(newer ?? older);
}

function activeTools(body: ChatRequest): readonly ToolSpec[] {
  if (body.tool_choice === "none") return [];
  return (body.tools ?? []).map(({ function: tool }) => ({
    name: tool.name,
    description: tool.description ?? null,
    parameters: tool.parameters ?? null,
  }));
}

/** What `reasoning_effort` means to this template; a template that knows nothing of it can only be asked for none. */
function templateVariables(body: ChatRequest, chat: PreparedChat): Outcome<Readonly<Record<string, unknown>>> {
  const effort = body.reasoning_effort ?? null;
  if (effort === null) return ok({});
  const { source } = chat.prompt.template;
  if (source.includes("reasoning_effort")) return ok({ reasoning_effort: effort });
  if (source.includes("enable_thinking")) return ok({ enable_thinking: effort !== "none" && effort !== "minimal" });
  if (effort === "none") return ok({});
  return refuse("unsupported-parameter", "this model's chat template does not know reasoning_effort; leave it out", {
    param: "reasoning_effort",
  });
}

function answerParser(options: { chat: PreparedChat; tools: readonly ToolSpec[]; prompt: string }): OutputParser {
  const { chat, tools, prompt } = options;
  const toolNames = tools.map((tool) => tool.name);
  const answer =
    tools.length === 0 ? PLAIN_PARSER : new ToolCallParser({ format: chat.prompt.tools.format, toolNames });
  return chat.isReasoning ? new ReasoningSplitter({ prompt, answer }) : answer;
}
