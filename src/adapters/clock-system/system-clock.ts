/** The Clock port on the machine's clocks. */
import type { Clock, Timer } from "../../ports/clock.ts";

/** setTimeout takes a signed 32-bit delay and fires at once beyond it: longer waits go in steps. */
const STEP_MS_MAX = 2 ** 31 - 1;

export class SystemClock implements Clock {
  monoMs(): number {
    return performance.now();
  }

  wallMs(): number {
    return Date.now();
  }

  setTimer(delayMs: number, fire: () => void): Timer {
    const endMs = performance.now() + delayMs;
    let handle: NodeJS.Timeout | null = null;
    const arm = () => {
      const leftMs = endMs - performance.now();
      // A timer of the system may fire a fraction of a millisecond early by this clock.
      if (leftMs <= 0 && handle !== null) return fire();
      handle = setTimeout(arm, Math.min(Math.ceil(Math.max(0, leftMs)), STEP_MS_MAX));
      handle.unref();
    };
    arm();
    return { cancel: () => clearTimeout(handle ?? undefined) };
  }
}
