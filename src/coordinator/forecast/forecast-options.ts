/** How often the forecast does what, and what a second and a gigabyte are worth to it. */
import type { StagingPrices } from "../../scheduler/forecast/staging-plan.ts";

export interface ForecastOptions {
  /** The time that nodes have stayed is counted, of all nodes once in so long, a part of them each `countTurnMs`. */
  readonly countMs: number;
  readonly countTurnMs: number;
  /** Forecasts are judged and new ones made for judging. */
  readonly askMs: number;
  /** What was learned is written. A killed coordinator loses at most this much of it. */
  readonly keepMs: number;
  /** Staging is planned. */
  readonly stageMs: number;
  /** Over which a copy has to be worth its bytes, and over which the planner asks whether nodes stay. */
  readonly horizonMs: number;
  /** Copies on their way at once, all nodes together: staging may take one connection's share of the uplink. */
  readonly stagingsMax: number;
  readonly prices: StagingPrices;
  /** Of a node whose speed nobody knows: 100 Mbit/s. */
  readonly fetchBytesPerSecond: number;
  /** An ordered copy that is not there after this many times its expected time has failed. */
  readonly stagingPatience: number;
  /** A pair of node and model whose copy failed is left alone for so long. */
  readonly stagingBackoffMs: number;
}

export const FORECAST_OPTIONS: ForecastOptions = {
  countMs: 60_000,
  countTurnMs: 5_000,
  askMs: 3_600_000,
  keepMs: 300_000,
  stageMs: 30_000,
  horizonMs: 3_600_000,
  stagingsMax: 1,
  // A second that somebody waits: a tenth of a cent. A gigabyte: a cent, as cheap egress costs.
  prices: { microUsdPerColdSecond: 1_000, microUsdPerGigabyte: 10_000 },
  fetchBytesPerSecond: 12_500_000,
  stagingPatience: 4,
  stagingBackoffMs: 1_800_000,
};
