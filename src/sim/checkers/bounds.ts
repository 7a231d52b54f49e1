/** Law 6: everything has a bound. What waits anywhere is measured after every event and held against what was promised. */
import type { Checker, Report } from "../observation.ts";

export interface Gauge {
  readonly name: string;
  /** Null while there is nothing to measure. */
  readonly read: () => number | null;
  readonly most: number;
}

export class BoundChecker implements Checker {
  readonly name = "bounds";
  readonly #report: Report;
  readonly #gauges: readonly Gauge[];
  readonly #highest = new Map<string, number>();

  constructor(options: { report: Report; gauges: readonly Gauge[] }) {
    this.#report = options.report;
    this.#gauges = options.gauges;
  }

  observe(): void {
    // What is bounded is state, not events.
  }

  afterEvent(): void {
    for (const gauge of this.#gauges) {
      const value = gauge.read();
      if (value === null) continue;
      const before = this.#highest.get(gauge.name) ?? 0;
      if (value <= before) continue;
      this.#highest.set(gauge.name, value);
      if (value > gauge.most && before <= gauge.most) {
        this.#report({ law: 6, what: `${gauge.name} is ${value}, at most ${gauge.most}` });
      }
    }
  }

  /** The highest value of each gauge. */
  highest(): Readonly<Record<string, number>> {
    return Object.fromEntries(this.#highest);
  }
}
