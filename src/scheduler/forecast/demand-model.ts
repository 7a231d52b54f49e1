/**
 * How many requests for a model come from a region in the next hours. For each pair a level: the mean of its hourly counts, those of
 * two hours ago weighing half. Times the factor of the coming hour, shared by all pairs: what that hour of the week brought over what
 * the levels before it let expect, shrunk to its hour of the day and that to 1. The spread around it is a negative binomial's, whose
 * one parameter is learned from how far past forecasts were off: requests come in bursts, so a Poisson's would be too narrow.
 *
 * This is the simplest rule that beat the seasonal-naive forecast on the model-request trace (docs/forecast.md); longer memories
 * and levels cleaned of their season were worse.
 */
import { HOUR_MS, rounded } from "./life-table.ts";
import { HOURS_PER_DAY, HOURS_PER_WEEK, hourOfWeek } from "./season.ts";

const HALF_LIFE_HOURS = 2;
const KEEP = 0.5 ** (1 / HALF_LIFE_HOURS);
/** Three half-lives: a level that began at nothing lacks an eighth. */
const SETTLED_HOURS = 6;
/** Requests as if seen exactly as expected. */
const PSEUDO_REQUESTS = 20;
/** Of the season and the spread, each hour: what was six weeks ago counts half. */
const FADE = 0.5 ** (1 / (42 * HOURS_PER_DAY));
/** Pairs followed; the one that is asked for least gives up its place. */
export const PAIRS_MAX = 4_096;
/** Less than a request in a thousand hours: forgotten. */
const LEVEL_MIN = 1e-3;
/** After a longer silence nothing of a level is left. */
const HOURS_CAUGHT_UP_MAX = 200;
/** No forecast looks farther. */
export const DEMAND_HORIZON_MS_MAX = 7 * HOURS_PER_DAY * HOUR_MS;

export interface DemandPair {
  readonly modelId: string;
  /** Empty where it is not known. */
  readonly region: string;
}

interface Followed extends DemandPair {
  level: number;
  /** Hours that it was followed for, up to the time after which its level owes nothing to how it began. */
  hours: number;
  /** Requests of the hour that runs. */
  count: number;
}

export interface DemandSnapshot {
  readonly hour: number;
  readonly pairs: readonly Followed[];
  readonly seen: readonly number[];
  readonly due: readonly number[];
  readonly excess: number;
  readonly squares: number;
}

export class DemandModel {
  readonly #pairs = new Map<string, Followed>();
  /** By hour of the week: requests that came, and those that the levels let expect. */
  readonly #seen: number[];
  readonly #due: number[];
  /** Sums of (count - forecast)^2 - forecast and of forecast^2: their ratio is the spread beyond a Poisson's. */
  #excess = 0;
  #squares = 0;
  /** Hours since 1970 of the hour that runs; null before the first event. */
  #hour: number | null = null;

  constructor(kept: DemandSnapshot | null = null) {
    this.#seen = kept === null ? new Array<number>(HOURS_PER_WEEK).fill(0) : [...kept.seen];
    this.#due = kept === null ? new Array<number>(HOURS_PER_WEEK).fill(0) : [...kept.due];
    if (kept === null) return;
    this.#hour = kept.hour;
    this.#excess = kept.excess;
    this.#squares = kept.squares;
    for (const pair of kept.pairs.slice(0, PAIRS_MAX)) this.#pairs.set(keyOf(pair), { ...pair });
  }

