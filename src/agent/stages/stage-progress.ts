/**
 * How far each sequence is on a stage, in the words in which the coordinator finds out where positions stop (scheduler/chains/chain-stall.ts): what came
 * to it, and what went on from it.
 */
import { type ProgressReport, SEQUENCES_TOLD_MAX } from "../../wire/chain-link.ts";
import type { SequenceTable } from "./sequence-table.ts";
import type { StageOutbox } from "./stage-outbox.ts";
import type { HeadDesk } from "./stage-roles.ts";
import type { TailDesk } from "./tail-desk.ts";

export interface StageWork {
  readonly sequences: SequenceTable;
  /** By the engine. */
  readonly decoded: number;
  readonly outbox: Pick<StageOutbox, "isWaiting" | "passedOn" | "room">;
  /** Null: it is no first stage, or has fed nothing yet. */
  readonly head: Pick<HeadDesk, "known"> | null;
  /** Null: it is no last stage. */
  readonly tail: Pick<TailDesk, "known"> | null;
}

/** Of those that run. */
export function stageProgress(work: StageWork): Pick<ProgressReport, "decoded" | "isHeldUp" | "sequences"> {
  const { sequences, outbox, head, tail } = work;
  const told = sequences.open().slice(0, SEQUENCES_TOLD_MAX);
  return {
    decoded: work.decoded,
    // A first stage puts nothing out that it has no room for.
    isHeldUp: tail === null && (outbox.isWaiting || (head !== null && outbox.room === 0)),
    sequences: told.map((sequence) => {
      const state = sequences.get(sequence);
      return {
        sequence,
        arrived: head === null ? (state?.arrived ?? 0) : head.known(sequence),
        passed: tail === null ? outbox.passedOn(sequence) : tail.known(sequence),
        isLacking: state !== null && state.gap !== null,
      };
    }),
  };
}
