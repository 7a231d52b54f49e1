/** When a machine is there for the grid. Times are ms from the start of the run; what lies before 0 is history to learn from. */

/** There from `fromMs` to before `toMs`. */
export interface UpInterval {
  readonly fromMs: number;
  readonly toMs: number;
  /** How it ends: the owner takes the machine back (told at once), or it vanishes (noticed after the silence bound). */
  readonly end: "owner" | "vanished";
}

export interface Availability {
  /** Ascending, apart from each other. */
  readonly intervals: readonly UpInterval[];
  /** What was fetched stays on the disk over a time away: an owner's machine. A spot machine comes back empty. */
  readonly keepsDisk: boolean;
}

export interface Span {
  readonly fromMs: number;
  readonly toMs: number;
}

/** Share of the span in which the machine is there. */
export function upShare(intervals: readonly UpInterval[], span: Span): number {
  let upMs = 0;
  for (const { fromMs, toMs } of intervals) {
    upMs += Math.max(0, Math.min(toMs, span.toMs) - Math.max(fromMs, span.fromMs));
  }
  return upMs / (span.toMs - span.fromMs);
}
