/** Numbers of a session's connections: each is taken once, so that a repeated attach is known. They come about in order, since several are dialled at a time. */

/** More than are ever dialled at the same time. */
const KEPT = 64;

export class AttachNumbers {
  readonly #taken = new Set<number>();
  #newest = 0;

  /** False for a number that came before, or is so old that it is not known whether it did. */
  take(number: number): boolean {
    if (number <= this.#newest - KEPT || this.#taken.has(number)) return false;
    this.#taken.add(number);
    this.#newest = Math.max(this.#newest, number);
    for (const kept of this.#taken) if (kept <= this.#newest - KEPT) this.#taken.delete(kept);
    return true;
  }
}
