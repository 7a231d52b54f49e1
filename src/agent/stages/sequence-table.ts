/** What a stage knows of each sequence: the lease under which it runs, and how far its own engine and the next stage surely hold it. */
import type { SequenceId } from "../../domain/chain.ts";
import { HOLDINGS_MAX } from "../../wire/stage-frames.ts";
import type { HeldSequence } from "../../wire/stage-state-request.ts";
import { GAPS_MAX, SEQUENCES_MAX } from "./stage-bounds.ts";
import type { WireProblem } from "./stage-wire.ts";

export interface SequenceState {
  /** `Lease.epoch`; what comes under an older one is dropped. */
  leaseEpoch: number;
  promptLength: number;
  /** It runs: neighbours must show that they live. */
  isOpen: boolean;
  /** Positions that the engine holds and that are the sequence's own: drafts do not count until a pass builds on them. */
  confirmed: number;
  /** Positions that came under this lease, or were confirmed before it; drafts do not count. */
  arrived: number;
  /** A pass may begin here or before: behind what came under this lease, or behind what was confirmed before it. */
  reach: number;
  /** The same of the next stage, as far as it told or was sent. */
  nextHeld: number;
  /** Newest lease under which the stage before sent: it never goes back behind that. */
  heardEpoch: number;
  /** How often the next stage lacked something, under this lease. */
  gaps: number;
  /** Was asked for from here on. */
  gap: { readonly held: number; readonly atMs: number } | null;
}

export class SequenceTable {
  /** The one that was leased longest ago comes first. */
  readonly #states = new Map<SequenceId, SequenceState>();

  get(sequence: SequenceId): SequenceState | null {
    return this.#states.get(sequence) ?? null;
  }

  /** Begins the lease, if it is no older than the known one; null when it is. */
  lease(
    sequence: SequenceId,
    { leaseEpoch, promptLength }: { readonly leaseEpoch: number; readonly promptLength: number },
  ): SequenceState | null {
    const known = this.#states.get(sequence);
    if (known !== undefined && leaseEpoch < known.leaseEpoch) return null;
    if (known?.leaseEpoch === leaseEpoch) return known;
    const state = known ?? unheard();
    // Drafts of an older lease that nobody confirmed are not this lease's tokens.
    Object.assign(state, {
      leaseEpoch,
      promptLength,
      isOpen: true,
      gaps: 0,
      gap: null,
      reach: state.confirmed,
    });
    state.arrived = state.confirmed;
    this.#states.delete(sequence);
    this.#states.set(sequence, state);
    this.#forgetOldest();
    return state;
  }

  /** For what is known of a sequence that does not run here yet. */
  note(sequence: SequenceId): SequenceState {
    const known = this.#states.get(sequence);
    if (known !== undefined) return known;
    const state = unheard();
    this.#states.set(sequence, state);
    this.#forgetOldest();
    return state;
  }

  /** All that the next stage holds. */
  noteNext(holdings: readonly HeldSequence[]): void {
    for (const state of this.#states.values()) state.nextHeld = 0;
    for (const { sequence, held } of holdings) this.note(sequence).nextHeld = held;
  }

  /** The next stage lacks something of it; null while that may be. */
  lackedAgain(sequence: SequenceId): WireProblem | null {
    const state = this.note(sequence);
    state.gaps += 1;
    if (state.gaps <= GAPS_MAX) return null;
    return { code: "gap-again", message: `${state.gaps} times positions of ${sequence} were missing, under one lease` };
  }

  /** Of what an engine holds, the positions that are surely the sequences' own; as many sequences as a hello takes, the last used. */
  surelyHeld(holdings: readonly HeldSequence[]): readonly HeldSequence[] {
    const sure = holdings.map(({ sequence, held }) => {
      return { sequence, held: Math.min(held, this.#states.get(sequence)?.confirmed ?? 0) };
    });
    return sure.filter(({ held }) => held > 0).slice(-HOLDINGS_MAX);
  }

  /** Its answer is over: nothing is held of it. Its name stays, so that what is still on its way does not begin it anew. */
  over(sequence: SequenceId): void {
    const state = this.#states.get(sequence);
    if (state !== undefined)
      Object.assign(state, { isOpen: false, confirmed: 0, arrived: 0, reach: 0, nextHeld: 0, gap: null });
  }

  /** All that run. */
  open(): readonly SequenceId[] {
    return [...this.#states].filter(([, { isOpen }]) => isOpen).map(([sequence]) => sequence);
  }

  get hasOpen(): boolean {
    for (const { isOpen } of this.#states.values()) if (isOpen) return true;
    return false;
  }

  all(): Iterable<readonly [SequenceId, SequenceState]> {
    return this.#states;
  }

  #forgetOldest(): void {
    if (this.#states.size <= SEQUENCES_MAX) return;
    for (const [sequence, { isOpen }] of this.#states) {
      if (isOpen) continue;
      this.#states.delete(sequence);
      return;
    }
  }
}

function unheard(): SequenceState {
  const positions = { confirmed: 0, arrived: 0, reach: 0, nextHeld: 0 };
  return {
    leaseEpoch: 0,
    promptLength: 0,
    isOpen: false,
    ...positions,
    heardEpoch: 0,
    gaps: 0,
    gap: null,
  };
}
