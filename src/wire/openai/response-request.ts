/** The body of `POST /v1/responses`, and of `POST /v1/responses/input_tokens`. A field that is not listed is refused by name. */
import { z } from "zod";
import { OPENAI_BOUNDS as BOUNDS } from "./bounds.ts";
import { toolNameSchema } from "./chat-request.ts";
import { inputItemSchema } from "./response-items.ts";
import { bookkeepingFields, modelField, requestFields, samplingFields } from "./shared-fields.ts";

const NO_EFFECT = "Accepted and without effect.";
/** Items of one request; more than any context holds. */
const ITEMS_MAX = 4_096;

export const INCLUDABLE = ["message.output_text.logprobs", "reasoning.encrypted_content"] as const;

const functionTool = z.strictObject({
  type: z.literal("function"),
  name: toolNameSchema,
  description: z.string().max(BOUNDS.descriptionCharsMax).nullish(),
  parameters: z.record(z.string(), z.unknown()).nullish(),
  strict: z.boolean().nullish(),
});
export type ResponseTool = z.infer<typeof functionTool>;

const namedTool = z.strictObject({ type: z.literal("function"), name: toolNameSchema });
const toolChoice = z.union([
  z.enum(["none", "auto", "required"]),
  z.discriminatedUnion("type", [
    namedTool,
    z.strictObject({
      type: z.literal("allowed_tools"),
      mode: z.enum(["auto", "required"]),
      tools: z.array(namedTool).min(1).max(BOUNDS.toolsMax),
    }),
  ]),
]);

const textFormat = z.discriminatedUnion("type", [
  z.strictObject({ type: z.literal("text") }),
  z.strictObject({ type: z.literal("json_object") }),
  z.strictObject({
    type: z.literal("json_schema"),
    name: toolNameSchema,
    description: z.string().max(BOUNDS.descriptionCharsMax).nullish(),
    schema: z.union([z.record(z.string(), z.unknown()), z.boolean()]),
    strict: z.boolean().nullish().describe("The schema is always enforced."),
  }),
]);
export type TextFormat = z.infer<typeof textFormat>;

const askFields = {
  input: z.union([z.string(), z.array(inputItemSchema).max(ITEMS_MAX)]).nullish(),
  instructions: z
    .string()
    .nullish()
    .describe("Comes first, as a system message; not taken over by answers that go on from this one."),
  previous_response_id: z.string().min(1).max(BOUNDS.identifierCharsMax).nullish(),
  tools: z.array(functionTool).max(BOUNDS.toolsMax).nullish(),
  tool_choice: toolChoice.nullish(),
  parallel_tool_calls: z.boolean().nullish(),
  text: z
    .strictObject({
      format: textFormat.nullish(),
      verbosity: z.literal("medium").nullish().describe("Only what a model does without being asked."),
    })
    .nullish(),
  reasoning: z
    .strictObject({
      effort: z.enum(["none", "minimal", "low", "medium", "high", "xhigh"]).nullish(),
      summary: z.literal("auto").nullish().describe("No summaries are made."),
      generate_summary: z.literal("auto").nullish(),
    })
    .nullish(),
  truncation: z
    .enum(["auto", "disabled"])
    .nullish()
    .describe("`auto` leaves out the oldest items of what does not fit the context, except system messages."),
} as const;

const { n: _n, ...sampling } = samplingFields;
const { store: _store, ...bookkeeping } = bookkeepingFields;

export const responseRequestSchema = z.strictObject({
  ...requestFields,
  ...sampling,
  ...bookkeeping,
  ...askFields,
  stream_options: z.strictObject({ include_obfuscation: z.boolean().nullish().describe(NO_EFFECT) }).nullish(),
  store: z.boolean().nullish().describe("Kept for 30 days unless `false`."),
  max_output_tokens: z.int().min(1).max(BOUNDS.tokensMax).nullish(),
  max_tool_calls: z.int().min(1).nullish().describe("Counts calls of built-in tools, of which there are none."),
  top_logprobs: z.int().min(0).max(BOUNDS.topLogprobsMax).nullish(),
  include: z.array(z.enum(INCLUDABLE)).max(INCLUDABLE.length).nullish(),
  background: z.literal(false).nullish(),
  conversation: z.null().optional(),
  prompt: z.null().optional(),
  prompt_cache_retention: z.enum(["in_memory", "in-memory", "24h"]).nullish().describe(NO_EFFECT),
});
export type ResponseRequest = z.infer<typeof responseRequestSchema>;

export const inputTokensRequestSchema = z.strictObject({ model: modelField, ...askFields });
export type InputTokensRequest = z.infer<typeof inputTokensRequestSchema>;
