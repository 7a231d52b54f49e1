/** How late packets were delivered: counts in steps of 10 us, so that noting one costs nothing. */
import type { EmulatorCounters } from "../emulator-messages.ts";

const STEP_US = 10;
/** Up to 20 ms; later ones share the last step, and the largest is kept apart. */
const STEPS = 2_000;
const US_PER_MS = 1_000;

export class Lateness {
  readonly #counts: Float64Array = new Float64Array(STEPS);
  #count = 0;
  #sumUs = 0;
  #maxUs = 0;

  note(lateMs: number): void {
    const lateUs = Math.max(0, lateMs * US_PER_MS);
    const step = Math.min(STEPS - 1, Math.floor(lateUs / STEP_US));
    this.#counts[step] = (this.#counts[step] ?? 0) + 1;
    this.#count++;
    this.#sumUs += lateUs;
    this.#maxUs = Math.max(this.#maxUs, lateUs);
  }

  figures(): EmulatorCounters["late"] {
    return {
      meanUs: this.#count === 0 ? 0 : Math.round(this.#sumUs / this.#count),
      p50Us: this.#quantileUs(0.5),
      p99Us: this.#quantileUs(0.99),
      maxUs: Math.round(this.#maxUs),
    };
  }

  /** The upper end of the step that holds this share of the packets. */
  #quantileUs(share: number): number {
    let seen = 0;
    for (let step = 0; step < STEPS; step++) {
      seen += this.#counts[step] ?? 0;
      if (seen >= share * this.#count) return this.#count === 0 ? 0 : (step + 1) * STEP_US;
    }
    return STEPS * STEP_US;
  }
}
