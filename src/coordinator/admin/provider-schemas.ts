/** What the operator's API answers about cloud providers, and the lines of a probe. */
import { z } from "zod";
import { CLOUD_FAILURES } from "../../ports/cloud.ts";
import { providerSettingsSchema } from "../../wire/provider-settings.ts";
import { abilitiesSchema, providerSpecSchema } from "../../wire/provider-spec.ts";

export { providerSettingsSchema };

const count = z.number().int().min(0);
export const providerRowSchema = providerSpecSchema.extend({
  health: z.object({
    breaker: z.enum(["closed", "open", "half-open"]),
    opensAgainAtMs: z.number().nullable(),
    lastFailure: z.string().nullable(),
    hasCredential: z.boolean(),
    freeSlots: count,
    retryAfterMs: z.number(),
    firstTokenMsP50: z.number().nullable(),
    tokPerSecondP50: z.number().nullable(),
  }),
  /** Since the coordinator started. */
  numbers: z.object({
    succeeded: count,
    cancelled: count,
    failed: z.array(z.object({ failure: z.enum(CLOUD_FAILURES), count })),
    promptTokens: count,
    outputTokens: count,
    costMicroUsd: count,
    running: count,
  }),
});
export type ProviderRow = z.infer<typeof providerRowSchema>;
export const providerListSchema = z.object({ providers: z.array(providerRowSchema) });
export const providerAnswerSchema = z.object({ provider: providerRowSchema });

export const enableProviderSchema = z.strictObject({ isEnabled: z.boolean() });
/** Without models: all of them. */
export const probeProviderSchema = z.strictObject({ models: z.array(z.string().min(1).max(128)).max(500).optional() });
export const testProviderSchema = z.strictObject({
  /** Without one: the first. */
  modelId: z.string().min(1).max(128).optional(),
  prompt: z.string().min(1).max(4_096).optional(),
  tokensMax: z.number().int().min(1).max(512).optional(),
});

const failureSchema = z.object({ failure: z.enum(CLOUD_FAILURES), message: z.string() });

/** Lines of a probe: what is about to be spent, the provider's own list, then for each model its steps and a result. */
export const probeEventSchema = z.discriminatedUnion("event", [
  z.object({ event: z.literal("begin"), models: z.array(z.string()), costMicroUsdMax: count }),
  /** `missing`: models of ours whose upstream's name is not on the provider's list; null when it tells none. */
  z.object({ event: z.literal("listed"), models: count.nullable(), missing: z.array(z.string()) }),
  z.object({ event: z.literal("step"), modelId: z.string(), step: z.string(), isThere: z.boolean() }),
  z.object({
    event: z.literal("result"),
    modelId: z.string(),
    abilities: abilitiesSchema.nullable(),
    failure: failureSchema.nullable(),
  }),
  z.object({ event: z.literal("error"), code: z.string(), message: z.string() }),
]);
export type ProbeEvent = z.infer<typeof probeEventSchema>;

export const testAnswerSchema = z.object({
  modelId: z.string(),
  text: z.string(),
  firstTokenMs: z.number().nullable(),
  totalMs: z.number(),
  /** As the provider counts. */
  usage: z.object({ promptTokens: count, cachedTokens: count, completionTokens: count }).nullable(),
  costMicroUsd: count.nullable(),
  failure: failureSchema.nullable(),
});
export type TestAnswer = z.infer<typeof testAnswerSchema>;
