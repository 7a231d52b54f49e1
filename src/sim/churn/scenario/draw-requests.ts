/**
 * The load of a run. With traces: lengths and the pattern of gaps of the Azure conversation trace, and which model is asked when by the
 * five most asked models of GenTD26, hour by hour; the mean rate is the run's own. Without: the same shapes from distributions with
 * like means, SYNTHETIC.
 */
import { SERVICE_TIERS, type ServiceTier } from "../../../domain/tier.ts";
import type { SeededRandom } from "../../time/random.ts";
import type { ChurnTraces, RequestLength } from "./churn-traces.ts";
import type { RequestDraw } from "./scenario.ts";

const HOUR_MS = 3_600_000;
/** Longest context that a run has: what a stage's reserve is sized for. Longer prompts of the trace are cut to it. */
export const PROMPT_TOKENS_MAX = 4_096;
export const OUTPUT_TOKENS_MAX = 1_000;
/** Requests that a run may draw; more is a mistake in its options. */
export const REQUESTS_MAX = 2_000_000;
const TIER_SHARES: Readonly<Record<ServiceTier, number>> = { priority: 0.2, default: 0.6, flex: 0.2 };
/** The hour's share of the day's load lies within these: the trace's own hours go from 0 to 6 times the mean. */
const HOUR_FACTOR_MIN = 0.4;
const HOUR_FACTOR_MAX = 2;
/** An hour's popularity is smoothed by as many requests of the whole trace's. */
const POPULARITY_PSEUDO_COUNT = 10;
/** Gaps of the trace are replayed from a drawn place on; no gap is longer than so many means, or a night of the trace would be one. */
const GAP_MAX = 50;
/** Without a trace: Zipf's exponent of popularity, and means and spread of lengths like those of the Azure conversations. */
const ZIPF_EXPONENT = 1;
const PROMPT_MEDIAN = 1_000;
const OUTPUT_MEDIAN = 140;
const LENGTH_SIGMA = 0.9;

interface HourDemand {
  /** 1 is the mean hour. */
  readonly factor: number;
  /** Cumulative shares of the models. */
  readonly cumulative: readonly number[];
}

export function drawRequests(options: {
  readonly random: SeededRandom;
  readonly endMs: number;
  readonly requestsPerHour: number;
  readonly models: number;
  readonly traces: ChurnTraces | null;
}): readonly RequestDraw[] {
  const { endMs, requestsPerHour, traces, models } = options;
  const random = options.random.fork("arrivals");
  const hours = hourDemands(options.random.fork("hours"), { hours: Math.ceil(endMs / HOUR_MS), models, traces });
  const gap = gapSource(random, traces);
  const length = lengthSource(options.random.fork("lengths"), traces);
  const requests: RequestDraw[] = [];
  let atMs = 0;
  while (requests.length < REQUESTS_MAX) {
    const hour = hours[Math.min(hours.length - 1, Math.floor(atMs / HOUR_MS))];
    const rate = (requestsPerHour * (hour?.factor ?? 1)) / HOUR_MS;
    atMs += gap() / rate;
    if (atMs >= endMs) break;
    const { promptTokens, outputTokens } = length();
    requests.push({
      atMs,
      model: pickBy(random.fraction(), hour?.cumulative ?? [1]),
      tier: drawTier(random),
      promptTokens: Math.min(PROMPT_TOKENS_MAX, promptTokens),
      outputTokens: Math.min(OUTPUT_TOKENS_MAX, outputTokens),
    });
  }
  return requests;
}

function drawTier(random: SeededRandom): ServiceTier {
  let left = random.fraction();
  for (const tier of SERVICE_TIERS) {
    left -= TIER_SHARES[tier];
    if (left < 0) return tier;
  }
  return "default";
}

function pickBy(fraction: number, cumulative: readonly number[]): number {
  const at = cumulative.findIndex((sum) => fraction < sum);
  return at < 0 ? cumulative.length - 1 : at;
}

function hourDemands(
  random: SeededRandom,
  of: { readonly hours: number; readonly models: number; readonly traces: ChurnTraces | null },
): readonly HourDemand[] {
  const counts = of.traces?.popularity.countsByHour ?? null;
  if (counts === null) {
    const zipf = cumulativeOf(Array.from({ length: of.models }, (_, rank) => (rank + 1) ** -ZIPF_EXPONENT));
    return Array.from({ length: of.hours }, () => ({ factor: 1, cumulative: zipf }));
  }
  const top = counts.map((row) => Array.from({ length: of.models }, (_, rank) => row[rank] ?? 0));
  const overall = Array.from({ length: of.models }, (_, rank) => sum(top.map((row) => row[rank] ?? 0)));
  const overallSum = sum(overall);
  // A place in the trace from which the run's hours fit; a run longer than the trace goes round.
  const start = random.between(0, Math.max(0, top.length - of.hours));
  const window = Array.from({ length: of.hours }, (_, hour) => top[(start + hour) % top.length] ?? []);
  const mean = Math.max(1, sum(window.map(sum)) / of.hours);
  const raw = window.map((row) => Math.min(HOUR_FACTOR_MAX, Math.max(HOUR_FACTOR_MIN, sum(row) / mean)));
  const rawMean = sum(raw) / raw.length;
  return window.map((row, hour) => ({
    factor: (raw[hour] ?? 1) / rawMean,
    cumulative: cumulativeOf(
      row.map((count, rank) => count + (POPULARITY_PSEUDO_COUNT * (overall[rank] ?? 0)) / overallSum),
    ),
  }));
}

function cumulativeOf(weights: readonly number[]): readonly number[] {
  const total = sum(weights);
  let before = 0;
  return weights.map((weight) => {
    before += weight / total;
    return before;
  });
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}

/** Gaps with mean 1, in the trace's order: its bursts stay bursts. */
function gapSource(random: SeededRandom, traces: ChurnTraces | null): () => number {
  if (traces === null) return () => random.gap(1);
  const mean = sum(traces.gapsMs) / traces.gapsMs.length;
  const gaps = traces.gapsMs.map((gapMs) => Math.min(GAP_MAX, gapMs / mean));
  const scale = gaps.length / sum(gaps);
  let at = random.between(0, gaps.length - 1);
  return () => {
    at = (at + 1) % gaps.length;
    return (gaps[at] ?? 1) * scale;
  };
}

function lengthSource(random: SeededRandom, traces: ChurnTraces | null): () => RequestLength {
  if (traces !== null) return () => random.pick(traces.lengths);
  const logNormal = (median: number) => Math.max(1, Math.round(median * Math.exp(LENGTH_SIGMA * normal(random))));
  return () => ({ promptTokens: logNormal(PROMPT_MEDIAN), outputTokens: logNormal(OUTPUT_MEDIAN) });
}

/** Box and Muller. */
function normal(random: SeededRandom): number {
  return Math.sqrt(-2 * Math.log(1 - random.fraction())) * Math.cos(2 * Math.PI * random.fraction());
}
