/**
 * The table of scheduling.md section 6, made again: 13 single-GPU spot series; the first half of each is learned from, every tick
 * of the second half asks "is it up at each of the next floor(horizon / gap) ticks?", Brier score, mean over the series.
 */
import { HOUR_MS } from "../../../src/scheduler/forecast/life-table.ts";
import { SurvivalModel, type SurvivalNode } from "../../../src/scheduler/forecast/survival-model.ts";
import { Reliability, SurvivalScore } from "../../../src/scheduler/forecast/survival-score.ts";
import type { SpotSeries } from "./spot-series.ts";

/** Asks whether a node at this tick stays. */
type Predictor = (at: number, ticks: number) => number;

export interface Scored {
  readonly brier: number;
  readonly baseRate: number;
}

/** The model after the first halves, fed in the order of time, as a coordinator would be; and what its own score chose. */
export function learnFirstHalves(series: readonly SpotSeries[]): { model: SurvivalModel; score: SurvivalScore } {
  const model = new SurvivalModel();
  const score = new SurvivalScore(model);
  // The measurements of 2022 and 2023 do not overlap: each is played in its own time.
  for (const group of groupsByStart(series)) playGroup(group, model, score);
  return { model, score };
}

function playGroup(group: readonly SpotSeries[], model: SurvivalModel, score: SurvivalScore): void {
  const [first] = group;
  if (first === undefined) return;
  const middle = Math.floor(first.isUp.length / 2);
  let nextAskMs = first.startMs + HOUR_MS;
  for (let tick = 0; tick < middle; tick++) {
    const nowMs = first.startMs + tick * first.gapMs;
    for (const one of group) feed(model, one, tick);
    if (nowMs >= nextAskMs) {
      model.advance(nowMs);
      score.ask(nowMs);
      nextAskMs += HOUR_MS;
    }
  }
  const endMs = first.startMs + (middle - 1) * first.gapMs;
  model.advance(endMs);
  for (const one of group) {
    // The other group's time is another one: its nodes must not be counted on in it.
    model.observe(nodeOf(one), "unseen", endMs);
  }
}

function feed(model: SurvivalModel, one: SpotSeries, tick: number): void {
  const isUp = one.isUp[tick] === true;
  const was = tick > 0 && one.isUp[tick - 1] === true;
  if (isUp === was && tick > 0) return;
  model.observe(nodeOf(one), isUp ? "up" : "left", one.startMs + tick * one.gapMs);
}

export function nodeOf(one: SpotSeries): SurvivalNode {
  return { nodeId: one.name, cohort: one.cohort, utcOffsetMinutes: 0 };
}

/** One predictor of each series over its second half. */
export function scoreSecondHalves(
  series: readonly SpotSeries[],
  horizonHours: number,
  predictorOf: (one: SpotSeries) => Predictor,
  reliability: Reliability = new Reliability(),
): Scored {
  let brier = 0;
  let baseRate = 0;
  for (const one of series) {
    const predict = predictorOf(one);
    const ticks = Math.floor((horizonHours * HOUR_MS) / one.gapMs);
    const stays = outcomes(one, ticks);
    let squares = 0;
    let stayed = 0;
    const middle = Math.floor(one.isUp.length / 2);
    for (let at = middle; at < stays.length; at++) {
      const hasStayed = stays[at] === true;
      const chance = predict(at, ticks);
      reliability.add(chance, hasStayed);
      squares += (chance - (hasStayed ? 1 : 0)) ** 2;
      stayed += hasStayed ? 1 : 0;
    }
    brier += squares / (stays.length - middle) / series.length;
    baseRate += stayed / (stays.length - middle) / series.length;
  }
  return { brier, baseRate };
}

/** For each tick whose horizon lies within the series: up at all of the next ticks. */
export function outcomes(one: SpotSeries, ticks: number): readonly boolean[] {
  const stays: boolean[] = [];
  let upFor = 0;
  for (let at = one.isUp.length - 2; at >= 0; at--) {
    upFor = one.isUp[at + 1] === true ? upFor + 1 : 0;
    if (at < one.isUp.length - ticks) stays[at] = upFor >= ticks;
  }
  return stays;
}

export function climatology(one: SpotSeries, horizonHours: number): Predictor {
  const ticks = Math.floor((horizonHours * HOUR_MS) / one.gapMs);
  // Only what was decided before the middle was known there.
  const known = outcomes(one, ticks).slice(0, Math.floor(one.isUp.length / 2) - ticks);
  const mean = known.filter(Boolean).length / known.length;
  return () => mean;
}

export function persistence(one: SpotSeries): Predictor {
  return (at) => (one.isUp[at] === true ? 1 : 0);
}

/** The hazards as learned and then left alone; the age in state is that of the tick. */
export function survival(one: SpotSeries, core: SurvivalModel, isSeasonal: boolean): Predictor {
  // A model of one node that follows the series: what it counts stays apart from what was learned.
  const sinceMs = sinceTimes(one);
  const learned = [...core.rows()].find((row) => row.nodeId === one.name);
  const frozen = { core: core.core(), nodes: learned === undefined ? [] : [learned] };
  let upSince = Number.NaN;
  let model = new SurvivalModel(frozen);
  return (at, ticks) => {
    const since = sinceMs[at] ?? null;
    if (since === null || learned === undefined) return 0;
    if (since !== upSince) {
      upSince = since;
      const row = { ...learned, isUp: true, sinceMs: since, countedMs: since };
      model = new SurvivalModel({ core: frozen.core, nodes: [row] });
    }
    return model.stayChance(one.name, one.startMs + at * one.gapMs, ticks * one.gapMs, { isSeasonal });
  };
}

/** Since when it is up at each tick; null where it is down. */
function sinceTimes(one: SpotSeries): readonly (number | null)[] {
  let since: number | null = null;
  return one.isUp.map((isUp, tick) => {
    if (!isUp) since = null;
    else since ??= one.startMs + tick * one.gapMs;
    return since;
  });
}

function groupsByStart(series: readonly SpotSeries[]): readonly (readonly SpotSeries[])[] {
  const groups = new Map<number, SpotSeries[]>();
  for (const one of series) groups.set(one.startMs, [...(groups.get(one.startMs) ?? []), one]);
  return [...groups.values()];
}

/** Of the nodes that are up in the second halves, the share that left within the quantile told; those whose end is not in the series count out. */
export function lifeCoverage(series: readonly SpotSeries[], learned: SurvivalModel, quantile: number): number {
  let left = 0;
  let decided = 0;
  for (const one of series) {
    const row = [...learned.rows()].find(({ nodeId }) => nodeId === one.name);
    const sinceMs = sinceTimes(one);
    for (let at = Math.floor(one.isUp.length / 2); row !== undefined && at < one.isUp.length; at += LIFE_STEP_TICKS) {
      const since = sinceMs[at] ?? null;
      if (since === null) continue;
      const model = new SurvivalModel({
        core: learned.core(),
        nodes: [{ ...row, isUp: true, sinceMs: since, countedMs: since }],
      });
      const lifeMs = model.remainingLifeMs(one.name, one.startMs + at * one.gapMs, quantile);
      const endAt = one.isUp.indexOf(false, at);
      const seenMs = ((endAt < 0 ? one.isUp.length : endAt) - at) * one.gapMs;
      if (endAt < 0 && seenMs < lifeMs) continue;
      decided += 1;
      left += seenMs <= lifeMs ? 1 : 0;
    }
  }
  return left / decided;
}

/** Neighbouring ticks tell the same. */
const LIFE_STEP_TICKS = 20;
