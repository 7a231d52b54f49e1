/**
 * The draws of the layout search: Mulberry32, 32 bits of state. It only has to be fast, well mixed and the same everywhere;
 * nothing secret hangs on it.
 */
export class SearchRandom {
  #state: number;

  constructor(seed: number) {
    this.#state = seed >>> 0;
  }

  /** 0 <= x < 1 */
  next(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let mixed = this.#state;
    mixed = Math.imul(mixed ^ (mixed >>> 15), mixed | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  }

  /** A whole number, 0 <= n < below; 0 when `below` is 0. */
  below(below: number): number {
    return Math.floor(this.next() * below);
  }
}
