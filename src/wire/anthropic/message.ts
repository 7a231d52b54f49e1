/** What `/v1/messages` answers: the message, the events of its stream, errors, counts and models in Anthropic's shape. */
import { z } from "zod";

const count = z.int().min(0);

export const contentBlockSchema = z.discriminatedUnion("type", [
  z.object({ type: z.literal("text"), text: z.string(), citations: z.null() }),
  z.object({ type: z.literal("thinking"), thinking: z.string(), signature: z.string() }),
  z.object({
    type: z.literal("tool_use"),
    id: z.string(),
    name: z.string(),
    input: z.record(z.string(), z.unknown()),
    caller: z.object({ type: z.literal("direct") }),
  }),
]);
export type ContentBlock = z.infer<typeof contentBlockSchema>;

export const STOP_REASONS = [
  "end_turn",
  "max_tokens",
  "stop_sequence",
  "tool_use",
  "model_context_window_exceeded",
] as const;
export type AnthropicStopReason = (typeof STOP_REASONS)[number];
const stopReason = z.enum(STOP_REASONS);

export const messageUsageSchema = z.object({
  input_tokens: count,
  output_tokens: count,
  cache_creation_input_tokens: z.literal(0),
  cache_read_input_tokens: z.literal(0),
  cache_creation: z.null(),
  server_tool_use: z.null(),
  inference_geo: z.null(),
  output_tokens_details: z.object({ thinking_tokens: count }).nullable(),
  service_tier: z.enum(["standard", "priority", "flex"]),
  cost: z.number().optional().describe("Of the request in USD, as settled."),
});
export type MessageUsage = z.infer<typeof messageUsageSchema>;

export const messageSchema = z.object({
  id: z.string(),
  type: z.literal("message"),
  role: z.literal("assistant"),
  model: z.string(),
  content: z.array(contentBlockSchema),
  stop_reason: stopReason.nullable(),
  stop_sequence: z.string().nullable(),
  stop_details: z.null(),
  container: z.null(),
  usage: messageUsageSchema,
});
export type Message = z.infer<typeof messageSchema>;

export const ANTHROPIC_ERRORS = [
  "invalid_request_error",
  "authentication_error",
  "billing_error",
  "permission_error",
  "not_found_error",
  "request_too_large",
  "rate_limit_error",
  "timeout_error",
  "overloaded_error",
  "api_error",
] as const;
export const anthropicErrorSchema = z.object({
  type: z.literal("error"),
  error: z.object({ type: z.enum(ANTHROPIC_ERRORS), message: z.string() }),
  request_id: z.string().nullable(),
});
export type AnthropicError = z.infer<typeof anthropicErrorSchema>;

const index = { index: count };
export const messageEventSchema = z.discriminatedUnion("type", [
  z.object({ type: z.literal("message_start"), message: messageSchema }),
  z.object({ type: z.literal("ping") }),
  z.object({ type: z.literal("content_block_start"), ...index, content_block: contentBlockSchema }),
  z.object({
    type: z.literal("content_block_delta"),
    ...index,
    delta: z.discriminatedUnion("type", [
      z.object({ type: z.literal("text_delta"), text: z.string() }),
      z.object({ type: z.literal("input_json_delta"), partial_json: z.string() }),
      z.object({ type: z.literal("thinking_delta"), thinking: z.string() }),
      z.object({ type: z.literal("signature_delta"), signature: z.string() }),
    ]),
  }),
  z.object({ type: z.literal("content_block_stop"), ...index }),
  z.object({
    type: z.literal("message_delta"),
    delta: z.object({
      stop_reason: stopReason,
      stop_sequence: z.string().nullable(),
      stop_details: z.null(),
      container: z.null(),
    }),
    usage: messageUsageSchema,
  }),
  z.object({ type: z.literal("message_stop") }),
  anthropicErrorSchema,
]);
export type MessageEvent = z.infer<typeof messageEventSchema>;

export const tokenCountSchema = z.object({ input_tokens: count });

export const anthropicModelSchema = z.object({
  type: z.literal("model"),
  id: z.string(),
  display_name: z.string(),
  created_at: z.string(),
  max_input_tokens: count,
  max_tokens: count,
  capabilities: z.null(),
  line: z.null(),
  lifecycle: z.literal("active"),
  deprecated_at: z.null(),
  retires_at: z.null(),
});
export type AnthropicModel = z.infer<typeof anthropicModelSchema>;
export const anthropicModelListSchema = z.object({
  data: z.array(anthropicModelSchema),
  has_more: z.boolean(),
  first_id: z.string().nullable(),
  last_id: z.string().nullable(),
});
