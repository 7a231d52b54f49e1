/** Requests and objects of OpenAI's Batch API. */
import { z } from "zod";
import { BATCH_STATUSES } from "../../domain/batch.ts";

/** What a batch may ask. */
export const BATCH_ENDPOINTS = ["/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses"] as const;
const OUTPUT_LIFE_S = { least: 3_600, most: 2_592_000 } as const;
const METADATA = { pairs: 16, keyChars: 64, valueChars: 512 } as const;

const metadataSchema = z
  .record(z.string().max(METADATA.keyChars), z.string().max(METADATA.valueChars))
  .refine((pairs) => Object.keys(pairs).length <= METADATA.pairs, `at most ${METADATA.pairs} pairs are allowed`);

export const batchCreateSchema = z.strictObject({
  input_file_id: z.string(),
  endpoint: z.enum(BATCH_ENDPOINTS),
  completion_window: z.literal("24h"),
  metadata: metadataSchema.nullish(),
  output_expires_after: z
    .strictObject({
      anchor: z.literal("created_at"),
      seconds: z.number().int().min(OUTPUT_LIFE_S.least).max(OUTPUT_LIFE_S.most),
    })
    .nullish(),
});

const seconds = z.number().int().nullable();

export const batchObjectSchema = z.object({
  id: z.string(),
  object: z.literal("batch"),
  endpoint: z.string(),
  model: z.string().nullable(),
  errors: z
    .object({
      object: z.literal("list"),
      data: z.array(
        z.object({
          code: z.string(),
          message: z.string(),
          param: z.string().nullable(),
          line: z.number().int().nullable(),
        }),
      ),
    })
    .nullable(),
  input_file_id: z.string(),
  completion_window: z.string(),
  status: z.enum(BATCH_STATUSES),
  output_file_id: z.string().nullable(),
  error_file_id: z.string().nullable(),
  created_at: z.number().int(),
  in_progress_at: seconds,
  expires_at: seconds,
  finalizing_at: seconds,
  completed_at: seconds,
  failed_at: seconds,
  expired_at: seconds,
  cancelling_at: seconds,
  cancelled_at: seconds,
  request_counts: z.object({ total: z.number().int(), completed: z.number().int(), failed: z.number().int() }),
  usage: z.object({
    input_tokens: z.number().int(),
    input_tokens_details: z.object({ cached_tokens: z.number().int() }),
    output_tokens: z.number().int(),
    output_tokens_details: z.object({ reasoning_tokens: z.number().int() }),
    total_tokens: z.number().int(),
  }),
  metadata: z.record(z.string(), z.string()).nullable(),
  /** Ours: how it goes. */
  grid: z.object({
    is_paused: z.boolean(),
    lines_in_flight: z.number().int(),
    lines_per_second: z.number().nullable(),
    eta_s: z.number().nullable(),
    /** Why nothing begins at this moment: the code of the refusal that its lines meet. */
    waits_for: z.string().nullable(),
  }),
});
export type BatchObject = z.infer<typeof batchObjectSchema>;

export const batchListSchema = z.object({
  object: z.literal("list"),
  data: z.array(batchObjectSchema),
  first_id: z.string().nullable(),
  last_id: z.string().nullable(),
  has_more: z.boolean(),
});
