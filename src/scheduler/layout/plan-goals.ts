/**
 * What a plan is for and what it may not do. Goals are weighed against each other in one score (layout-score.ts); rules are never
 * weighed: a plan keeps all of them or is refused.
 */

export interface PlanGoals {
  /**
   * Most generated tokens per second, or the shortest time of a request while the demand is served. `flow` is the raw maximum
   * flow, for comparison with published placements only: it knows no time, and its layouts serve worse.
   */
  readonly objective: "throughput" | "latency" | "flow";
  /** Generated tokens per second that are wanted; more is worth nothing. Null: as many as can be had. */
  readonly demandTokensPerSecond: number | null;
  /** For how long the plan should hold: the next time a plan is made at leisure. */
  readonly horizonHours: number;
  /** How much of the served value is lost when a layer loses its last holder, 0 to 1 (the reference's eta). */
  readonly lossAversion: number;
  /** What a generated token earns; sets prices and carbon against throughput. */
  readonly valueMicroUsdPerMtok: number;
  readonly carbonMicroUsdPerGram: number;
  /** Extra work per pass for checking answers, as a share. */
  readonly verificationShare: number;
}

export const DEFAULT_GOALS: PlanGoals = {
  objective: "throughput",
  demandTokensPerSecond: null,
  horizonHours: 1,
  lossAversion: 0.5,
  // About what a 70B model's output costs at an open endpoint, so that prices of nodes count as they would there.
  valueMicroUsdPerMtok: 700_000,
  // 100 USD per tonne, what the European trading scheme has asked for in recent years, to one digit.
  carbonMicroUsdPerGram: 100,
  verificationShare: 0,
};

export interface PlanRules {
  /** Null: every region, also nodes that name none. */
  readonly regionsAllowed: readonly string[] | null;
  readonly trustMin: number;
  readonly priceMicroUsdPerHourMax: number | null;
  /** Most nodes, and most wide-area links between nodes, on any way of a request. */
  readonly hopsMax: number | null;
  readonly slowHopsMax: number | null;
  /** Whether two replicas of a stage may never have the same owner or network; otherwise they only avoid it. */
  readonly isSharedDomainForbidden: boolean;
  /** Tokens of one request that each node must have KV room for; null: a mean request's. */
  readonly contextTokensMin: number | null;
  /** Whether a request may enter a node in the middle of its interval. */
  readonly isPartialAllowed: boolean;
}

export const DEFAULT_RULES: PlanRules = {
  regionsAllowed: null,
  trustMin: 0,
  priceMicroUsdPerHourMax: null,
  hopsMax: null,
  slowHopsMax: null,
  isSharedDomainForbidden: false,
  contextTokensMin: null,
  isPartialAllowed: false,
};
