/** The measured series that a churn run replays, as values: whoever has a trace folder reads it with `read-churn-traces.ts`. */

/** One zone's spot capacity: up where the source counted at least one machine. */
export interface SpotSeries {
  readonly name: string;
  readonly gapMs: number;
  readonly isUp: readonly boolean[];
}

export interface RequestLength {
  readonly promptTokens: number;
  readonly outputTokens: number;
}

/** Which model was asked when: ranks are by how often a model was asked in the whole trace, 0 the most. */
export interface PopularityTrace {
  /** Requests of each rank in each hour from the start of the trace: `countsByHour[hour][rank]`. */
  readonly countsByHour: readonly (readonly number[])[];
}

export interface RegionTable {
  readonly names: readonly string[];
  /** Round trips, `rttMs[from][to]`. */
  readonly rttMs: readonly (readonly number[])[];
}

export interface ChurnTraces {
  readonly spot: readonly SpotSeries[];
  readonly lengths: readonly RequestLength[];
  /** Gaps between arrivals, in ms, in the order of the trace: only their pattern is used. */
  readonly gapsMs: readonly number[];
  readonly popularity: PopularityTrace;
  readonly regions: RegionTable;
}
