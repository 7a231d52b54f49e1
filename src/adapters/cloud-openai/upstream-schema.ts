/**
 * What of a provider's JSON is read: the rest is dropped. Forms differ between providers, so what is absent or null is taken as absent,
 * and only what would be acted on is held to a type.
 */
import { z } from "zod";

const index = z.number().int().min(0).max(1_000);
const toolCallSchema = z.object({
  index: index.nullish(),
  id: z.string().max(256).nullish(),
  function: z.object({ name: z.string().max(256).nullish(), arguments: z.string().nullish() }).nullish(),
});
export type UpstreamToolCall = z.infer<typeof toolCallSchema>;

/** Of a stream it is what came since, of a body it is all. */
const partSchema = z.object({
  content: z.string().nullish(),
  refusal: z.string().nullish(),
  /** DeepSeek's, vLLM's and llama.cpp's name; `reasoning` is OpenRouter's. */
  reasoning_content: z.string().nullish(),
  reasoning: z.string().nullish(),
  tool_calls: z.array(toolCallSchema).max(128).nullish(),
});
export type UpstreamPart = z.infer<typeof partSchema>;

const choiceSchema = z.object({
  index: index.nullish(),
  delta: partSchema.nullish(),
  message: partSchema.nullish(),
  /** Of `/completions`. */
  text: z.string().nullish(),
  finish_reason: z.string().max(64).nullish(),
  logprobs: z.unknown().optional(),
});
export type UpstreamChoice = z.infer<typeof choiceSchema>;

/** A chunk of a stream, or a whole body. */
export const answerSchema = z.object({
  choices: z.array(choiceSchema).max(1_000).nullish(),
  /** Looked at by `usageOf` alone: nonsense in it spoils no answer. */
  usage: z.unknown().optional(),
  error: z.unknown().optional(),
});
export type UpstreamAnswer = z.infer<typeof answerSchema>;

/** More tokens than any request has; what counts more counts wrong. */
const TOKENS_MAX = 1_000_000_000;
const tokens = z.number().int().min(0).max(TOKENS_MAX);
export const usageSchema = z.object({
  prompt_tokens: tokens,
  completion_tokens: tokens.nullish(),
  prompt_tokens_details: z.object({ cached_tokens: tokens.nullish() }).nullish(),
});

/** OpenAI's, or one of the forms that others have: a text, `{message}`, `{error: {message}}`, `{detail}`. */
export const errorSchema = z.union([
  z.string(),
  z.object({
    message: z.string().nullish(),
    code: z.union([z.string(), z.number()]).nullish(),
    type: z.string().nullish(),
  }),
]);

export const modelListSchema = z.object({ data: z.array(z.object({ id: z.string().min(1).max(512) })).max(10_000) });
