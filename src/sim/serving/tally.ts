/** What a run counts inside its window, and percentiles of it. */
const FIRST_SAMPLES = 4096;

/** A growing list of seconds. */
export class Samples {
  #values = new Float64Array(FIRST_SAMPLES);
  #length = 0;

  add(value: number): void {
    if (this.#length === this.#values.length) {
      const values = new Float64Array(2 * this.#values.length);
      values.set(this.#values);
      this.#values = values;
    }
    this.#values[this.#length] = value;
    this.#length += 1;
  }

  /** Ascending. */
  sorted(): Float64Array {
    return this.#values.slice(0, this.#length).sort();
  }
}

/** The value below which the share lies, of an ascending list; null when it is empty. */
export function quantile(sorted: Float64Array, share: number): number | null {
  if (sorted.length === 0) return null;
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? null;
}
