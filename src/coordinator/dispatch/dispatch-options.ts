import type { WireFormat } from "../../domain/chain.ts";
import { STALL_BOUNDS, type StallBounds } from "../../scheduler/attempts/stall.ts";

/** Bounds of dispatch and the replica pool; all of them in docs/dispatch.md. */
export interface DispatchOptions {
  readonly stall: StallBounds;
  /** A lease without any message for this long dies. */
  readonly leaseTtlMs: number;
  /** A lease before its first token lives longer by this for each token of the prompt. */
  readonly leaseTtlPerPromptTokenMs: number;
  /** How long the node may take to sign its statement after a cancel, or after the last token. */
  readonly statementWaitMs: number;
  /** How long a request waits while no node could ever run it: nodes restart, links come back. */
  readonly orphanWaitMs: number;
  /** How often deadlines, stalls and leases are looked at. */
  readonly tickMs: number;
  /** Requests waiting in one tier. */
  readonly queueLengthMax: number;
  /** A replica above the warm number that nobody used for this long is unloaded. */
  readonly idleUnloadMs: number;
  /** How often the grid is looked at for what is missing, without an event. */
  readonly planMs: number;
  /** Between two such looks: each sees every node and model, and a crowd that joins changes the roster at every frame. */
  readonly planGapMs: number;
  /** How often the whole placement is planned without a reason. */
  readonly replanMs: number;
  /** Between two whole plans, whatever happens: a large one costs a core about a second. */
  readonly replanGapMs: number;
  /** How long a placement is to hold: what survival is forecast for. */
  readonly horizonMs: number;
  /** A replica that its node does not mention this long after the order is lost. */
  readonly orderGraceMs: number;
  /** How hidden states travel between the stages of chains that are ordered from now on. */
  readonly stageWire: WireFormat;
  /** Loaded spare stages for each chain, where there is room that nobody asks for. */
  readonly chainSpares: number;
}

export const DISPATCH_OPTIONS: DispatchOptions = {
  stall: STALL_BOUNDS,
  leaseTtlMs: 30_000,
  // Twenty times what a CPU core takes for a token of the tiny model; a 7B model on a slow CPU takes about this.
  leaseTtlPerPromptTokenMs: 30,
  statementWaitMs: 500,
  orphanWaitMs: 30_000,
  tickMs: 100,
  queueLengthMax: 1_024,
  idleUnloadMs: 10 * 60_000,
  planMs: 2_000,
  planGapMs: 50,
  replanMs: 30_000,
  replanGapMs: 1_000,
  horizonMs: 3_600_000,
  orderGraceMs: 5_000,
  // Half the bytes of f32; the text stays the same coherent sample, and near-ties may fall the other way.
  stageWire: "f16",
  // One takes over at once whichever stage it stands for, and the others are loaded from a disk that mostly has them; more would mostly lie idle.
  chainSpares: 1,
};
