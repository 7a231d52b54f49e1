/** Bounds of files and batches. OpenAI's own are 50,000 lines and 200 MB; these are for grids whose operators and tenants know each other. */
export interface JobOptions {
  /** Of one file. */
  readonly fileBytesMax: number;
  /** Of all files of a tenant. */
  readonly tenantFileBytesMax: number;
  /** Files of a tenant, however small: each takes a block and an entry of the disk. */
  readonly tenantFilesMax: number;
  /** Requests of one batch. */
  readonly batchLinesMax: number;
  /** Batches of one tenant that have not ended. */
  readonly tenantBatchesMax: number;
  /** Until what was not run is given back as expired. */
  readonly windowMs: number;
  /** A batch goes on with its key as it was for no longer than this. */
  readonly keyLookMs: number;
  /** How long results wait for others, to share their transaction. */
  readonly commitMs: number;
  /** A claim of a coordinator that died is free after this; a new start frees it at once. */
  readonly claimMs: number;
}

export const JOB_DEFAULTS: JobOptions = {
  // A million requests of 2 kB.
  fileBytesMax: 2 * 1024 ** 3,
  tenantFileBytesMax: 20 * 1024 ** 3,
  tenantFilesMax: 100_000,
  batchLinesMax: 1_000_000,
  tenantBatchesMax: 100,
  windowMs: 86_400_000,
  // As long as the gateway keeps a key that another process changed.
  keyLookMs: 5_000,
  // Of some hundred lines a second a dozen share a commit; what a kill can lose is run again.
  commitMs: 50,
  claimMs: 60_000,
};

/** One request of a batch, as long as the gateway takes a body. */
export const LINE_BYTES_MAX = 10 * 1024 * 1024;
/** What is read of a file at once: a millisecond of parsing, so that nobody else waits longer. */
export const READ_BYTES = 64 * 1024;
/** A piece of a batch that is claimed: a few seconds of a small grid. */
export const CHUNK_LINES = 256;
export const CHUNK_BYTES = 1024 * 1024;
/** Chunks of one batch that are held at once, in memory and by claim. */
export const CHUNKS_HELD_MAX = 3;
/** Of an input file; more of them tell nothing new. */
export const PROBLEMS_MAX = 100;
/** Batches that run at the same time; others wait for one of them to end or to step aside. */
export const RUNNING_MAX = 16;
/** How often batches of which nothing can run give their places to those that wait: a claim and a look each, of which 16 in so long cost nothing. */
export const TURN_MS = 5_000;
export const CUSTOM_ID_CHARS_MAX = 512;
