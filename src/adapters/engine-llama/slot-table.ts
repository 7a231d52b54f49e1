/**
 * The engine's slots: one sequence of libllama each, with the tokens whose keys and values it holds. A slot keeps them
 * after its sequence has ended, for the next turn of the conversation, and can give them away or take them as bytes.
 */
import { assert } from "../../domain/assert.ts";
import { commonPrefix, type SlotChoice, type SlotState } from "../../inference/sequence-slots.ts";
import type { ExportedState } from "./child-protocol.ts";
import type { LoadedModel } from "./loaded-model.ts";

interface Slot extends SlotState {
  isBusy: boolean;
  tokens: number[];
  scope: string | null;
  lastUse: number;
}

export class SlotTable {
  readonly #loaded: LoadedModel;
  readonly #slots: readonly Slot[];
  #uses = 0;

  constructor(loaded: LoadedModel) {
    this.#loaded = loaded;
    this.#slots = Array.from({ length: loaded.sequencesMax }, () => ({
      isBusy: false,
      tokens: [],
      scope: null,
      lastUse: 0,
    }));
  }

  get states(): readonly SlotState[] {
    return this.#slots;
  }

  heldTokens(slot: number): number {
    return this.#at(slot).tokens.length;
  }

  /** Makes the choice true and marks the slot busy. Answers how many tokens it really holds of the beginning. */
  take(choice: SlotChoice, scope: string): number {
    const { api, memory } = this.#loaded;
    const slot = this.#at(choice.slot);
    slot.isBusy = true;
    slot.scope = scope;
    slot.lastUse = ++this.#uses;
    if (choice.copyFrom !== null) {
      api.copySequence(memory, choice.copyFrom, choice.slot, -1, -1);
      slot.tokens = this.#at(choice.copyFrom).tokens.slice();
    }
    this.#truncate(choice.slot, choice.reusedTokens);
    return slot.tokens.length;
  }

  release(slot: number): void {
    const state = this.#at(slot);
    state.isBusy = false;
    state.lastUse = ++this.#uses;
  }

  /** Notes that `count` more tokens of a sequence were decoded in its slot. */
  append(slot: number, tokens: readonly number[], count: number): void {
    const held = this.#at(slot).tokens;
    for (let done = 0; done < count; done++) held.push(tokens[held.length] ?? 0);
  }

  /** The state of the slot with this beginning. An idle slot gives no more than the beginning; a busy one all it has. */
  snapshot(tokenIds: Int32Array): ExportedState | null {
    const { api, context } = this.#loaded;
    const found = this.#slots.findIndex((slot) => commonPrefix(slot.tokens, tokenIds) === tokenIds.length);
    if (found < 0 || tokenIds.length === 0) return null;
    const slot = this.#at(found);
    if (!slot.isBusy) this.#truncate(found, tokenIds.length);
    if (slot.tokens.length < tokenIds.length) return null;
    const data = new Uint8Array(Number(api.stateBytes(context, found)));
    const written = Number(api.getState(context, data, data.length, found));
    if (written === 0) return null;
    const cacheScope = slot.scope ?? "";
    return { cacheScope, tokenIds: Int32Array.from(slot.tokens), data: data.subarray(0, written) };
  }

  /** Puts a state into the least recently used idle slot; false when none is idle or the state does not fit. */
  restore(state: ExportedState): boolean {
    const { api, context, memory, contextTokens } = this.#loaded;
    if (state.tokenIds.length > contextTokens) return false;
    const idle = [...this.#slots.entries()].filter(([, slot]) => !slot.isBusy);
    const target = idle.sort(([a, left], [b, right]) => left.lastUse - right.lastUse || a - b)[0];
    if (target === undefined) return false;
    const [index, slot] = target;
    this.#truncate(index, 0);
    const read = Number(api.setState(context, state.data, state.data.length, index));
    const isWhole =
      read > 0 &&
      api.firstPosition(memory, index) === 0 &&
      api.lastPosition(memory, index) === state.tokenIds.length - 1;
    if (!isWhole) {
      this.#truncate(index, 0);
      return false;
    }
    slot.tokens = Array.from(state.tokenIds);
    slot.scope = state.cacheScope;
    slot.lastUse = ++this.#uses;
    return true;
  }

  /** Keeps the first `count` tokens, or none where the model's memory cannot be cut (recurrent models). */
  #truncate(index: number, count: number): void {
    const { api, memory } = this.#loaded;
    const slot = this.#at(index);
    if (slot.tokens.length === count && count > 0) return;
    if (count > 0 && api.removeFrom(memory, index, count, -1)) {
      slot.tokens.length = count;
      return;
    }
    api.removeFrom(memory, index, -1, -1);
    slot.tokens.length = 0;
  }

  #at(slot: number): Slot {
    const state = this.#slots[slot];
    assert(state !== undefined, `slot ${slot} is one of ${this.#slots.length}`);
    return state;
  }
}
