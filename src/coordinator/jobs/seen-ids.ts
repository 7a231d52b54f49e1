/**
 * Which ids were seen, in 12 bytes each instead of a string: 96 bits of their SHA-256 in an open table. Two different ids meet in it
 * once in 10^17 files of a million lines.
 */
import type { Crypto } from "../../ports/crypto.ts";

const WORDS = 3;
const SLOTS_LEAST = 1_024;
/** Fuller tables take many looks for each id. */
const FULL_SHARE = 0.5;

export class SeenIds {
  readonly #crypto: Crypto;
  #table = new Uint32Array(SLOTS_LEAST * WORDS);
  #size = 0;

  constructor(crypto: Crypto) {
    this.#crypto = crypto;
  }

  /** False when it was seen before. */
  add(id: string): boolean {
    const digest = this.#crypto.sha256(new TextEncoder().encode(id));
    const view = new DataView(digest.buffer, digest.byteOffset, digest.byteLength);
    // Three zeros mean an empty slot.
    const words = [view.getUint32(0) || 1, view.getUint32(4), view.getUint32(8)];
    if (this.#size + 1 > (this.#table.length / WORDS) * FULL_SHARE) this.#grow();
    if (!place(this.#table, words)) return false;
    this.#size += 1;
    return true;
  }

  #grow(): void {
    const larger = new Uint32Array(this.#table.length * 2);
    for (let at = 0; at < this.#table.length; at += WORDS) {
      if (this.#table[at] !== 0) place(larger, this.#table.subarray(at, at + WORDS));
    }
    this.#table = larger;
  }
}

/** False when it is there already. */
function place(table: Uint32Array, words: ArrayLike<number>): boolean {
  const slots = table.length / WORDS;
  for (let slot = (words[0] ?? 0) % slots; ; slot = (slot + 1) % slots) {
    const at = slot * WORDS;
    if (table[at] === 0) {
      table.set(words, at);
      return true;
    }
    if (table[at] === words[0] && table[at + 1] === words[1] && table[at + 2] === words[2]) return false;
  }
}
