/**
 * The chunks that could be asked for, in order of how many holders have them. One array keeps them, grouped by that number; a chunk that
 * one more holder gets changes places with the last of its group, so that a change costs a few writes, whatever the number of chunks.
 *
 * add, remove: O(groups). raise, lower: O(1). Walk: in order of groups, within a group from a place that the caller draws.
 */
import { assert } from "../../domain/assert.ts";

/** Holders of one chunk that are told apart; the coordinator names 32 at most. */
export const AVAILABILITY_MAX = 64;

export class RarestOrder {
  readonly #order: Uint32Array;
  /** Place in the order; -1 for chunks that are not in it. */
  readonly #place: Int32Array;
  /** Where each group ends; group g begins where g - 1 ends. */
  readonly #ends = new Uint32Array(AVAILABILITY_MAX + 1);

  constructor(chunkCount: number) {
    this.#order = new Uint32Array(chunkCount);
    this.#place = new Int32Array(chunkCount).fill(-1);
  }

  get size(): number {
    return this.#ends[AVAILABILITY_MAX] ?? 0;
  }

  has(chunk: number): boolean {
    return (this.#place[chunk] ?? -1) >= 0;
  }

  /** How many chunks have this many holders. */
  sizeOf(availability: number): number {
    return this.#endOf(availability) - this.#endOf(availability - 1);
  }

  /** The chunk at a place of a group; places are 0 to `sizeOf` - 1. */
  at(availability: number, place: number): number {
    return this.#order[this.#endOf(availability - 1) + place] ?? 0;
  }

  add(chunk: number, availability: number): void {
    assert(!this.has(chunk), `chunk ${chunk} is not in the order yet`);
    // Each group above makes room at its front by moving its first to its end.
    let hole = this.size;
    for (let group = AVAILABILITY_MAX; group > availability; group--) {
      const start = this.#endOf(group - 1);
      if (start !== hole) this.#put(this.#order[start] ?? 0, hole);
      this.#ends[group] = this.#endOf(group) + 1;
      hole = start;
    }
    this.#ends[availability] = this.#endOf(availability) + 1;
    this.#put(chunk, hole);
  }

  remove(chunk: number, availability: number): void {
    let hole = this.#place[chunk] ?? -1;
    assert(hole >= 0, `chunk ${chunk} is in the order`);
    for (let group = availability; group <= AVAILABILITY_MAX; group++) {
      const last = this.#endOf(group) - 1;
      if (last !== hole) this.#put(this.#order[last] ?? 0, hole);
      this.#ends[group] = last;
      hole = last;
    }
    this.#place[chunk] = -1;
  }

  /** One more holder has it; `availability` is what it was. */
  raise(chunk: number, availability: number): void {
    assert(availability < AVAILABILITY_MAX, `${availability} holders of chunk ${chunk} are below ${AVAILABILITY_MAX}`);
    const last = this.#endOf(availability) - 1;
    this.#swap(chunk, last);
    this.#ends[availability] = last;
  }

  /** One holder fewer has it; `availability` is what it was. */
  lower(chunk: number, availability: number): void {
    assert(availability > 0, `chunk ${chunk} has a holder`);
    const first = this.#endOf(availability - 1);
    this.#swap(chunk, first);
    this.#ends[availability - 1] = first + 1;
  }

  #endOf(group: number): number {
    return group < 0 ? 0 : (this.#ends[group] ?? 0);
  }

  #swap(chunk: number, place: number): void {
    const own = this.#place[chunk] ?? -1;
    assert(own >= 0, `chunk ${chunk} is in the order`);
    const other = this.#order[place] ?? 0;
    this.#put(other, own);
    this.#put(chunk, place);
  }

  #put(chunk: number, place: number): void {
    this.#order[place] = chunk;
    this.#place[chunk] = place;
  }
}