  /** A request came. Times ascend; one from before the hour that runs counts in it. */
  take(pair: DemandPair, atMs: number): void {
    this.advance(atMs);
    const key = keyOf(pair);
    const followed = this.#pairs.get(key);
    if (followed !== undefined) {
      followed.count += 1;
      return;
    }
    if (this.#pairs.size >= PAIRS_MAX) this.#forgetLeast();
    this.#pairs.set(key, { modelId: pair.modelId, region: pair.region, level: 0, hours: 0, count: 1 });
  }

  /** Closes the hours that are over. */
  advance(nowMs: number): void {
    const hour = Math.floor(nowMs / HOUR_MS);
    this.#hour ??= hour;
    this.#hour = Math.max(this.#hour, hour - HOURS_CAUGHT_UP_MAX);
    for (; this.#hour < hour; this.#hour++) this.#close(this.#hour);
  }

  /** Requests to expect from now to the end of the horizon. */
  expected(pair: DemandPair, nowMs: number, horizonMs: number): number {
    const level = this.#pairs.get(keyOf(pair))?.level ?? 0;
    return level * this.#factorHours(nowMs, horizonMs);
  }

  /** Sum over a model's regions. */
  expectedOfModel(modelId: string, nowMs: number, horizonMs: number): number {
    let level = 0;
    for (const pair of this.#pairs.values()) if (pair.modelId === modelId) level += pair.level;
    return level * this.#factorHours(nowMs, horizonMs);
  }

  /** The number of requests that is not exceeded with this chance. */
  quantile(pair: DemandPair, nowMs: number, horizonMs: number, chance: number): number {
    const mean = this.expected(pair, nowMs, horizonMs);
    return countQuantile(mean, this.#spread(), chance);
  }

  /** Chance that more than `inService` of its requests are served at one moment, when each takes `serviceMs`. */
  crowdChance(modelId: string, nowMs: number, question: { inService: number; serviceMs: number }): number {
    const mean = this.expectedOfModel(modelId, nowMs, question.serviceMs);
    return 1 - countChance(mean, this.#spread(), question.inService);
  }

  /** Whether the pair was followed for so long that its level is its own. */
  isSettled(pair: DemandPair): boolean {
    return (this.#pairs.get(keyOf(pair))?.hours ?? 0) >= SETTLED_HOURS;
  }

  /** In the order in which they were first asked for. */
  pairs(): readonly DemandPair[] {
    return [...this.#pairs.values()].map(({ modelId, region }) => ({ modelId, region }));
  }

  snapshot(): DemandSnapshot {
    return {
      hour: this.#hour ?? 0,
      pairs: [...this.#pairs.values()].map((pair) => ({ ...pair, level: rounded(pair.level) })),
      seen: this.#seen.map(rounded),
      due: this.#due.map(rounded),
      excess: rounded(this.#excess),
      squares: rounded(this.#squares),
    };
  }

  #spread(): number {
    return this.#squares > 0 ? Math.max(0, this.#excess / this.#squares) : 0;
  }

  /** Hours of the horizon, each weighing its factor. */
  #factorHours(nowMs: number, horizonMs: number): number {
    const endMs = nowMs + Math.min(Math.max(0, horizonMs), DEMAND_HORIZON_MS_MAX);
    let hours = 0;
    for (let atMs = nowMs; atMs < endMs; ) {
      const nextMs = Math.min(endMs, (Math.floor(atMs / HOUR_MS) + 1) * HOUR_MS);
      hours += (this.#factor(hourOfWeek(atMs, 0)) * (nextMs - atMs)) / HOUR_MS;
      atMs = nextMs;
    }
    return hours;
  }

  #factor(hour: number): number {
    let seen = PSEUDO_REQUESTS;
    let due = PSEUDO_REQUESTS;
    for (let at = hour % HOURS_PER_DAY; at < HOURS_PER_WEEK; at += HOURS_PER_DAY) {
      seen += this.#seen[at] ?? 0;
      due += this.#due[at] ?? 0;
    }
    const daily = seen / due;
    const weekly = (this.#seen[hour] ?? 0) + PSEUDO_REQUESTS * WEEKLY_PSEUDO_SHARE * daily;
    return weekly / ((this.#due[hour] ?? 0) + PSEUDO_REQUESTS * WEEKLY_PSEUDO_SHARE);
  }

  #close(hour: number): void {
    const cell = hourOfWeek(hour * HOUR_MS, 0);
    const factor = this.#factor(cell);
    for (const list of [this.#seen, this.#due])
      for (let at = 0; at < list.length; at++) list[at] = (list[at] ?? 0) * FADE;
    this.#excess *= FADE;
    this.#squares *= FADE;
    for (const [key, pair] of this.#pairs) {
      // What begins was expected by nobody: that says nothing of the hour.
      if (pair.hours >= SETTLED_HOURS) this.#learn(pair, cell, factor);
      else pair.hours += 1;
      pair.level = KEEP * pair.level + (1 - KEEP) * pair.count;
      pair.count = 0;
      if (pair.level < LEVEL_MIN) this.#pairs.delete(key);
    }
  }

  #learn({ count, level }: Followed, cell: number, factor: number): void {
    const forecast = level * factor;
    this.#seen[cell] = (this.#seen[cell] ?? 0) + count;
    this.#due[cell] = (this.#due[cell] ?? 0) + level;
    this.#excess += (count - forecast) ** 2 - forecast;
    this.#squares += forecast ** 2;
  }

  #forgetLeast(): void {
    let least: { readonly key: string; readonly level: number } | null = null;
    for (const [key, { level, count }] of this.#pairs) {
      if (least === null || level + count < least.level) least = { key, level: level + count };
    }
    if (least !== null) this.#pairs.delete(least.key);
  }
}

/** A single hour of the week is believed ten times more slowly than an hour of the day. */
const WEEKLY_PSEUDO_SHARE = 10;
/** No quantile is looked for beyond. */
const COUNT_MAX = 100_000;

/** Of a negative binomial with variance mean + spread * mean^2; a Poisson when the spread is 0. */
export function countQuantile(mean: number, spread: number, chance: number): number {
  let count = 0;
  for (const sum of chancesUpTo(mean, spread)) {
    if (sum >= chance) break;
    count++;
  }
  return count;
}

/** That the same distribution gives no more than this. */
export function countChance(mean: number, spread: number, count: number): number {
  let at = 0;
  for (const sum of chancesUpTo(mean, spread)) if (at++ >= count) return Math.min(1, sum);
  return 1;
}

/** Of 0, of at most 1, of at most 2 … */
function* chancesUpTo(mean: number, spread: number): Iterable<number> {
  const size = spread > 1e-9 ? 1 / spread : 1e9;
  // In logarithms: the chance of no request at all is below the smallest float for large means.
  let logTerm = -size * Math.log1p(Math.max(0, mean) / size);
  let sum = 0;
  for (let count = 0; count < COUNT_MAX; count++) {
    sum += Math.exp(logTerm);
    yield sum;
    if (mean <= 0) return;
    logTerm += Math.log(((count + size) / (count + 1)) * (mean / (size + mean)));
  }
}

function keyOf({ modelId, region }: DemandPair): string {
  return `${region} ${modelId}`;
}
