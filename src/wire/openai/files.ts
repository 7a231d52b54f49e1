/** Objects of OpenAI's Files API. */
import { z } from "zod";

/** What a tenant may upload; `batch_output` is made by batches only. */
export const UPLOAD_PURPOSES = ["assistants", "batch", "fine-tune", "vision", "user_data", "evals"] as const;

export const fileObjectSchema = z.object({
  id: z.string(),
  object: z.literal("file"),
  bytes: z.number().int(),
  /** Seconds. */
  created_at: z.number().int(),
  expires_at: z.number().int().exactOptional(),
  filename: z.string(),
  purpose: z.string(),
  status: z.enum(["uploaded", "processed", "error"]),
});
export type FileObject = z.infer<typeof fileObjectSchema>;

export const fileListSchema = z.object({
  object: z.literal("list"),
  data: z.array(fileObjectSchema),
  first_id: z.string().nullable(),
  last_id: z.string().nullable(),
  has_more: z.boolean(),
});

export const fileDeletedSchema = z.object({ id: z.string(), object: z.literal("file"), deleted: z.boolean() });
