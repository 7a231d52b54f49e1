/**
 * The way from the stage before into the engine: checks what comes, names it when it cannot be, and submits it as passes. Frames count as taken when all
 * their passes have come out of the engine.
 *
 * | an entry                                   | becomes                                                            |
 * | ------------------------------------------ | ------------------------------------------------------------------ |
 * | begins where the engine holds it, or below | a pass: the engine drops what it held beyond                       |
 * | begins above                               | nothing; the stage before is told of the gap, once                 |
 * | is drawn after, and its attempt is not here| waits for the attempt, with all that follows it in its sequence    |
 * | has a lease that its attempt here has left | nothing: the stage before does not know of the newer one yet        |
 * | has an older lease than the one before it, goes beyond the context, has another width | a breach                |
 * | is what no model gives (state-watch.ts)    | garbage                                                             |
 *
 * At the last stage a sequence whose attempt is not here holds its slot until an attempt lacks one, and for `EARLY_MS_MAX` at most. The coordinator
 * leases no more attempts than there are slots, so one of those that hold a slot then was fed for nobody.
 */
import type { SequenceId } from "../../domain/chain.ts";
import type { StageEngine, StagePass } from "../../ports/stage-engine.ts";
import { ELEMENT_BYTES } from "../../wire/stage-frame-codec.ts";
import type { ActivationEntry, StageFrame } from "../../wire/stage-frames.ts";
import type { SequenceTable } from "./sequence-table.ts";
import { CREDIT_BYTES, CREDIT_FRAMES, EARLY_MS_MAX, GAP_MS, WINDOW_FRAMES } from "./stage-bounds.ts";
import { widthOf } from "./stage-outbox.ts";
import type { WireProblem } from "./stage-wire.ts";
import type { StateWatch } from "./state-watch.ts";

export interface IntakePorts {
  readonly sequences: SequenceTable;
  readonly watch: Pick<StateWatch, "look">;
  engine(): StageEngine | null;
  nowMs(): number;
  /** Last stage: the attempt that samples the sequence under this lease is here. */
  mayDraw(sequence: SequenceId, leaseEpoch: number): boolean;
  /** A lease begins here. */
  onLease(sequence: SequenceId, leaseEpoch: number): void;
  gap(sequence: SequenceId, lease: { readonly leaseEpoch: number; readonly held: number }): void;
  /** Frames were taken. */
  onTaken(): void;
  /** The engine has no slot for it. */
  onOverload(sequence: SequenceId): void;
  /** It has a slot, and no attempt of it came for so long: it gives the slot up. */
  onUnleased(sequence: SequenceId, waitedMs: number): void;
  isLast(): boolean;
}

/** A frame whose passes are not all done. */
interface FrameRun {
  passesLeft: number;
  readonly bytes: number;
}

/** A pass on its way through the engine. */
export interface PassRun {
  readonly sequence: SequenceId;
  readonly leaseEpoch: number;
  /** The epoch of the chain has changed since: what comes out is kept, not sent. */
  isStale: boolean;
  readonly frame: FrameRun | null;
}

interface Early {
  readonly entry: ActivationEntry;
  readonly pass: Omit<StagePass, "tag">;
  readonly frame: FrameRun;
  readonly atMs: number;
}

type Activations = Extract<StageFrame, { type: "activations" }>;

export class StageIntake {
  readonly #ports: IntakePorts;
  readonly #runs = new Map<number, PassRun>();
  readonly #early = new Map<SequenceId, Early[]>();
  /** With a slot and without an attempt, since when; the one that waits longest comes first. */
  readonly #unleased = new Map<SequenceId, number>();
  #nextTag = 1;
  #taken = { frames: 0, bytes: 0 };
  /** Of what was taken. */
  #told = { frames: 0, bytes: 0 };
  #received = 0;

  constructor(ports: IntakePorts) {
    this.#ports = ports;
  }

