/** Disk for what a stage keeps of its outputs beyond what memory holds. Each sequence has a run of bytes of its own, which only grows. */
import type { SequenceId } from "../domain/chain.ts";

export interface ActivationSpill {
  /** Resolves with the offset at which they lie. Rejects `disk-full`, or as the disk does. */
  append(sequence: SequenceId, bytes: Uint8Array): Promise<number>;
  /** Rejects when they are not there. */
  read(sequence: SequenceId, place: { readonly offset: number; readonly length: number }): Promise<Uint8Array>;
  /** All of a sequence. Never rejects. */
  drop(sequence: SequenceId): Promise<void>;
  /** Deletes everything. May be called twice. */
  close(): Promise<void>;
}
