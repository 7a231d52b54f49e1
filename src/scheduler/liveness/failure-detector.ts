/**
 * Decides from silence alone whether a node still lives. Every message counts as life, and so does every byte of one that is
 * still on its way; nothing else does.
 *
 * | verdict | message arrives | silent suspectMs | silent deadMs |
 * | ------- | --------------- | ---------------- | ------------- |
 * | alive   | alive           | suspect          | dead          |
 * | suspect | alive           | suspect          | dead          |
 * | dead    | bug             | dead             | dead          |
 *
 * Silence is measured on the watcher's own monotonic clock. When the watcher itself was held up (its process stopped, its
 * machine asleep, its event loop busy) messages wait unread and every node looks silent at once; the time between two looks
 * beyond what was planned is therefore the watcher's own pause and is credited to all that it watches.
 *
 * Not handled: a node that sends and does no work. Attempts have deadlines of their own.
 */
import { assert } from "../../domain/assert.ts";

export type Verdict = "alive" | "suspect" | "dead";

export interface Pulse {
  readonly lastHeardMs: number;
  readonly verdict: Verdict;
}

/** When silence turns into a verdict; `LIVENESS` in domain/node.ts holds the grid's own. */
export interface SilenceBounds {
  readonly suspectMs: number;
  readonly deadMs: number;
}

/** A look that comes later than planned by less than this is ordinary scheduling noise, and is not credited. */
export const LOOK_NOISE_MS = 500;

export function bornPulse(nowMs: number): Pulse {
  return { lastHeardMs: nowMs, verdict: "alive" };
}

/** A message arrived: alive again, whatever was suspected. */
export function heard(pulse: Pulse, nowMs: number): Pulse {
  assert(pulse.verdict !== "dead", "a node that was given up is heard on a link of its own, with a pulse of its own");
  return { lastHeardMs: Math.max(pulse.lastHeardMs, nowMs), verdict: "alive" };
}

/** The verdict at `nowMs`. Calling it later or more often never makes a verdict better. */
export function judged(pulse: Pulse, nowMs: number, bounds: SilenceBounds): Pulse {
  const silentMs = nowMs - pulse.lastHeardMs;
  const verdict = silentMs >= bounds.deadMs ? "dead" : silentMs >= bounds.suspectMs ? "suspect" : "alive";
  return severity(verdict) > severity(pulse.verdict) ? { ...pulse, verdict } : pulse;
}

/** How much of the time since the last look was the watcher's own pause. */
export function ownPauseMs(look: { lastLookMs: number; nowMs: number; plannedMs: number }): number {
  const lateMs = look.nowMs - look.lastLookMs - look.plannedMs;
  return lateMs < LOOK_NOISE_MS ? 0 : lateMs;
}

/** Moves a pulse forward by the watcher's own pause, never past now. */
export function credited(pulse: Pulse, pausedMs: number, nowMs: number): Pulse {
  return pausedMs === 0 ? pulse : { ...pulse, lastHeardMs: Math.min(nowMs, pulse.lastHeardMs + pausedMs) };
}

function severity(verdict: Verdict): number {
  return verdict === "dead" ? 2 : verdict === "suspect" ? 1 : 0;
}
