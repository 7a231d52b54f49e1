/** What the gateway answers: for the OpenAPI document, and for tests that hold the answers to it. */
import { z } from "zod";
import { SERVICE_TIERS } from "../../domain/tier.ts";

const count = z.int().min(0);
const seconds = z.int();

const usageGrid = z.object({
  parts: z
    .array(z.object({ provider: z.string(), prompt_tokens: count, completion_tokens: count }))
    .describe("Who generated how much, of an answer that did not come from the grid alone."),
});
export type UsageGrid = z.infer<typeof usageGrid>;

export const usageSchema = z.object({
  prompt_tokens: count,
  completion_tokens: count,
  total_tokens: count,
  prompt_tokens_details: z.object({ cached_tokens: count }).optional(),
  completion_tokens_details: z.object({ reasoning_tokens: count }).optional(),
  cost: z.number().optional().describe("Of the request in USD, as settled."),
  grid: usageGrid.optional(),
});
export type Usage = z.infer<typeof usageSchema>;

const logprobEntry = z.object({ token: z.string(), logprob: z.number(), bytes: z.array(count).nullable() });
export const tokenLogprobSchema = logprobEntry.extend({ top_logprobs: z.array(logprobEntry) });
export type TokenLogprobEntry = z.infer<typeof tokenLogprobSchema>;

const choiceLogprobs = z.object({ content: z.array(tokenLogprobSchema), refusal: z.null() });
export const FINISH_REASONS = ["stop", "length", "tool_calls"] as const;
export type FinishReason = (typeof FINISH_REASONS)[number];
const finishReason = z.enum(FINISH_REASONS);
const tier = z.enum(SERVICE_TIERS);
const toolCall = z.object({
  id: z.string(),
  type: z.literal("function"),
  function: z.object({ name: z.string(), arguments: z.string() }),
});
export type ToolCall = z.infer<typeof toolCall>;

const head = { id: z.string(), created: seconds, model: z.string() };
const served = { service_tier: tier, system_fingerprint: z.string() };

export const chatCompletionSchema = z.object({
  ...head,
  object: z.literal("chat.completion"),
  choices: z.array(
    z.object({
      index: count,
      message: z.object({
        role: z.literal("assistant"),
        content: z.string().nullable(),
        refusal: z.null(),
        reasoning_content: z.string().optional(),
        tool_calls: z.array(toolCall).optional(),
      }),
      logprobs: choiceLogprobs.nullable(),
      finish_reason: finishReason,
    }),
  ),
  usage: usageSchema,
  ...served,
});
export type ChatCompletion = z.infer<typeof chatCompletionSchema>;

export const chatChunkSchema = z.object({
  ...head,
  object: z.literal("chat.completion.chunk"),
  choices: z.array(
    z.object({
      index: count,
      delta: z.object({
        role: z.literal("assistant").optional(),
        content: z.string().nullish(),
        refusal: z.null().optional(),
        reasoning_content: z.string().optional(),
        tool_calls: z
          .array(
            z.object({
              index: count,
              id: z.string().optional(),
              type: z.literal("function").optional(),
              function: z.object({ name: z.string().optional(), arguments: z.string().optional() }),
            }),
          )
          .optional(),
      }),
      logprobs: choiceLogprobs.nullish(),
      finish_reason: finishReason.nullable(),
    }),
  ),
  usage: usageSchema.nullish(),
  ...served,
});
export type ChatChunk = z.infer<typeof chatChunkSchema>;

export const completionLogprobsSchema = z.object({
  tokens: z.array(z.string()),
  token_logprobs: z.array(z.number()),
  top_logprobs: z.array(z.record(z.string(), z.number())),
  text_offset: z.array(count),
});
export type CompletionLogprobs = z.infer<typeof completionLogprobsSchema>;

/** Also a chunk of its stream, where `finish_reason` is null until the last. */
export const completionSchema = z.object({
  ...head,
  object: z.literal("text_completion"),
  choices: z.array(
    z.object({
      index: count,
      text: z.string(),
      logprobs: completionLogprobsSchema.nullable(),
      finish_reason: finishReason.nullable(),
    }),
  ),
  usage: usageSchema.nullish(),
  ...served,
});
export type Completion = z.infer<typeof completionSchema>;

export const embeddingListSchema = z.object({
  object: z.literal("list"),
  model: z.string(),
  data: z.array(
    z.object({
      object: z.literal("embedding"),
      index: count,
      embedding: z.union([z.array(z.number()), z.string().describe("base64 of little-endian float32")]),
    }),
  ),
  usage: z.object({ prompt_tokens: count, total_tokens: count }),
});
export type EmbeddingList = z.infer<typeof embeddingListSchema>;

const usdPerToken = z.string().describe("USD for one token, as a decimal.");
const tierEntry = z.object({
  id: tier,
  promise: z.string(),
  pricing: z.object({ prompt: usdPerToken, completion: usdPerToken }),
});
export const modelSchema = z.object({
  id: z.string(),
  object: z.literal("model"),
  created: seconds,
  owned_by: z.string(),
  name: z.string(),
  architecture: z.string(),
  context_length: count,
  max_output_length: count,
  quantization: z.string().describe("By the bits of a weight: int8, fp16 …, or unknown."),
  weights_quantization: z.string().describe("As the format of the weights names it: Q8_0."),
  parameter_count: count.nullable().describe("Null, as weights_sha256, of models that only cloud providers have."),
  input_modalities: z.array(z.literal("text")),
  output_modalities: z.array(z.enum(["text", "embeddings"])),
  pricing: z.object({
    prompt: usdPerToken,
    completion: usdPerToken,
    request: z.literal("0"),
    image: z.literal("0"),
  }),
  tiers: z.array(tierEntry),
  supported_sampling_parameters: z.array(z.string()),
  supported_features: z.array(z.string()),
  license: z.string().nullable(),
  weights_sha256: z.string().nullable(),
  regions: z
    .array(z.string())
    .describe("Of the nodes that serve it, or of the cloud providers where these alone have it."),
  datacenters: z.array(z.object({ country_code: z.string() })),
  ready_replicas: count,
});
export type Model = z.infer<typeof modelSchema>;
export const modelListSchema = z.object({ object: z.literal("list"), data: z.array(modelSchema) });
