/** What `/v1/responses` answers: the object, its items, and the events of its stream in OpenAI's names. */
import { z } from "zod";
import { SERVICE_TIERS } from "../../domain/tier.ts";
import { storedItemSchema } from "./response-items.ts";
import { tokenLogprobSchema } from "./responses.ts";

const count = z.int().min(0);
const itemStatus = z.enum(["in_progress", "completed", "incomplete"]);

export const outputTextSchema = z.object({
  type: z.literal("output_text"),
  text: z.string(),
  annotations: z.array(z.never()),
  logprobs: z.array(tokenLogprobSchema),
});
const reasoningTextSchema = z.object({ type: z.literal("reasoning_text"), text: z.string() });

export const outputMessageSchema = z.object({
  id: z.string(),
  type: z.literal("message"),
  role: z.literal("assistant"),
  status: itemStatus,
  content: z.array(outputTextSchema),
});
export const outputCallSchema = z.object({
  id: z.string(),
  type: z.literal("function_call"),
  status: itemStatus,
  call_id: z.string(),
  name: z.string(),
  arguments: z.string(),
});
export const outputReasoningSchema = z.object({
  id: z.string(),
  type: z.literal("reasoning"),
  status: itemStatus,
  summary: z.array(z.never()),
  content: z.array(reasoningTextSchema),
  encrypted_content: z.null(),
});
export const outputItemSchema = z.discriminatedUnion("type", [
  outputMessageSchema,
  outputCallSchema,
  outputReasoningSchema,
]);
export type OutputItem = z.infer<typeof outputItemSchema>;

export const responseUsageSchema = z.object({
  input_tokens: count,
  input_tokens_details: z.object({ cached_tokens: count, cache_write_tokens: count }),
  output_tokens: count,
  output_tokens_details: z.object({ reasoning_tokens: count }),
  total_tokens: count,
  cost: z.number().optional().describe("Of the request in USD, as settled."),
});
export type ResponseUsage = z.infer<typeof responseUsageSchema>;

export const responseSchema = z.object({
  id: z.string(),
  object: z.literal("response"),
  created_at: z.int(),
  completed_at: z.int().nullable(),
  status: z.enum(["in_progress", "completed", "incomplete", "failed"]),
  background: z.literal(false),
  error: z.object({ code: z.enum(["server_error", "rate_limit_exceeded"]), message: z.string() }).nullable(),
  incomplete_details: z.object({ reason: z.literal("max_output_tokens") }).nullable(),
  instructions: z.string().nullable(),
  max_output_tokens: z.int().nullable(),
  max_tool_calls: z.int().nullable(),
  model: z.string(),
  output: z.array(outputItemSchema),
  parallel_tool_calls: z.boolean(),
  previous_response_id: z.string().nullable(),
  prompt_cache_key: z.string().nullable(),
  reasoning: z.object({ effort: z.string().nullable(), summary: z.string().nullable() }),
  safety_identifier: z.string().nullable(),
  service_tier: z.enum(SERVICE_TIERS),
  store: z.boolean().describe("Whether it was kept: false also when it was too large, or the storage failed."),
  temperature: z.number(),
  top_p: z.number(),
  presence_penalty: z.number(),
  frequency_penalty: z.number(),
  top_logprobs: count,
  text: z.object({ format: z.record(z.string(), z.unknown()), verbosity: z.literal("medium") }),
  tool_choice: z.unknown(),
  tools: z.array(z.record(z.string(), z.unknown())),
  truncation: z.enum(["auto", "disabled"]),
  usage: responseUsageSchema.nullable(),
  user: z.string().optional(),
  metadata: z.record(z.string(), z.string()),
});
export type ResponseObject = z.infer<typeof responseSchema>;

const numbered = { sequence_number: count };
const whole = <Type extends string>(type: Type) =>
  z.object({ type: z.literal(type), ...numbered, response: responseSchema });
const ofItem = { ...numbered, output_index: count, item_id: z.string() };
const ofPart = { ...ofItem, content_index: count };
const item = <Type extends string>(type: Type) =>
  z.object({ type: z.literal(type), ...numbered, output_index: count, item: outputItemSchema });
const part = <Type extends string>(type: Type) =>
  z.object({ type: z.literal(type), ...ofPart, part: z.union([outputTextSchema, reasoningTextSchema]) });
const logprobs = z.array(tokenLogprobSchema);

export const responseEventSchema = z.discriminatedUnion("type", [
  whole("response.created"),
  whole("response.in_progress"),
  whole("response.completed"),
  whole("response.incomplete"),
  whole("response.failed"),
  item("response.output_item.added"),
  item("response.output_item.done"),
  part("response.content_part.added"),
  part("response.content_part.done"),
  z.object({ type: z.literal("response.output_text.delta"), ...ofPart, delta: z.string(), logprobs }),
  z.object({ type: z.literal("response.output_text.done"), ...ofPart, text: z.string(), logprobs }),
  z.object({ type: z.literal("response.reasoning_text.delta"), ...ofPart, delta: z.string() }),
  z.object({ type: z.literal("response.reasoning_text.done"), ...ofPart, text: z.string() }),
  z.object({ type: z.literal("response.function_call_arguments.delta"), ...ofItem, delta: z.string() }),
  z.object({
    type: z.literal("response.function_call_arguments.done"),
    ...ofItem,
    name: z.string(),
    arguments: z.string(),
  }),
  z.object({
    type: z.literal("error"),
    ...numbered,
    code: z.string().nullable(),
    message: z.string(),
    param: z.string().nullable(),
  }),
]);
export type ResponseEvent = z.infer<typeof responseEventSchema>;

export const deletedResponseSchema = z.object({
  id: z.string(),
  object: z.literal("response"),
  deleted: z.literal(true),
});

export const responseItemListSchema = z.object({
  object: z.literal("list"),
  data: z.array(storedItemSchema),
  first_id: z.string().nullable(),
  last_id: z.string().nullable(),
  has_more: z.boolean(),
});

export const inputTokensSchema = z.object({ object: z.literal("response.input_tokens"), input_tokens: count });
