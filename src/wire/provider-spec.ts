/**
 * A cloud provider as it is kept and shown. Objects drop what they do not know, so that no secret could lie in one unseen.
 */
import { z } from "zod";
import { ID_PATTERNS, modelId } from "../domain/ids.ts";
import { PROVIDER_ID_PATTERN, type ProviderModel, type ProviderSpec } from "../domain/provider.ts";

const count = z.number().int().min(0).max(Number.MAX_SAFE_INTEGER);
const price = z.object({ inputMicroUsdPerMtok: count, outputMicroUsdPerMtok: count });

export const abilitiesSchema = z.object({
  streams: z.boolean(),
  reportsUsage: z.boolean(),
  tools: z.boolean(),
  jsonSchema: z.boolean(),
  logprobs: z.boolean(),
  seed: z.boolean(),
  rawPrompt: z.boolean(),
  continuesAssistant: z.boolean(),
  wantsContinueFlag: z.boolean().exactOptional(),
  tokensField: z.enum(["max_tokens", "max_completion_tokens"]).exactOptional(),
  probedAtMs: count,
});

const modelSchema = z.object({
  modelId: z.string().regex(ID_PATTERNS.model).transform(modelId),
  upstreamModel: z.string(),
  cost: price,
  price,
  contextTokensMax: count,
  outputTokensMax: count.nullable(),
  quantisation: z.string().nullable(),
  abilities: abilitiesSchema.nullable(),
}) satisfies z.ZodType<ProviderModel>;

export const providerSpecSchema = z.object({
  providerId: z.string().regex(PROVIDER_ID_PATTERN),
  name: z.string(),
  baseUrl: z.string(),
  credential: z
    .discriminatedUnion("kind", [
      z.object({ kind: z.literal("environment"), variable: z.string() }),
      z.object({ kind: z.literal("secret"), name: z.string() }),
    ])
    .nullable(),
  regions: z.array(z.string()),
  dataPolicy: z.object({ collectsData: z.boolean(), isZeroRetention: z.boolean() }),
  requestsPerMinuteMax: count.nullable(),
  tokensPerMinuteMax: count.nullable(),
  concurrencyMax: count,
  models: z.array(modelSchema),
  isEnabled: z.boolean(),
  addedAtMs: count,
}) satisfies z.ZodType<ProviderSpec>;
