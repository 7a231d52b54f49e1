import { z } from "zod";
import { OPENAI_BOUNDS as BOUNDS } from "./bounds.ts";
import { modelField, requestFields, tokenIdsSchema } from "./shared-fields.ts";

const text = z.string().min(1);

export const embeddingRequestSchema = z.strictObject({
  model: modelField,
  input: z.union([
    text,
    z.array(text).min(1).max(BOUNDS.embeddingInputsMax),
    tokenIdsSchema,
    z.array(tokenIdsSchema).min(1).max(BOUNDS.embeddingInputsMax),
  ]),
  encoding_format: z.enum(["float", "base64"]).nullish(),
  dimensions: z.int().min(1).nullish().describe("Accepted when it is the model's own."),
  service_tier: requestFields.service_tier,
  user: requestFields.user,
  provider: requestFields.provider,
  grid: requestFields.grid,
});
export type EmbeddingRequest = z.infer<typeof embeddingRequestSchema>;
