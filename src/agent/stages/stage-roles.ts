/**
 * The seams inside a node's stage. `stage-run` loads it and keeps its engine; `chain-stage` keeps the links to its neighbours, sends on what the engine
 * gives, keeps what it sent, and mends gaps; a first stage has a head desk besides, which feeds tokens in and drafts.
 *
 *   attempt.start ─▶ HeadDesk ─passes─▶ StageEngine ─outputs─▶ ChainStage ─frames─▶ next stage … last stage ─tokens─▶ ChainStage ─▶ HeadDesk
 *                                                                                              └─▶ AttemptRun ─▶ coordinator
 */
import type { SequenceId } from "../../domain/chain.ts";
import type { StopReason } from "../../domain/sampling.ts";
import type { Timer } from "../../ports/clock.ts";
import type { Engine } from "../../ports/engine.ts";
import type { StageEngine } from "../../ports/stage-engine.ts";
import type { AttemptStart } from "../../wire/agent-link.ts";

/** What the head desk may use. Outputs of the engine are not its business: `ChainStage` forwards them. */
export interface HeadPorts {
  readonly engine: Pick<StageEngine, "info" | "open" | "submit" | "held" | "release" | "stats">;
  /** The whole small model on this node that drafts, asked for at each use: it may come later and go; null: the prompt's repetitions draft. */
  draft(): Engine | null;
  /** False: no drafts of any kind, as for measurements of plain chains. True where it is absent. */
  readonly speculates?: boolean;
  /** `sequenceIdOf` of its terms and choice. */
  sequenceOf(order: AttemptStart): SequenceId;
  /** Stages of the chain. */
  stageCount(): number;
  /** Slowest stage's and all stages' time for a decode of single tokens, as `HeadDesk` is told of them; null before they are measured. */
  stageMs(): { readonly slowestMs: number; readonly sumMs: number } | null;
  /** Passes that may be submitted now without filling the link's window; `onRoom` follows when it was 0. */
  room(): number;
  /** Must be called before the first pass of a lease: names the lease under which the sequence's outputs are sent on. */
  announce(sequence: SequenceId, run: { readonly leaseEpoch: number; readonly promptLength: number }): void;
  /** The sequence runs no more: the stages behind are told. */
  release(sequence: SequenceId): void;
  nowMs(): number;
  setTimer(delayMs: number, fire: () => void): Timer;
}

export interface HeadDesk {
  /** Feeds an attempt: prompt and tokens so far, then what comes back, until it ends. Positions that are held need no pass but the last one. */
  start(order: AttemptStart): void;
  cancel(leaseId: string, epoch: number): void;
  /** From the last stage; entries of unknown sequences or older leases were dropped before. */
  onTokens(tokens: {
    readonly sequence: SequenceId;
    readonly position: number;
    readonly tokenIds: readonly number[];
    readonly end: StopReason | null;
  }): void;
  /** The engine has given the output of one of the desk's passes, or given its sequence up: there is room for the next group of passes. */
  onOutput(sequence: SequenceId, tag: number): void;
  /** A later stage lacks positions from `held` on, and nobody kept what was sent: they are computed again, as rebuild. */
  onGap(sequence: SequenceId, held: number): void;
  /** There is room again. */
  onRoom(): void;
  /** Positions of the sequence whose tokens are known here; 0 when it does not run. */
  known(sequence: SequenceId): number;
  /** Its answer is over, as the coordinator says: nothing of it is kept. */
  over(sequence: SequenceId): void;
  /** The chain has a new epoch, or is broken: everything that runs is dropped (its leases are dead). */
  onEpoch(): void;
  stats(): {
    readonly running: number;
    readonly loopMs: number | null;
    readonly drafted: number;
    readonly accepted: number;
  };
  stop(): void;
}
