/**
 * Which sequence has which slot of a stage, and what it holds there. A slot that is released keeps its keys and values under the
 * sequence's name until another one needs it, the one released longest ago first.
 *
 * | slot      | open                    | release  | pass, import answered         | forget, failed | another needs a slot |
 * | --------- | ----------------------- | -------- | ----------------------------- | -------------- | -------------------- |
 * | free      | open                    | -        | ignored: late                 | -              | taken                |
 * | open      | as it is                | released | holds more                    | free           | -                    |
 * | importing | refused: not yet there  | -        | released, or free if refused  | free           | -                    |
 * | released  | open, under another key | -        | ignored: late                 | free           | taken, emptied first |
 */
import { assert } from "../../domain/assert.ts";
import type { SequenceId } from "../../domain/chain.ts";
import type { StagePass } from "../../ports/stage-engine.ts";

/** What must be known of a pass until it is done; its input is not. */
export type PassNote = Pick<StagePass, "tag" | "start" | "count" | "how" | "draw">;

export interface SequenceEntry {
  readonly sequence: SequenceId;
  readonly slot: number;
  /** Names this opening towards the process. */
  key: number;
  state: "open" | "importing" | "released";
  /** Positions that it holds for certain. */
  held: number;
  pending: PassNote[];
  lastUse: number;
}

export class StageSequences {
  readonly #slotsMax: number;
  readonly #byName = new Map<SequenceId, SequenceEntry>();
  readonly #byKey = new Map<number, SequenceEntry>();
  readonly #free: number[];
  #nextKey = 1;
  #uses = 0;

  constructor(slotsMax: number) {
    this.#slotsMax = slotsMax;
    this.#free = Array.from({ length: slotsMax }, (_, index) => index);
  }

  get(sequence: SequenceId): SequenceEntry | null {
    return this.#byName.get(sequence) ?? null;
  }

  byKey(key: number): SequenceEntry | null {
    return this.#byKey.get(key) ?? null;
  }

  all(): readonly SequenceEntry[] {
    return [...this.#byName.values()];
  }

  get openCount(): number {
    return this.all().reduce((count, { state }) => count + (state === "released" ? 0 : 1), 0);
  }

  newKey(): number {
    return this.#nextKey++;
  }

  /** Gives a slot. `emptied` is the slot that must be cleared first because another sequence held it. Null when all are in use. */
  take(
    sequence: SequenceId,
    state: "open" | "importing",
  ): { readonly entry: SequenceEntry; readonly emptied: number | null } | null {
    assert(!this.#byName.has(sequence), `sequence ${sequence} has no slot yet`);
    let slot = this.#free.shift();
    let emptied: number | null = null;
    if (slot === undefined) {
      const oldest = this.#oldestReleased();
      if (oldest === null) return null;
      this.remove(oldest);
      slot = this.#free.shift();
      assert(slot !== undefined, "a sequence that is removed leaves a slot");
      emptied = slot;
    }
    const entry: SequenceEntry = { sequence, slot, key: this.newKey(), state, held: 0, pending: [], lastUse: 0 };
    this.#byName.set(sequence, entry);
    this.#byKey.set(entry.key, entry);
    return { entry, emptied };
  }

  reopen(entry: SequenceEntry): void {
    this.#byKey.delete(entry.key);
    entry.key = this.newKey();
    entry.state = "open";
    this.#byKey.set(entry.key, entry);
  }

  /** Passes that are not done may or may not be: what they would have cut off counts as lost. */
  release(entry: SequenceEntry): void {
    entry.held = entry.pending.reduce((held, { start }) => Math.min(held, start), entry.held);
    entry.pending = [];
    entry.state = "released";
    entry.lastUse = ++this.#uses;
  }

  remove(entry: SequenceEntry): void {
    if (this.#byName.get(entry.sequence) !== entry) return;
    this.#byName.delete(entry.sequence);
    this.#byKey.delete(entry.key);
    // Low slots first, so that sequences which start together lie side by side: the library decodes neighbours as one.
    const at = this.#free.findIndex((slot) => slot > entry.slot);
    this.#free.splice(at < 0 ? this.#free.length : at, 0, entry.slot);
    assert(this.#free.length + this.#byName.size === this.#slotsMax, "each slot is free or has one sequence");
  }

  #oldestReleased(): SequenceEntry | null {
    let oldest: SequenceEntry | null = null;
    for (const entry of this.#byName.values()) {
      if (entry.state === "released" && (oldest === null || entry.lastUse < oldest.lastUse)) oldest = entry;
    }
    return oldest;
  }
}

/** Positions once all that was submitted is done. */
export function heldBy(entry: SequenceEntry): number {
  const last = entry.pending.at(-1);
  return last === undefined ? entry.held : last.start + last.count;
}
