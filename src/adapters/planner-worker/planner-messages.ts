/** What goes between a planner and its thread. */
export interface PlannerCall {
  readonly id: number;
  readonly question: unknown;
}

export interface PlannerAnswer {
  readonly id: number;
  readonly plan: unknown;
  /** What went wrong, on one line; null when nothing did. */
  readonly fault: string | null;
}
