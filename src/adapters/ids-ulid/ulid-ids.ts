/** The Ids port: `<prefix>_<ULID>` from a clock and a generator; monotonic within the process even when the clock steps back. */
import { monotonicFactory } from "ulid";
import type { IdPrefix } from "../../domain/ids.ts";
import type { Clock } from "../../ports/clock.ts";
import type { Ids } from "../../ports/ids.ts";
import type { Random } from "../../ports/random.ts";

export class UlidIds implements Ids {
  readonly #clock: Clock;
  readonly #next: (timeMs: number) => string;

  constructor(ports: { clock: Clock; random: Random }) {
    this.#clock = ports.clock;
    this.#next = monotonicFactory(() => ports.random.fraction());
  }

  make(prefix: IdPrefix): string {
    return `${prefix}_${this.#next(Math.floor(this.#clock.wallMs()))}`;
  }
}
