/**
 * Items of `/v1/responses`: what a caller sends as input, and what an answer's output looks like when it comes back as input. Only what a
 * model that reads and writes text can take: text, calls of functions, their outputs, reasoning, and references to items kept here.
 */
import { z } from "zod";
import { OPENAI_BOUNDS as BOUNDS } from "./bounds.ts";
import { toolNameSchema } from "./chat-request.ts";

const itemId = z.string().min(1).max(BOUNDS.identifierCharsMax);
const status = z.enum(["in_progress", "completed", "incomplete"]).nullish();
const phase = z.enum(["commentary", "final_answer"]).nullish();
const parts = <Part extends z.ZodType>(part: Part) => z.array(part).max(BOUNDS.partsPerMessageMax);

const inputText = z.strictObject({ type: z.literal("input_text"), text: z.string() });
const outputText = z.strictObject({
  type: z.literal("output_text"),
  text: z.string(),
  annotations: z.array(z.unknown()).max(BOUNDS.partsPerMessageMax).nullish(),
  logprobs: z.array(z.unknown()).nullish(),
  parsed: z.unknown().optional().describe("As the official client leaves it there; without effect."),
});
const refusal = z.strictObject({ type: z.literal("refusal"), refusal: z.string() });

const messageFields = { id: itemId.nullish(), status, phase } as const;
const inputContent = z.union([z.string(), parts(inputText)]);
const assistantContent = z.union([z.string(), parts(z.discriminatedUnion("type", [outputText, inputText, refusal]))]);
const spoken = z.discriminatedUnion("role", [
  z.strictObject({
    ...messageFields,
    type: z.literal("message").optional(),
    role: z.literal("user"),
    content: inputContent,
  }),
  z.strictObject({
    ...messageFields,
    type: z.literal("message").optional(),
    role: z.literal("system"),
    content: inputContent,
  }),
  z.strictObject({
    ...messageFields,
    type: z.literal("message").optional(),
    role: z.literal("developer"),
    content: inputContent,
  }),
  z.strictObject({
    ...messageFields,
    type: z.literal("message").optional(),
    role: z.literal("assistant"),
    content: assistantContent,
  }),
]);

const callId = z.string().min(1).max(BOUNDS.identifierCharsMax);

const functionCallItem = z.strictObject({
  type: z.literal("function_call"),
  id: itemId.nullish(),
  call_id: callId,
  name: toolNameSchema,
  arguments: z.string(),
  parsed_arguments: z.unknown().optional().describe("As the official client leaves it there; without effect."),
  status,
});

const functionOutputItem = z.strictObject({
  type: z.literal("function_call_output"),
  id: itemId.nullish(),
  call_id: callId,
  output: z.union([z.string(), parts(inputText)]),
  status,
});

const reasoningItem = z.strictObject({
  type: z.literal("reasoning"),
  id: itemId.nullish(),
  summary: parts(z.strictObject({ type: z.literal("summary_text"), text: z.string() })),
  content: parts(z.strictObject({ type: z.literal("reasoning_text"), text: z.string() })).nullish(),
  encrypted_content: z.string().nullish().describe("Without effect: reasoning is kept in `content`, in clear."),
  status,
});

const reference = z.strictObject({ type: z.literal("item_reference").nullish(), id: itemId });

/** By their `type`; a message and a reference may leave it out. */
export const inputItemSchema = z.union([
  z.discriminatedUnion("type", [functionCallItem, functionOutputItem, reasoningItem]),
  spoken,
  reference,
]);
export type InputItem = z.infer<typeof inputItemSchema>;
export type SpokenItem = z.infer<typeof spoken>;
export type FunctionOutputItem = z.infer<typeof functionOutputItem>;
export type FunctionCallItem = z.infer<typeof functionCallItem>;
export type ReasoningInputItem = z.infer<typeof reasoningItem>;
export type ReferenceItem = z.infer<typeof reference>;

/** What is kept of a request's input: no references. */
export const storedItemSchema = z.union([
  z.discriminatedUnion("type", [functionCallItem, functionOutputItem, reasoningItem]),
  spoken,
]);
export type StoredItem = z.infer<typeof storedItemSchema>;
