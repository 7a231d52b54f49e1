/**
 * A job that brings a model into the grid. What must outlive the process is its note; the rest is progress for people.
 *
 * | state     | start of work | a fault that may pass | a fault for good | pause   | cancel | all is there |
 * | --------- | ------------- | --------------------- | ---------------- | ------- | ------ | ------------ |
 * | queued    | running       | -                     | -                | paused  | gone   | -            |
 * | running   | -             | failed                | failed           | paused  | gone   | done         |
 * | paused    | queued when it is asked for again            |||          | -       | gone   | -            |
 * | failed    | queued when it is asked for again            |||          | -       | gone   | -            |
 * | done      | ends by itself; kept in memory for a while to be read       ||||| -      | -            |
 *
 * A fault for good (a refusal of the source, a file that is none) takes the partial files with it; one that may pass leaves them.
 */
import { z } from "zod";
import { ID_PATTERNS } from "../../domain/ids.ts";

export const JOB_STATES = ["queued", "running", "paused", "failed", "done"] as const;
export type JobState = (typeof JOB_STATES)[number];
/** What a running job does. */
export const JOB_STEPS = ["resolving", "fetching", "checking", "registering"] as const;
export type JobStep = (typeof JOB_STEPS)[number];

export const modelTermsSchema = z.strictObject({
  id: z.string().regex(ID_PATTERNS.model).exactOptional(),
  inputMicroUsdPerMtok: z.number().int().min(0).max(1e9).exactOptional(),
  outputMicroUsdPerMtok: z.number().int().min(0).max(1e9).exactOptional(),
  warmReplicas: z.number().int().min(0).max(1_000).exactOptional(),
  draftModelId: z.string().regex(ID_PATTERNS.model).exactOptional(),
});

/** The note of a job, as it lies beside its partial files. */
export const jobNoteSchema = z.object({
  version: z.literal(1),
  jobId: z.string().min(1).max(64),
  reference: z.string().min(1).max(4_096),
  terms: modelTermsSchema,
  createdAtMs: z.number().int().min(0),
  /** Paused and failed jobs wait to be asked for again; the others go on by themselves after a restart. */
  isWaiting: z.boolean(),
  error: z.object({ code: z.string().max(64), message: z.string().max(4_096) }).nullable(),
  /** What was resolved: the same bytes are fetched after a restart. Null before. */
  resolved: z
    .object({
      pinned: z.string().min(1).max(8_192),
      chunkBytes: z.number().int().min(1),
      files: z.array(
        z.object({
          name: z.string().max(1_024),
          fileBytes: z.number().int().min(1),
          version: z.string().max(1_024).nullable(),
        }),
      ),
    })
    .nullable(),
});
export type JobNote = z.infer<typeof jobNoteSchema>;

/** What people see of a job. */
export interface JobView {
  readonly jobId: string;
  readonly reference: string;
  readonly state: JobState;
  /** Null unless it runs. */
  readonly step: JobStep | null;
  /** Bytes that are there, of `totalBytes`; null before it is known. */
  readonly doneBytes: number;
  readonly totalBytes: number | null;
  /** Bytes that came over the network in this run; 0 when all was there. */
  readonly fetchedBytes: number;
  readonly bytesPerSecond: number | null;
  readonly files: number;
  /** Why nothing comes at this moment. */
  readonly waiting: string | null;
  /** What was chosen for the operator. */
  readonly chosen: string | null;
  readonly error: { readonly code: string; readonly message: string } | null;
  /** Set when done. */
  readonly modelId: string | null;
  readonly createdAtMs: number;
}

/** No more will happen to it unless somebody asks. */
export function isResting(state: JobState): boolean {
  return state === "done" || state === "failed" || state === "paused";
}
