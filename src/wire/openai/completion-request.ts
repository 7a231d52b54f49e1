import { z } from "zod";
import { OPENAI_BOUNDS as BOUNDS } from "./bounds.ts";
import { bookkeepingFields, requestFields, samplingFields, tokenIdsSchema } from "./shared-fields.ts";

export const completionRequestSchema = z.strictObject({
  ...requestFields,
  ...samplingFields,
  ...bookkeepingFields,
  prompt: z
    .union([
      z.string(),
      z.array(z.string()).min(1).max(BOUNDS.promptsMax),
      tokenIdsSchema,
      z.array(tokenIdsSchema).min(1).max(BOUNDS.promptsMax),
    ])
    .describe("A text, several texts, token ids, or several lists of token ids."),
  max_tokens: z.int().min(1).max(BOUNDS.tokensMax).nullish().describe("16 when absent."),
  logprobs: z.int().min(0).max(BOUNDS.completionLogprobsMax).nullish(),
  echo: z.literal(false).nullish().describe("Echoing the prompt is not supported."),
  suffix: z.null().optional().describe("Filling in the middle is not supported."),
  best_of: z.int().min(1).max(BOUNDS.choicesMax).nullish().describe("Accepted when equal to n."),
});
export type CompletionRequest = z.infer<typeof completionRequestSchema>;
