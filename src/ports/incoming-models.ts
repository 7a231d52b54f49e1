/** Files of models on their way into the home: partial ones that outlive the process, with a note for each job that fetches them. */
import type { FileDigests } from "./model-files.ts";

export interface IncomingModels {
  /** Notes of jobs that an earlier run left, sorted by job id. */
  notes(): Promise<readonly { readonly jobId: string; readonly note: string }[]>;
  /** Writes a job's note: the one before or this one is there, never half. Rejects `disk-full`. */
  note(jobId: string, note: string): Promise<void>;
  /** Rejects `disk-full` when there is no room for so many more bytes with headroom. */
  room(bytes: number): Promise<void>;
  /** Opens a file of a job, or makes it. What is there already was checked chunk by chunk when this resolves. */
  open(jobId: string, file: IncomingTerms): Promise<IncomingFile>;
  /** Deletes all of a job; resolves when there was nothing. */
  discard(jobId: string): Promise<void>;
}

export interface IncomingTerms {
  /** Its place in the model, from 0. */
  readonly index: number;
  readonly fileBytes: number;
  readonly chunkBytes: number;
  readonly signal: AbortSignal;
}

export interface IncomingFile {
  readonly path: string;
  /** Where the next bytes belong. */
  readonly doneBytes: number;
  /** The bytes are the file's from here on: they may be written later. Rejects `disk-full`. */
  append(bytes: Uint8Array): Promise<void>;
  /** Begins anew: the source has another file. */
  restart(): Promise<void>;
  /** After the last byte: written through, with its digests. Called once. */
  finish(): Promise<FileDigests>;
  /** May be called twice. */
  close(): Promise<void>;
}
