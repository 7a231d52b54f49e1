import { z } from "zod";
import { OPENAI_BOUNDS as BOUNDS } from "./bounds.ts";
import { bookkeepingFields, requestFields, samplingFields } from "./shared-fields.ts";

const textPart = z.strictObject({ type: z.literal("text"), text: z.string() });
const refusalPart = z.strictObject({ type: z.literal("refusal"), refusal: z.string() });
const parts = <Part extends z.ZodType>(part: Part) => z.array(part).min(1).max(BOUNDS.partsPerMessageMax);
const textContent = z.union([z.string(), parts(textPart)]);
const name = z.string().max(BOUNDS.toolNameCharsMax).nullish();

export const toolNameSchema = z
  .string()
  .regex(/^[A-Za-z0-9_-]{1,64}$/, "expected 1 to 64 letters, digits, underscores or dashes");

const functionCall = z.strictObject({ name: toolNameSchema, arguments: z.string() });
const toolCall = z.strictObject({
  id: z.string().min(1).max(BOUNDS.identifierCharsMax),
  type: z.literal("function"),
  function: functionCall,
  index: z.int().min(0).optional(),
});

/** What an assistant said may come back as the answer had it, with the fields that are always null or empty there. */
const assistantMessage = z.strictObject({
  role: z.literal("assistant"),
  content: z.union([z.string(), parts(z.discriminatedUnion("type", [textPart, refusalPart]))]).nullish(),
  refusal: z.string().nullish(),
  name,
  tool_calls: z.array(toolCall).max(BOUNDS.toolCallsPerMessageMax).nullish(),
  function_call: functionCall.nullish().describe("Deprecated; read as one tool call."),
  reasoning_content: z.string().nullish(),
  annotations: z.array(z.unknown()).max(0).nullish(),
  audio: z.null().optional(),
});

export const chatMessageSchema = z.discriminatedUnion("role", [
  z.strictObject({ role: z.literal("system"), content: textContent, name }),
  z.strictObject({ role: z.literal("developer"), content: textContent, name }),
  z.strictObject({ role: z.literal("user"), content: textContent, name }),
  assistantMessage,
  z.strictObject({
    role: z.literal("tool"),
    content: textContent,
    tool_call_id: z.string().min(1).max(BOUNDS.identifierCharsMax),
    name,
  }),
  z.strictObject({ role: z.literal("function"), content: z.string().nullable(), name: toolNameSchema }),
]);
export type ChatMessage = z.infer<typeof chatMessageSchema>;

/** A JSON schema of the caller; whether it is one is checked where it is compiled. */
const jsonSchema = z.union([z.record(z.string(), z.unknown()), z.boolean()]);

const functionTool = z.strictObject({
  type: z.literal("function"),
  function: z.strictObject({
    name: toolNameSchema,
    description: z.string().max(BOUNDS.descriptionCharsMax).nullish(),
    parameters: z.record(z.string(), z.unknown()).nullish(),
    strict: z.boolean().nullish(),
  }),
});
export type FunctionTool = z.infer<typeof functionTool>;

const toolChoice = z.union([
  z.enum(["none", "auto", "required"]),
  z.strictObject({ type: z.literal("function"), function: z.strictObject({ name: toolNameSchema }) }),
]);
export type ToolChoice = z.infer<typeof toolChoice>;

const responseFormat = z.discriminatedUnion("type", [
  z.strictObject({ type: z.literal("text") }),
  z.strictObject({ type: z.literal("json_object") }),
  z.strictObject({
    type: z.literal("json_schema"),
    json_schema: z.strictObject({
      name: toolNameSchema,
      description: z.string().max(BOUNDS.descriptionCharsMax).nullish(),
      schema: jsonSchema.nullish(),
      strict: z.boolean().nullish().describe("The schema is always enforced."),
    }),
  }),
]);
export type ResponseFormat = z.infer<typeof responseFormat>;

const tokensMax = z.int().min(1).max(BOUNDS.tokensMax);

export const chatRequestSchema = z.strictObject({
  ...requestFields,
  ...samplingFields,
  ...bookkeepingFields,
  messages: z.array(chatMessageSchema).min(1).max(BOUNDS.messagesMax),
  max_completion_tokens: tokensMax.nullish(),
  max_tokens: tokensMax
    .nullish()
    .describe("Older name of max_completion_tokens; if both are given they must be equal."),
  logprobs: z.boolean().nullish(),
  top_logprobs: z.int().min(0).max(BOUNDS.topLogprobsMax).nullish(),
  response_format: responseFormat.nullish(),
  tools: z.array(functionTool).max(BOUNDS.toolsMax).nullish(),
  tool_choice: toolChoice.nullish(),
  parallel_tool_calls: z.boolean().nullish(),
  reasoning_effort: z
    .enum(["none", "minimal", "low", "medium", "high", "xhigh"])
    .nullish()
    .describe("For models whose chat template knows it; others refuse everything but `none`."),
  modalities: z.array(z.literal("text")).max(1).nullish(),
});
export type ChatRequest = z.infer<typeof chatRequestSchema>;
