/** The median of the last values: what a provider usually takes, whatever a single answer took. */
const KEPT_MAX = 32;

export class RecentMedian {
  readonly #values: number[] = [];

  add(value: number): void {
    this.#values.push(value);
    if (this.#values.length > KEPT_MAX) this.#values.shift();
  }

  /** The lower one of two in the middle; null before the first value. */
  value(): number | null {
    const sorted = [...this.#values].sort((left, right) => left - right);
    return sorted[Math.floor((sorted.length - 1) / 2)] ?? null;
  }
}
