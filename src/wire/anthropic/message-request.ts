/**
 * The body of Anthropic's `POST /v1/messages`, and of `/v1/messages/count_tokens`. What needs a model that sees, or Anthropic's own tools,
 * is refused by its name, and so is every field that is not listed.
 */
import { z } from "zod";
import { REQUESTED_TIERS } from "../../domain/tier.ts";
import { OPENAI_BOUNDS as BOUNDS } from "../openai/bounds.ts";
import { toolNameSchema } from "../openai/chat-request.ts";
import { preferenceFields } from "../openai/preferences.ts";
import { modelField } from "../openai/shared-fields.ts";

const NO_EFFECT = "Accepted and without effect.";

const cacheControl = z
  .strictObject({ type: z.literal("ephemeral"), ttl: z.enum(["5m", "1h"]).nullish() })
  .nullish()
  .describe(`${NO_EFFECT} Prefixes are cached wherever that helps.`);
const identifier = z.string().min(1).max(BOUNDS.identifierCharsMax);
const list = <Block extends z.ZodType>(block: Block) => z.array(block).max(BOUNDS.partsPerMessageMax);

const textBlock = z.strictObject({
  type: z.literal("text"),
  text: z.string(),
  cache_control: cacheControl,
  citations: z.array(z.unknown()).max(BOUNDS.partsPerMessageMax).nullish().describe(NO_EFFECT),
});
const toolResult = z.strictObject({
  type: z.literal("tool_result"),
  tool_use_id: identifier,
  content: z.union([z.string(), list(textBlock)]).optional(),
  is_error: z.boolean().optional(),
  cache_control: cacheControl,
});
const toolUse = z.strictObject({
  type: z.literal("tool_use"),
  id: identifier,
  name: toolNameSchema,
  input: z.record(z.string(), z.unknown()),
  cache_control: cacheControl,
  caller: z.strictObject({ type: z.literal("direct") }).optional(),
});
const thinkingBlock = z.strictObject({ type: z.literal("thinking"), thinking: z.string(), signature: z.string() });
const redactedBlock = z.strictObject({ type: z.literal("redacted_thinking"), data: z.string().describe(NO_EFFECT) });

const message = z.discriminatedUnion("role", [
  z.strictObject({
    role: z.literal("user"),
    content: z.union([z.string(), list(z.discriminatedUnion("type", [textBlock, toolResult]))]),
  }),
  z.strictObject({
    role: z.literal("assistant"),
    content: z.union([
      z.string(),
      list(z.discriminatedUnion("type", [textBlock, toolUse, thinkingBlock, redactedBlock])),
    ]),
  }),
  z.strictObject({ role: z.literal("system"), content: z.union([z.string(), list(textBlock)]) }),
]);
export type MessageParam = z.infer<typeof message>;

const tool = z.strictObject({
  type: z.literal("custom").nullish(),
  name: toolNameSchema,
  description: z.string().max(BOUNDS.descriptionCharsMax).nullish(),
  input_schema: z.record(z.string(), z.unknown()),
  cache_control: cacheControl,
  strict: z.boolean().nullish().describe(NO_EFFECT),
  allowed_callers: z.array(z.literal("direct")).max(1).nullish(),
  defer_loading: z.literal(false).nullish(),
  eager_input_streaming: z.boolean().nullish().describe(NO_EFFECT),
});

const alone = { disable_parallel_tool_use: z.boolean().nullish() };
const toolChoice = z.discriminatedUnion("type", [
  z.strictObject({ type: z.literal("auto"), ...alone }),
  z.strictObject({ type: z.literal("any"), ...alone }),
  z.strictObject({ type: z.literal("tool"), name: toolNameSchema, ...alone }),
  z.strictObject({ type: z.literal("none") }),
]);

const display = z.literal("summarized").nullish();
const thinking = z.discriminatedUnion("type", [
  z.strictObject({
    type: z.literal("enabled"),
    budget_tokens: z.int().min(1).describe("Not enforced: max_tokens bounds thinking and answer together."),
    display,
  }),
  z.strictObject({ type: z.literal("adaptive"), display }),
  z.strictObject({ type: z.literal("disabled") }),
]);

const askFields = {
  model: modelField,
  messages: z.array(message).min(1).max(BOUNDS.messagesMax),
  system: z.union([z.string(), list(textBlock)]).nullish(),
  tools: z.array(tool).max(BOUNDS.toolsMax).nullish(),
  tool_choice: toolChoice.nullish(),
  thinking: thinking.nullish().describe("Shown where the model thinks aloud; a model that does not gives none."),
  output_config: z
    .strictObject({
      effort: z.enum(["low", "medium", "high", "xhigh", "max"]).nullish(),
      format: z.strictObject({ type: z.literal("json_schema"), schema: z.record(z.string(), z.unknown()) }).nullish(),
    })
    .nullish(),
  cache_control: cacheControl,
} as const;

const stopSequence = z.string().min(1).max(BOUNDS.stopStringCharsMax);

export const messageRequestSchema = z.strictObject({
  ...askFields,
  ...preferenceFields,
  max_tokens: z.int().min(1).max(BOUNDS.tokensMax),
  stream: z.boolean().nullish(),
  stop_sequences: z.array(stopSequence).max(BOUNDS.stopStringsMax).nullish(),
  temperature: z.number().min(0).max(1).nullish(),
  top_k: z.int().min(1).nullish().describe(`Candidates to draw from, at most ${BOUNDS.topKMax}; 40 when absent.`),
  top_p: z.number().min(0).max(1).nullish(),
  metadata: z
    .strictObject({ user_id: z.string().max(BOUNDS.identifierCharsMax).nullish() })
    .nullish()
    .describe(NO_EFFECT),
  service_tier: z
    .enum(["standard_only", ...REQUESTED_TIERS])
    .nullish()
    .transform((tier) => (tier === "standard_only" ? "default" : tier))
    .describe("`auto` and `standard_only` are served as `default`; our own tiers can be named, too."),
  seed: z.int().nullish().describe("As for chats."),
});
export type MessageRequest = z.infer<typeof messageRequestSchema>;

export const countTokensRequestSchema = z.strictObject(askFields);
export type CountTokensRequest = z.infer<typeof countTokensRequestSchema>;
