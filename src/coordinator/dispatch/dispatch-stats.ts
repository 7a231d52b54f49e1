/** Counted since the start, but for `running` and `waiting`. */
export interface DispatchStats {
  readonly running: number;
  readonly waiting: number;
  readonly started: number;
  readonly moved: number;
  readonly failed: number;
  /** Attempts that gave their slot to a priority request. */
  readonly preempted: number;
  /** Second attempts that gave the first token, and those that did not. */
  readonly hedgesWon: number;
  readonly hedgesLost: number;
  readonly breaches: number;
  readonly lateMessages: number;
}