  /** Frames of this epoch whose passes are all done, when there are enough of them to tell; null when there are not. */
  creditDue(): number | null {
    const [taken, told] = [this.#taken, this.#told];
    if (taken.frames - told.frames < CREDIT_FRAMES && taken.bytes - told.bytes < CREDIT_BYTES) return null;
    this.#told = taken;
    return taken.frames;
  }

  get passes(): number {
    return this.#runs.size;
  }

  onFrame(frame: Activations): WireProblem | null {
    this.#received += 1;
    const untold = this.#received - this.#told.frames;
    if (untold > WINDOW_FRAMES) {
      return { code: "window-overrun", message: `${untold} frames that nobody took, ${WINDOW_FRAMES} may wait` };
    }
    const engine = this.#ports.engine();
    if (engine === null) return null;
    const { entries, format, data } = frame;
    const { embeddingLength } = engine.info;
    const width = widthOf(frame);
    if (width !== embeddingLength) {
      const message = `hidden states of ${width} elements, those of this model have ${embeddingLength}`;
      return { code: "frame-width", message };
    }
    const count = { passesLeft: entries.length, bytes: data.length };
    let at = 0;
    for (const entry of entries) {
      const bytes = entry.count * width * ELEMENT_BYTES[format];
      // The engine may read it later than the link's buffer stays.
      const input = { kind: "hidden", format, data: data.subarray(at, at + bytes) } as const;
      at += bytes;
      const { count: positions } = entry;
      const seen = this.#ports.watch.look({ ...entry, format, data: input.data, width, positions });
      const problem = seen ?? this.#onEntry(engine, entry, { input, frame: count });
      if (problem !== null) return problem;
    }
    return null;
  }

  /** What a pass of the engine belongs to; it is done with this. Null when it was dropped. */
  finish(tag: number): PassRun | null {
    const run = this.#runs.get(tag) ?? null;
    this.#runs.delete(tag);
    if (run?.frame != null && !run.isStale) this.#done(run.frame);
    return run;
  }

  /** The attempt is here. */
  admit(sequence: SequenceId): void {
    this.#unleased.delete(sequence);
    const early = this.#early.get(sequence) ?? [];
    this.#early.delete(sequence);
    const engine = this.#ports.engine();
    for (const { entry, pass, frame } of early) {
      if (engine === null) this.#done(frame);
      else this.#submit(engine, entry, { pass, frame });
    }
  }

  /** It runs no more: its passes that wait are dropped with it. */
  release(sequence: SequenceId): void {
    for (const [tag, run] of [...this.#runs]) if (run.sequence === sequence) this.finish(tag);
    for (const { frame } of this.#early.get(sequence) ?? []) this.#done(frame);
    this.#early.delete(sequence);
    this.#unleased.delete(sequence);
  }

  /** Attempts whose order never came. */
  dropLate(): void {
    const nowMs = this.#ports.nowMs();
    for (const [sequence, sinceMs] of [...this.#unleased]) {
      if (nowMs - sinceMs > EARLY_MS_MAX) this.#giveUp(sequence, sinceMs);
    }
    for (const [sequence, [first]] of [...this.#early]) {
      if (first !== undefined && nowMs - first.atMs > EARLY_MS_MAX) this.release(sequence);
    }
  }

  /** An attempt lacks a slot: the sequence that waits longest for its own gives it up. False when none waits. */
  makeRoom(): boolean {
    const [oldest] = this.#unleased;
    if (oldest === undefined) return false;
    this.#giveUp(...oldest);
    return true;
  }

  /** A new epoch: frames are counted anew, and what still comes out of the engine is of the old one. */
  restart(): void {
    for (const run of this.#runs.values()) run.isStale = true;
    this.#early.clear();
    this.#unleased.clear();
    this.#taken = { frames: 0, bytes: 0 };
    this.#told = this.#taken;
    this.#received = 0;
  }

  /** The engine is gone, with all that it had. */
  clear(): void {
    this.#runs.clear();
    this.#early.clear();
    this.#unleased.clear();
  }

  // ---------------------------------------------------------------- within

  #onEntry(
    engine: StageEngine,
    entry: ActivationEntry,
    { input, frame }: { readonly input: StagePass["input"]; readonly frame: FrameRun },
  ): WireProblem | null {
    const { sequence, leaseEpoch, start, count, how, draw } = entry;
    const { sequences } = this.#ports;
    const before = sequences.get(sequence);
    if (before !== null && leaseEpoch < before.heardEpoch) {
      const message = `positions of ${sequence} under lease ${leaseEpoch}, after some under ${before.heardEpoch}`;
      return { code: "lease-older", message };
    }
    if (before !== null && leaseEpoch < before.leaseEpoch) {
      // A last stage may hear of an attempt before the frames of the one before it are all here.
      this.#done(frame);
      return null;
    }
    const end = start + count;
    const { contextTokens } = engine.info;
    if (end > contextTokens) {
      return { code: "position-wrong", message: `positions ${start} to ${end - 1} in a context of ${contextTokens}` };
    }
    if ((draw?.draftIds.length ?? 0) >= count) {
      return { code: "position-wrong", message: `${draw?.draftIds.length} drafts in ${count} positions` };
    }
    if (before === null || !before.isOpen || before.leaseEpoch !== leaseEpoch) {
      if (before?.isOpen === false && before.leaseEpoch === leaseEpoch) {
        this.#done(frame); // it ended here, and the stage before does not know yet
        return null;
      }
      this.#ports.onLease(sequence, leaseEpoch);
      sequences.lease(sequence, entry);
      if (!engine.open(sequence)) {
        this.#done(frame);
        return this.#overloaded(engine, sequence);
      }
      if (!this.#ports.mayDraw(sequence, leaseEpoch)) this.#unleased.set(sequence, this.#ports.nowMs());
    }
    const state = sequences.get(sequence);
    if (state !== null) state.heardEpoch = leaseEpoch;
    const pass = { sequence, start, count, how, input, draw };
    const waiting = this.#early.get(sequence);
    if (waiting !== undefined || (draw !== null && !this.#ports.mayDraw(sequence, leaseEpoch))) {
      const early = { entry, pass: { ...pass, input: copied(input) }, frame, atMs: this.#ports.nowMs() };
      if (state !== null) state.arrived = end - (draw?.draftIds.length ?? 0);
      this.#early.set(sequence, [...(waiting ?? []), early]);
      return null;
    }
    return this.#submit(engine, entry, { pass, frame });
  }

  #giveUp(sequence: SequenceId, sinceMs: number): void {
    this.#unleased.delete(sequence);
    this.#ports.onUnleased(sequence, this.#ports.nowMs() - sinceMs);
  }

  #submit(
    engine: StageEngine,
    { leaseEpoch }: ActivationEntry,
    { pass, frame }: { readonly pass: Omit<StagePass, "tag">; readonly frame: FrameRun },
  ): WireProblem | null {
    const { sequence, start, count, draw } = pass;
    const state = this.#ports.sequences.get(sequence);
    if (state === null) return null;
    const held = Math.min(engine.held(sequence), state.reach);
    if (start > held) {
      const problem = this.#lacks(sequence, { leaseEpoch, start, held });
      this.#done(frame);
      return problem;
    }
    state.gap = null;
    state.confirmed = start + count - (draw?.draftIds.length ?? 0);
    state.arrived = state.confirmed;
    state.reach = start + count;
    const tag = this.#nextTag;
    this.#nextTag = tag >= 2 ** 31 - 1 ? 1 : tag + 1;
    this.#runs.set(tag, { sequence, leaseEpoch, isStale: false, frame });
    engine.submit({ ...pass, tag });
    return null;
  }

  /** Too many at once are the stage before's to blame, who tells what runs; a last stage's attempts may come before others are known to be over. */
  #overloaded({ info }: StageEngine, sequence: SequenceId): WireProblem | null {
    const open = this.#ports.sequences.open().length;
    if (!this.#ports.isLast() && open > info.sequencesMax) {
      return { code: "slots-exceeded", message: `${open} sequences at once, there are ${info.sequencesMax} slots` };
    }
    this.#ports.onOverload(sequence);
    return null;
  }

  #lacks(
    sequence: SequenceId,
    { leaseEpoch, start, held }: { readonly leaseEpoch: number; readonly start: number; readonly held: number },
  ): WireProblem | null {
    const state = this.#ports.sequences.get(sequence);
    const atMs = this.#ports.nowMs();
    if (state === null) return null;
    if (state.gap !== null && state.gap.held <= held) {
      if (atMs - state.gap.atMs <= GAP_MS) return null;
      const message = `positions from ${start} on, ${GAP_MS} ms after those from ${state.gap.held} on were asked for`;
      return { code: "position-wrong", message };
    }
    state.gap = { held, atMs };
    this.#ports.gap(sequence, { leaseEpoch, held });
    return null;
  }

  #done(frame: FrameRun): void {
    frame.passesLeft--;
    if (frame.passesLeft > 0) return;
    this.#taken = { frames: this.#taken.frames + 1, bytes: this.#taken.bytes + frame.bytes };
    this.#ports.onTaken();
  }
}

function copied(input: StagePass["input"]): StagePass["input"] {
  return input.kind === "hidden" ? { ...input, data: Uint8Array.from(input.data) } : input;
}
