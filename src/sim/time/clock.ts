/**
 * A host's clocks. The monotonic one drifts by a constant rate and never steps; the wall clock may also jump either way.
 * Code under test that measures a duration on the wall clock, or compares two hosts' clocks, gets caught by this.
 */
import { assert } from "../../domain/assert.ts";
import type { Clock, Timer } from "../../ports/clock.ts";
import type { Host } from "./host.ts";

/** Where virtual time 0 lies: 2026-01-01T00:00:00Z. */
export const EPOCH_WALL_MS = Date.UTC(2026, 0, 1);

export interface ClockFaults {
  /** Local milliseconds per true millisecond: 1.0002 runs 200 ppm fast. */
  readonly rate: number;
  /** Where the monotonic clock stood at true time 0. */
  readonly monoOffsetMs: number;
  readonly wallOffsetMs: number;
}

export const PERFECT_CLOCK: ClockFaults = { rate: 1, monoOffsetMs: 0, wallOffsetMs: 0 };

export class SimClock implements Clock {
  readonly #host: Host;
  readonly #faults: ClockFaults;
  #wallStepMs = 0;

  constructor(host: Host, faults: ClockFaults = PERFECT_CLOCK) {
    assert(faults.rate > 0, `${faults.rate} moves the clock forward`);
    this.#host = host;
    this.#faults = faults;
  }

  monoMs(): number {
    return this.#faults.monoOffsetMs + this.#host.timeline.nowMs * this.#faults.rate;
  }

  /** Whole milliseconds, as `Date.now` gives. */
  wallMs(): number {
    const trueMs = this.#host.timeline.nowMs * this.#faults.rate;
    return Math.floor(EPOCH_WALL_MS + this.#faults.wallOffsetMs + this.#wallStepMs + trueMs);
  }

  setTimer(delayMs: number, fire: () => void): Timer {
    return this.#host.after(Math.max(0, delayMs) / this.#faults.rate, fire);
  }

  /** The operator or NTP sets the wall clock; the monotonic one goes on. */
  stepWall(byMs: number): void {
    this.#wallStepMs += byMs;
  }
}
