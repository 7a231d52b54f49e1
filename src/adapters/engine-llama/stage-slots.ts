/** The slots of a stage's process: one sequence of libllama each, how much it holds, and what waits to be done with it, in order. */
import { assert } from "../../domain/assert.ts";
import { type KvCache, kvStateFor, positionsOf, readKvState } from "./kv-state.ts";
import type { LoadedModel } from "./loaded-model.ts";
import type { RunningSequence } from "./running-sequence.ts";
import type { RunningPass } from "./stage-pass.ts";
import type { StageServingCommand } from "./stage-protocol.ts";

export type SlotWork = Extract<StageServingCommand, { readonly kind: "pass" | "sampling" | "export" }>;

export interface StageSlot {
  readonly index: number;
  held: number;
  /** Came from elsewhere with the windows of so many positions only: it cannot be cut to fewer, but to none. */
  uncut: number;
  readonly queue: SlotWork[];
  /** The first of the queue's passes, once it has begun. */
  pass: RunningPass | null;
  sampling: RunningSequence | null;
  /** Its answer is over: passes draw no more. */
  isOver: boolean;
}

export class StageSlots {
  readonly all: readonly StageSlot[];
  readonly #loaded: LoadedModel;
  readonly #shape: string | null;

  /** `stateShape`: of a state that this stage gave, as `kvShapeOf` tells it; null when it is not known. */
  constructor(loaded: LoadedModel, stateShape: string | null) {
    this.#loaded = loaded;
    this.#shape = stateShape;
    this.all = Array.from({ length: loaded.sequencesMax }, (_, index) => ({
      index,
      held: 0,
      uncut: 0,
      queue: [],
      pass: null,
      sampling: null,
      isOver: false,
    }));
  }

  at(index: number): StageSlot {
    const slot = this.all[index];
    assert(slot !== undefined, `slot ${index} is one of ${this.all.length}`);
    return slot;
  }

  /** Keeps the first `positions`; false where the model's memory cannot be cut there. */
  truncate(slot: StageSlot, positions: number): boolean {
    if (slot.held <= positions) return true;
    if (positions > 0 && positions < slot.uncut) return false;
    const { api, memory } = this.#loaded;
    if (positions === 0) api.removeFrom(memory, slot.index, -1, -1);
    else if (!api.removeFrom(memory, slot.index, positions, -1)) return false;
    slot.held = positions;
    if (positions === 0) slot.uncut = 0;
    return true;
  }

  /** How it samples, from here on; what it had is freed. */
  setSampling(slot: StageSlot, sampling: RunningSequence | null, isOver = false): void {
    slot.sampling?.free();
    slot.sampling = sampling;
    slot.isOver = isOver;
  }

  /** Drops what waits, but what others wait for. */
  drop(slot: StageSlot): void {
    const kept = slot.queue.filter(({ kind }) => kind === "export");
    slot.queue.length = 0;
    slot.queue.push(...kept);
    slot.pass = null;
    this.setSampling(slot, null);
  }

  clear(slot: StageSlot): void {
    this.drop(slot);
    this.#loaded.api.removeFrom(this.#loaded.memory, slot.index, -1, -1);
    slot.held = 0;
    slot.uncut = 0;
  }

  /**
   * Keys and values of the first `positions`, and maybe of what follows them; null when it does not hold so many, where it holds more and cannot
   * be cut (windows), or where a model's states are not of the form that is known.
   */
  snapshot(slot: StageSlot, positions: number): Uint8Array | null {
    if (slot.held < positions || positions < 1) return null;
    const caches = readKvState(stateOf(this.#loaded, slot.index));
    if (caches === null || !isGoodFor(caches, positions)) return null;
    return kvStateFor(caches, 1);
  }

  /** Into an empty slot; false when the state is not one of this stage with so many positions. */
  restore(slot: StageSlot, { positions, data }: { readonly positions: number; readonly data: Uint8Array }): boolean {
    this.clear(slot);
    const caches = readKvState(data);
    if (caches === null || shapeOf(caches) !== this.#shape || !isGoodFor(caches, positions)) return false;
    const { api, context, memory, contextTokens, sequencesMax } = this.#loaded;
    const { end = 0, canBeCut = false } = positionsOf(caches) ?? {};
    if (end > contextTokens) return false;
    const whole = kvStateFor(caches, sequencesMax);
    const read = Number(api.setState(context, whole, whole.length, slot.index));
    slot.held = read > 0 ? api.lastPosition(memory, slot.index) + 1 : 0;
    if (slot.held === end && this.truncate(slot, positions)) {
      slot.uncut = canBeCut ? 0 : positions;
      return true;
    }
    this.clear(slot);
    return false;
  }
}

function isGoodFor(caches: readonly KvCache[], positions: number): boolean {
  const found = positionsOf(caches);
  return found !== null && (found.end === positions || (found.canBeCut && found.end > positions));
}

/** Of the state of slot 0, which holds something. */
export function kvShapeOf(loaded: LoadedModel): string | null {
  const caches = readKvState(stateOf(loaded, 0));
  return caches === null ? null : shapeOf(caches);
}

function stateOf({ api, context }: LoadedModel, index: number): Uint8Array {
  const data = new Uint8Array(Number(api.stateBytes(context, index)));
  return data.subarray(0, Number(api.getState(context, data, data.length, index)));
}

function shapeOf(caches: readonly KvCache[]): string {
  return caches.map(({ shape }) => shape).join(" | ");
}
