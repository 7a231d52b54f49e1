/**
 * What stages of a chain say to each other, as small messages of a PeerLink. Little-endian binary, version 1. Each frame begins with
 *
 *   u8 type | u8 version | u16 entries | u32 channel | u32 chain epoch | u32 frame number | u32 CRC-32 of all that follows
 *
 * Two nodes may have several chains in common, and all share their links: the channel says which chain a frame is of, and between which two of its
 * stages (`stageChannel`). Frame numbers count from 0 on each direction of a channel in each epoch, without gaps: a frame that comes again is a breach.
 * An entry of an activations frame is at most 28 bytes + 4 for each draft, so that a token costs its hidden state and at most 64 bytes more.
 *
 * | frame         | goes            | says                                                                                         |
 * | ------------- | --------------- | -------------------------------------------------------------------------------------------- |
 * | `hello`       | both ends       | first frame of an epoch: chain, who I am; from the later stage also what it holds               |
 * | `activations` | to the next     | hidden states of some positions of some sequences                                              |
 * | `tokens`      | last to first   | what was drawn                                                                                |
 * | `gap`         | to the previous | positions from here on are missing: send them again                                            |
 * | `credit`      | to the previous | how many activations frames the engine has taken, in all                                       |
 * | `release`     | to the next     | the sequence runs no more                                                                      |
 * | `pulse`       | both            | I live; echoes the other's pulse for the round trip                                             |
 */
import { CHAIN_STAGES_MAX, type SequenceId, type WireFormat } from "../domain/chain.ts";
import type { StopReason } from "../domain/sampling.ts";

export const STAGE_PROTOCOL_VERSION = 1;
export const STAGE_FRAME_HEAD_BYTES = 20;

/** Of the frames between stage `stage` and the one after it (the last one's: the first), in both directions. */
export function stageChannel({ chainId, stage }: { readonly chainId: string; readonly stage: number }): number {
  // 27 bits of the chain's random name, and its at most 32 stages.
  return (Number.parseInt(chainId.slice(0, 7), 16) >>> 1) * CHAIN_STAGES_MAX + stage;
}

export interface StageFrameHead {
  /** `stageChannel`. */
  readonly channel: number;
  readonly chainEpoch: number;
  readonly frame: number;
}

/** Names the sequence and the lease under which it runs; what comes under an older lease than the receiver knows is dropped. */
export interface SequenceLease {
  readonly sequence: SequenceId;
  /** `Lease.epoch`. */
  readonly leaseEpoch: number;
}

export interface ActivationEntry extends SequenceLease {
  readonly start: number;
  readonly count: number;
  readonly how: "together" | "singly";
  /** Null: nothing is drawn after these positions. */
  readonly draw: { readonly draftIds: readonly number[] } | null;
  /** Positions below this are of the prompt: what is sent again is cut as it was the first time. */
  readonly promptLength: number;
  /** Computed again after a fault: who holds these positions needs them not. */
  readonly isRebuild: boolean;
}

export type StageFrame =
  | (StageFrameHead & {
      readonly type: "hello";
      /** 32 hex. */
      readonly chainId: string;
      /** Index of the sender in the chain. */
      readonly stage: number;
      /** Elements of its hidden states. */
      readonly embeddingLength: number;
      /** Positions below are surely of the sequence's own tokens: drafts that were not confirmed do not count. */
      readonly holdings: readonly { readonly sequence: SequenceId; readonly held: number }[];
    })
  | (StageFrameHead & {
      readonly type: "activations";
      readonly format: WireFormat;
      readonly entries: readonly ActivationEntry[];
      /** Of all entries, one after the other. */
      readonly data: Uint8Array;
    })
  | (StageFrameHead & {
      readonly type: "tokens";
      readonly entries: readonly (SequenceLease & {
        /** Of the first token. */
        readonly position: number;
        readonly tokenIds: readonly number[];
        readonly end: StopReason | null;
      })[];
    })
  | (StageFrameHead & { readonly type: "gap" } & SequenceLease & { readonly held: number })
  | (StageFrameHead & { readonly type: "credit"; readonly taken: number })
  | (StageFrameHead & { readonly type: "release" } & SequenceLease)
  | (StageFrameHead & { readonly type: "pulse"; readonly sentAtMs: number; readonly echoMs: number | null });

/** Sequences that a hello tells of. */
export const HOLDINGS_MAX = 256;
export const ENTRIES_MAX = 256;
export const DRAFTS_MAX = 15;
