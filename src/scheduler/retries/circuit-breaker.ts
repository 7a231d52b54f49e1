/**
 * Keeps requests away from a service that fails, and lets one through from time to time to see whether it is back (Nygard, "Release It!").
 *
 * | state     | success        | failure                          | its time is over | a request comes        |
 * | --------- | -------------- | -------------------------------- | ---------------- | ---------------------- |
 * | closed    | closed, from 0 | open after `FAILURES_TO_OPEN`    | -                | goes                   |
 * | open      | ignored: late  | ignored: late                    | half-open        | is turned away         |
 * | half-open | closed         | open, twice as long              | -                | one goes, others do not |
 *
 * A failure that time does not mend (a wrong key, a bad certificate) opens at the first.
 */
export const FAILURES_TO_OPEN = 3;
export const OPEN_MS_FIRST = 5_000;
/** Of a failure that somebody has to mend. */
export const OPEN_MS_LASTING = 30_000;
export const OPEN_MS_MAX = 300_000;

export type Breaker =
  | { readonly state: "closed"; readonly failures: number }
  | { readonly state: "open"; readonly untilMs: number; readonly openMs: number; readonly why: string }
  | { readonly state: "half-open"; readonly openMs: number; readonly why: string; readonly isTried: boolean };

export const BREAKER_CLOSED: Breaker = { state: "closed", failures: 0 };

/** The breaker as time makes it. */
export function breakerAt(breaker: Breaker, nowMs: number): Breaker {
  if (breaker.state !== "open" || nowMs < breaker.untilMs) return breaker;
  return { state: "half-open", openMs: breaker.openMs, why: breaker.why, isTried: false };
}

/** Whether a request may go now. */
export function mayGo(breaker: Breaker): boolean {
  return breaker.state === "closed" || (breaker.state === "half-open" && !breaker.isTried);
}

/** A request goes; only after `mayGo`. */
export function afterStart(breaker: Breaker): Breaker {
  return breaker.state === "half-open" ? { ...breaker, isTried: true } : breaker;
}

/** A request ended and told nothing of the service: cancelled, or refused for its own sake. */
export function afterNothing(breaker: Breaker): Breaker {
  return breaker.state === "half-open" ? { ...breaker, isTried: false } : breaker;
}

export function afterSuccess(breaker: Breaker): Breaker {
  return breaker.state === "open" ? breaker : BREAKER_CLOSED;
}

export function afterFailure(
  breaker: Breaker,
  failure: { readonly why: string; readonly isLasting: boolean; readonly nowMs: number },
): Breaker {
  const { why, isLasting, nowMs } = failure;
  const firstMs = isLasting ? OPEN_MS_LASTING : OPEN_MS_FIRST;
  switch (breaker.state) {
    case "open":
      return breaker;
    case "half-open":
      return opened(Math.min(OPEN_MS_MAX, Math.max(firstMs, breaker.openMs * 2)), { why, nowMs });
    case "closed": {
      const failures = breaker.failures + 1;
      return isLasting || failures >= FAILURES_TO_OPEN
        ? opened(firstMs, { why, nowMs })
        : { state: "closed", failures };
    }
  }
}

function opened(openMs: number, { why, nowMs }: { why: string; nowMs: number }): Breaker {
  return { state: "open", untilMs: nowMs + openMs, openMs, why };
}
