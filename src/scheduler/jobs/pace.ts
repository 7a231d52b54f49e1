/** How fast a batch goes and when it will be through, by the lines of the last minutes. */
/** Older lines count half for each of these. */
const HALF_LIFE_MS = 60_000;
/** Before so much time has passed nothing is said. */
const MEASURED_MS = 2_000;

export interface Pace {
  readonly atMs: number;
  /** Both fade with time. */
  readonly lines: number;
  readonly ms: number;
}

export function startPace(nowMs: number): Pace {
  return { atMs: nowMs, lines: 0, ms: 0 };
}

export function stepPace(pace: Pace, now: { readonly nowMs: number; readonly lines: number }): Pace {
  const passedMs = Math.max(0, now.nowMs - pace.atMs);
  const kept = 0.5 ** (passedMs / HALF_LIFE_MS);
  return { atMs: now.nowMs, lines: pace.lines * kept + now.lines, ms: pace.ms * kept + passedMs };
}

/** Null while too little was seen. */
export function linesPerSecond(pace: Pace): number | null {
  return pace.ms < MEASURED_MS ? null : (pace.lines * 1_000) / pace.ms;
}

/** Null when nothing is known, or nothing moves. */
export function restMs(pace: Pace, linesLeft: number): number | null {
  const rate = linesPerSecond(pace);
  if (linesLeft === 0) return 0;
  return rate === null || rate === 0 ? null : (linesLeft * 1_000) / rate;
}
