/** What the operator's API takes and answers about models: terms, jobs that bring them, checks of their files. Sizes are bytes. */
import { z } from "zod";
import { ID_PATTERNS } from "../../domain/ids.ts";
import { JOB_STATES, JOB_STEPS } from "../models/intake-job.ts";

const count = z.number().int().min(0);
const terms = {
  id: z.string().regex(ID_PATTERNS.model).optional(),
  inputMicroUsdPerMtok: z.number().int().min(0).max(1e9).optional(),
  outputMicroUsdPerMtok: z.number().int().min(0).max(1e9).optional(),
  warmReplicas: z.number().int().min(0).max(1_000).optional(),
  /** A registered model that drafts for it. */
  draftModelId: z.string().min(1).max(128).optional(),
};

/** `path` is answered when the model is there; `source` with a job, or with the job's events. */
export const addModelSchema = z
  .strictObject({
    ...terms,
    /** A file or folder of the coordinator's machine, from the root. */
    path: z.string().min(1).max(4_096).optional(),
    /** A reference (docs/models.md); a path is one too. */
    source: z.string().min(1).max(4_096).optional(),
  })
  .refine(({ path, source }) => (path === undefined) !== (source === undefined), {
    path: ["source"],
    message: "name a path or a source, one of them",
  });
/** Null: no model drafts. */
export const setDraftSchema = z.strictObject({ draftModelId: z.string().min(1).max(128).nullable() });
export type AddModel = z.infer<typeof addModelSchema>;

export const jobSchema = z.object({
  jobId: z.string(),
  reference: z.string(),
  state: z.enum(JOB_STATES),
  step: z.enum(JOB_STEPS).nullable(),
  doneBytes: count,
  totalBytes: count.nullable(),
  fetchedBytes: count,
  bytesPerSecond: count.nullable(),
  files: count,
  waiting: z.string().nullable(),
  chosen: z.string().nullable(),
  error: z.object({ code: z.string(), message: z.string() }).nullable(),
  modelId: z.string().nullable(),
  createdAtMs: z.number(),
});
export type ModelJob = z.infer<typeof jobSchema>;
export const jobListSchema = z.object({ jobs: z.array(jobSchema) });
export const jobAnswerSchema = z.object({ job: jobSchema });

/** One of a model's files after a check. */
export const checkedFileSchema = z.object({
  name: z.string(),
  fileBytes: count,
  chunks: count,
  damaged: z.array(z.tuple([count, count])),
  problem: z.string().nullable(),
});

/** Lines of a check or a mending: progress, then one result or error. */
export const checkEventSchema = z.discriminatedUnion("event", [
  z.object({
    event: z.literal("progress"),
    step: z.enum(["checking", "fetching"]),
    doneBytes: count,
    totalBytes: count,
  }),
  z.object({
    event: z.literal("result"),
    modelId: z.string(),
    isWhole: z.boolean(),
    files: z.array(checkedFileSchema),
    damagedChunks: count,
    fetchedBytes: count,
    mendedChunks: count,
  }),
  z.object({ event: z.literal("error"), code: z.string(), message: z.string() }),
]);
export type CheckEvent = z.infer<typeof checkEventSchema>;

/** What the grid signed about a model's files. */
export const weightsFactsSchema = z.object({
  weights: z
    .object({
      chunkBytes: count,
      chunks: count,
      files: z.array(z.object({ name: z.string(), fileBytes: count, sha256: z.string() })),
      parts: z.array(z.object({ kind: z.string(), layers: count, bytes: count })),
      source: z.string(),
      licence: z.string().nullable(),
    })
    .nullable(),
});
export type WeightsFactsRow = z.infer<typeof weightsFactsSchema>;
