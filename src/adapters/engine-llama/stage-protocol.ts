/**
 * Messages between a stage's host and its process, as `child-protocol.ts` for whole models. The host names slots and openings
 * (a key for each time a sequence is given a slot), so that what arrives late finds nobody; both ends keep the order of the
 * channel. Hidden states travel as the bytes of the wire.
 */
import type { WireFormat } from "../../domain/chain.ts";
import type { StopReason } from "../../domain/sampling.ts";
import type { LayerShare } from "../../domain/weights.ts";
import type { StageFailure } from "../../ports/stage-engine.ts";
import type { GenerateCommand, LoadCommand, LoadReport, StepLogprobs } from "./child-protocol.ts";

export interface StageLoadCommand extends Omit<LoadCommand, "queueMax"> {
  readonly share: LayerShare;
  readonly wire: WireFormat;
}

export interface PassCommand {
  readonly kind: "pass";
  readonly slot: number;
  readonly key: number;
  readonly tag: number;
  readonly start: number;
  readonly count: number;
  readonly isTogether: boolean;
  /** One of the two. */
  readonly tokenIds: Int32Array | null;
  readonly hidden: Uint8Array | null;
  readonly format: WireFormat;
  /** Null: nothing is drawn. */
  readonly draftIds: Int32Array | null;
  readonly wantsLogits: boolean;
}

export type StageServingCommand =
  | PassCommand
  | { readonly kind: "sampling"; readonly slot: number; readonly task: GenerateCommand }
  /** Drops what waits of the slot, and how it samples; keys and values stay. */
  | { readonly kind: "drop"; readonly slot: number }
  | { readonly kind: "clear"; readonly slot: number }
  | { readonly kind: "export"; readonly key: number; readonly slot: number; readonly positions: number }
  | {
      readonly kind: "import";
      readonly key: number;
      readonly slot: number;
      readonly positions: number;
      readonly data: Uint8Array;
    };

/** What the host asked in one turn of its loop goes as one message. */
export type StageCommand =
  | StageLoadCommand
  | { readonly kind: "all"; readonly commands: readonly StageServingCommand[] };

export type StageItem =
  | { readonly kind: "output"; readonly key: number; readonly format: WireFormat; readonly data: Uint8Array }
  /** `held`: positions that the slot holds after the pass. */
  | {
      readonly kind: "tokens";
      readonly key: number;
      readonly held: number;
      readonly tokenIds: readonly number[];
      readonly logprobs: readonly StepLogprobs[] | null;
      readonly end: StopReason | null;
      readonly logits: readonly Float32Array[] | null;
    }
  /** A pass that gives nothing to tell. */
  | { readonly kind: "done"; readonly key: number; readonly held: number }
  | { readonly kind: "end"; readonly key: number; readonly reason: StopReason }
  | {
      readonly kind: "failed";
      readonly key: number;
      readonly tag: number;
      readonly code: StageFailure;
      readonly message: string;
    };

export interface StageCounters {
  readonly positionsDecoded: number;
  readonly singleMs: number | null;
  readonly singlesMean: number | null;
  readonly promptMsPerPosition: number | null;
  readonly cpuMs: number;
}

export type StageServingReport =
  | { readonly kind: "work"; readonly items: readonly StageItem[]; readonly counters: StageCounters }
  | { readonly kind: "exported"; readonly key: number; readonly data: Uint8Array | null }
  | { readonly kind: "imported"; readonly key: number; readonly isAccepted: boolean };

export type StageReport = LoadReport | StageServingReport;
