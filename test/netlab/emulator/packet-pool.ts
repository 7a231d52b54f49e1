/** Room for the packets that are on their way, made once: nothing is allocated while packets flow. */
import { assert } from "../../../src/domain/assert.ts";
import { type FixedMemory, fixedMemory } from "./libc.ts";

/** Above the lab's MTU of 1400. */
export const SLOT_BYTES = 2_048;
/** 45 MB of full packets: 300 Mbit/s for 1.2 s. */
export const POOL_SLOTS = 32_768;

const DESTINATION_AT = 16;

export class PacketPool {
  readonly #memory: FixedMemory = fixedMemory(SLOT_BYTES * POOL_SLOTS);
  readonly #bytes: Uint8Array = new Uint8Array(this.#memory.buffer);
  readonly #view: DataView = new DataView(this.#memory.buffer);
  readonly #lengths: Int32Array = new Int32Array(POOL_SLOTS);
  readonly #free: Int32Array = Int32Array.from({ length: POOL_SLOTS }, (_, index) => POOL_SLOTS - 1 - index);
  #freeCount = POOL_SLOTS;

  /** A free slot, or -1. */
  take(): number {
    if (this.#freeCount === 0) return -1;
    this.#freeCount--;
    return this.#free[this.#freeCount] ?? -1;
  }

  release(slot: number): void {
    assert(this.#freeCount < POOL_SLOTS, "a slot is released once");
    this.#free[this.#freeCount] = slot;
    this.#freeCount++;
  }

  addressOf(slot: number): number {
    return this.#memory.address + slot * SLOT_BYTES;
  }

  lengthOf(slot: number): number {
    return this.#lengths[slot] ?? 0;
  }

  filled(slot: number, length: number): void {
    this.#lengths[slot] = length;
  }

  /** The destination of an IPv4 packet as a number, or 0 for anything else. */
  destinationOf(slot: number): number {
    const at = slot * SLOT_BYTES;
    const isIpv4 = ((this.#bytes[at] ?? 0) & 0xf0) === 0x40 && this.lengthOf(slot) >= 20;
    return isIpv4 ? this.#view.getUint32(at + DESTINATION_AT) : 0;
  }
}

/** Slots in the order in which they are due, each with its time. As long as the pool, so that it cannot overflow. */
export class PacketFifo {
  readonly #slots: Int32Array = new Int32Array(POOL_SLOTS);
  readonly #dueMs: Float64Array = new Float64Array(POOL_SLOTS);
  #head = 0;
  #count = 0;

  push(slot: number, dueMs: number): void {
    assert(this.#count < POOL_SLOTS, "no more packets wait than there are slots");
    const at = (this.#head + this.#count) % POOL_SLOTS;
    this.#slots[at] = slot;
    this.#dueMs[at] = dueMs;
    this.#count++;
  }

  /** When the first packet is due; infinity when there is none. */
  headDueMs(): number {
    return this.#count === 0 ? Number.POSITIVE_INFINITY : (this.#dueMs[this.#head] ?? 0);
  }

  /** Takes the first packet; there must be one. */
  pop(): number {
    assert(this.#count > 0, "a packet waits");
    const slot = this.#slots[this.#head] ?? 0;
    this.#head = (this.#head + 1) % POOL_SLOTS;
    this.#count--;
    return slot;
  }
}
