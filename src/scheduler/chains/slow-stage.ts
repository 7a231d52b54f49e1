/**
 * Tells a stage that became slow from a chain that has more to do. A stage is compared with the best that it did itself (unequal machines are not slow for
 * being small), and how much slower it became with how much slower the others became in the same time (longer contexts make all of them slower).
 *
 * | a stage's decode of one token takes                     | and that of the others, in the median | for           | it is |
 * | -------------------------------------------------------- | -------------------------------------- | ------------- | ----- |
 * | `SLOWER_TIMES` as long as at its best, or more           | became slower half as much at most     | `SLOW_FOR_MS` | slow  |
 * | less                                                     | -                                      | -             | not   |
 *
 * Stages tell of themselves; who tells too little is replaced by nobody and gains nothing by it. Not seen: a stage that was slow from its first token on. That
 * one is looked at beside other nodes as all are (better-stage.ts).
 */
export interface StagePace {
  /** Of one token, at its best; it rises slowly, so that what is long past counts less. */
  readonly bestSeconds: number;
  /** Smoothed over some reports: a machine that does other things now and then is not slow. */
  readonly seconds: number;
  readonly reports: number;
  readonly heardAtMs: number;
  readonly slowSinceMs: number | null;
}

export const SLOWER_TIMES = 3;
/** Of what it became slower itself, the others may have as much. */
const OTHERS_SHARE = 0.5;
export const SLOW_FOR_MS = 4_000;
/** The first ones include what happens once: caches, clocks. */
const REPORTS_MIN = 3;
/** Each report, about a second: twice as long after ten minutes. */
const BEST_RISE = 1.0012;
/** Weight of the newest report. */
const NEWEST = 0.3;
/** A stage that told of no new decode for so long does nothing. */
const IDLE_MS = 4_000;

/** A stage that decoded since its last report. */
export function afterPaceReport(
  pace: StagePace | null,
  { seconds: told, nowMs }: { readonly seconds: number; readonly nowMs: number },
): StagePace {
  if (pace === null) return { bestSeconds: told, seconds: told, reports: 1, heardAtMs: nowMs, slowSinceMs: null };
  const seconds = pace.seconds + NEWEST * (told - pace.seconds);
  const bestSeconds = Math.min(pace.bestSeconds * BEST_RISE, seconds);
  const isSlower = isPossible(pace.reports) && seconds >= SLOWER_TIMES * bestSeconds;
  const slowSinceMs = isSlower ? (pace.slowSinceMs ?? nowMs) : null;
  return { bestSeconds, seconds, reports: pace.reports + 1, heardAtMs: nowMs, slowSinceMs };
}

/** Which of a chain's stages became slow, in their order; null when none did. Null for a stage: nothing is known of it. */
export function slowStage(paces: readonly (StagePace | null)[], nowMs: number): number | null {
  let worst: { readonly at: number; readonly times: number } | null = null;
  for (const [at, pace] of paces.entries()) {
    if (pace === null || pace.slowSinceMs === null) continue;
    if (nowMs - pace.slowSinceMs < SLOW_FOR_MS || nowMs - pace.heardAtMs >= IDLE_MS) continue;
    const times = slowerTimes(pace);
    const others = paces.flatMap((other, index) => (other === null || index === at ? [] : [slowerTimes(other)]));
    if (times < SLOWER_TIMES || medianOf(others) > times * OTHERS_SHARE) continue;
    if (worst === null || times > worst.times) worst = { at, times };
  }
  return worst?.at ?? null;
}

function isPossible(reports: number): boolean {
  return reports >= REPORTS_MIN;
}

function slowerTimes({ seconds, bestSeconds }: StagePace): number {
  return seconds / bestSeconds;
}

/** The lower one of two. */
function medianOf(numbers: readonly number[]): number {
  const sorted = [...numbers].sort((a, b) => a - b);
  return sorted[Math.floor((sorted.length - 1) / 2)] ?? 0;
}
