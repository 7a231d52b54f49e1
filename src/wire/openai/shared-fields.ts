/**
 * Fields that the chat and the completion request share. `null` means absent, as clients send it. A field that is accepted
 * and has no effect says so in its description; any field that is not listed is refused by name.
 */
import { z } from "zod";
import { ID_PATTERNS } from "../../domain/ids.ts";
import { REQUESTED_TIERS } from "../../domain/tier.ts";
import { OPENAI_BOUNDS as BOUNDS } from "./bounds.ts";
import { preferenceFields } from "./preferences.ts";

const NO_EFFECT = "Accepted and without effect.";
const identifier = z.string().max(BOUNDS.identifierCharsMax);

export const modelField = z.string().regex(ID_PATTERNS.model, "expected the id of a model").describe("Model id.");

export const tokenIdsSchema = z
  .array(
    z
      .int()
      .min(0)
      .max(2 ** 31 - 1),
  )
  .min(1)
  .max(BOUNDS.promptTokensMax);

const stopString = z.string().min(1).max(BOUNDS.stopStringCharsMax);

export const streamOptionsSchema = z.strictObject({
  include_usage: z.boolean().nullish().describe("A last chunk with the usage of the whole request."),
  include_obfuscation: z.boolean().nullish().describe(NO_EFFECT),
});

export const metadataSchema = z
  .record(z.string().max(BOUNDS.metadataKeyCharsMax), z.string().max(BOUNDS.metadataValueCharsMax))
  .refine((entries) => Object.keys(entries).length <= BOUNDS.metadataEntriesMax, {
    message: `at most ${BOUNDS.metadataEntriesMax} entries`,
  })
  .describe(`At most ${BOUNDS.metadataEntriesMax} entries. ${NO_EFFECT}`);

const bias = z.number().min(-100).max(100);
export const logitBiasSchema = z
  .record(z.string().regex(/^\d{1,10}$/, "expected token ids as keys"), bias)
  .refine((entries) => Object.keys(entries).length <= BOUNDS.logitBiasMax, {
    message: `at most ${BOUNDS.logitBiasMax} entries`,
  });

export const samplingFields = {
  temperature: z.number().min(0).max(2).nullish(),
  top_p: z.number().min(0).max(1).nullish(),
  top_k: z.int().min(1).max(BOUNDS.topKMax).nullish().describe("Candidates to draw from; 40 when absent."),
  frequency_penalty: z.number().min(-2).max(2).nullish(),
  presence_penalty: z.number().min(-2).max(2).nullish(),
  logit_bias: logitBiasSchema.nullish(),
  seed: z
    .int()
    .nullish()
    .describe(
      "The same seed, request and model repeat the same text within one numeric class (see system_fingerprint).",
    ),
  n: z.int().min(1).max(BOUNDS.choicesMax).nullish(),
  stop: z.union([stopString, z.array(stopString).max(BOUNDS.stopStringsMax)]).nullish(),
  ignore_eos: z.boolean().nullish().describe("Generate past end-of-generation tokens, for benchmarks."),
} as const;

export const requestFields = {
  model: modelField,
  stream: z.boolean().nullish(),
  stream_options: streamOptionsSchema.nullish(),
  service_tier: z.enum(REQUESTED_TIERS).nullish().describe("`auto` is served as `default`."),
  user: identifier.nullish().describe(NO_EFFECT),
  ...preferenceFields,
} as const;

export const bookkeepingFields = {
  metadata: metadataSchema.nullish(),
  safety_identifier: identifier.nullish().describe(NO_EFFECT),
  prompt_cache_key: identifier.nullish().describe(NO_EFFECT),
  store: z.literal(false).nullish().describe("Answers are not stored."),
} as const;
