/** Memory for chunks on their way, all models together. Who gets none asks again when some is given back. */
import { assert } from "../../../domain/assert.ts";

export class ByteBudget {
  readonly #bytesMax: number;
  readonly #onFreed: () => void;
  #used = 0;

  constructor(bytesMax: number, onFreed: () => void) {
    this.#bytesMax = bytesMax;
    this.#onFreed = onFreed;
  }

  get usedBytes(): number {
    return this.#used;
  }

  /** One piece may always be taken, however large. */
  has(bytes: number): boolean {
    return this.#used === 0 || this.#used + bytes <= this.#bytesMax;
  }

  take(bytes: number): void {
    assert(this.has(bytes), `${bytes} bytes are free for chunks on their way`);
    this.#used += bytes;
  }

  give(bytes: number): void {
    assert(bytes <= this.#used, `${bytes} bytes were taken before they are given back`);
    this.#used -= bytes;
    this.#onFreed();
  }
}
