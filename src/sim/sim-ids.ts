/** Ids whose time is virtual and whose rest is seeded: `<prefix>_<ULID>`, in the order in which they were made. */
import type { IdPrefix } from "../domain/ids.ts";
import type { Clock } from "../ports/clock.ts";
import type { Ids } from "../ports/ids.ts";
import type { SeededRandom } from "./time/random.ts";

const CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const TIME_DIGITS = 10;
const RANDOM_DIGITS = 16;
/** The upper random digits count the ids of one millisecond, so that they sort. */
const COUNTER_DIGITS = 4;

export class SimIds implements Ids {
  readonly #clock: Clock;
  readonly #random: SeededRandom;
  #lastMs = 0;
  #counter = 0;

  constructor(clock: Clock, random: SeededRandom) {
    this.#clock = clock;
    this.#random = random;
  }

  make(prefix: IdPrefix): string {
    const nowMs = Math.max(this.#lastMs, this.#clock.wallMs());
    this.#counter = nowMs === this.#lastMs ? this.#counter + 1 : 0;
    this.#lastMs = nowMs;
    let tail = "";
    for (let digit = 0; digit < RANDOM_DIGITS - COUNTER_DIGITS; digit++) tail += CROCKFORD[this.#random.between(0, 31)];
    return `${prefix}_${digits(nowMs, TIME_DIGITS)}${digits(this.#counter, COUNTER_DIGITS)}${tail}`;
  }
}

function digits(value: number, count: number): string {
  let text = "";
  for (let rest = value; text.length < count; rest = Math.floor(rest / 32)) text = CROCKFORD[rest % 32] + text;
  return text;
}
