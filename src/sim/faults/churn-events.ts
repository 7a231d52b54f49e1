/**
 * Machines that come and go by a pattern, as faults of the deterministic world: owners by the churn simulator's cohorts, with a week
 * pressed into half a minute, and spot machines by a measured series or, without one, by a generator of like stretches.
 */
import { OWNER_COHORTS, ownerAvailability } from "../churn/scenario/owner-availability.ts";
import type { SeededRandom } from "../time/random.ts";
import type { FaultEvent } from "./faults.ts";

/** One zone's capacity, tick by tick. */
export interface ChurnSeries {
  readonly isUp: readonly boolean[];
}

interface ChurnSpan {
  readonly nodes: number;
  readonly startMs: number;
  readonly faultsEndMs: number;
  readonly series: readonly ChurnSeries[];
}

const WEEK_MS = 7 * 86_400_000;
/** A week of an owner's life takes as long here. */
const PRESSED_WEEK_MS = 28_000;
/** An owner's hour is 0.17 s here: what is shorter than this is no visit. */
const VISIT_MS_MIN = 100;
/** One tick of a spot series takes as long here: its stretches of hours become seconds. */
const TICK_MS = 500;
/** Without a series: mean stretches of capacity and of none, in ticks. */
const UP_TICKS_MEAN = 20;
const DOWN_TICKS_MEAN = 8;

/** The owner sits at the machine wherever the cohort's availability has a gap. */
export function drawOwnerWeek(random: SeededRandom, span: ChurnSpan): readonly FaultEvent[] {
  const scale = PRESSED_WEEK_MS / WEEK_MS;
  const lifeMs = (span.faultsEndMs - span.startMs) / scale;
  return Array.from({ length: span.nodes }, (_, node) => node).flatMap((node) => {
    const own = random.fork(`owner/${node}`);
    const { intervals } = ownerAvailability({
      cohort: own.pick(OWNER_COHORTS),
      clock: { startHourOfWeekUtc: own.between(0, 167), zoneHours: 0 },
      span: { fromMs: 0, toMs: lifeMs },
      random: own,
      returnsFactor: 1,
    });
    return intervals.flatMap(({ toMs }, at): readonly FaultEvent[] => {
      const backMs = toMs * scale;
      const awayMs = (intervals[at + 1]?.fromMs ?? lifeMs) * scale;
      if (awayMs - backMs < VISIT_MS_MIN) return [];
      return [eventOf("owner-week", { node, atMs: span.startMs + backMs, durationMs: awayMs - backMs })];
    });
  });
}

/** A spot machine loses its power and its disk where its zone has no capacity. */
export function drawSpot(random: SeededRandom, span: ChurnSpan): readonly FaultEvent[] {
  const ticks = Math.floor((span.faultsEndMs - span.startMs) / TICK_MS);
  return Array.from({ length: span.nodes }, (_, node) => node).flatMap((node) => {
    const own = random.fork(`spot/${node}`);
    const isUp = span.series.length === 0 ? generated(own, ticks) : cutOf(own, own.pick(span.series), ticks);
    const events: FaultEvent[] = [];
    let downAt: number | null = null;
    for (let tick = 0; tick <= ticks; tick++) {
      const isHere = tick === ticks || isUp[tick] === true;
      if (!isHere && downAt === null) downAt = tick;
      if (!isHere || downAt === null) continue;
      const durationMs = (tick - downAt) * TICK_MS;
      events.push(eventOf("spot", { node, atMs: span.startMs + downAt * TICK_MS, durationMs }));
      downAt = null;
    }
    return events;
  });
}

function cutOf(random: SeededRandom, { isUp }: ChurnSeries, ticks: number): readonly boolean[] {
  const start = random.between(0, isUp.length - 1);
  return Array.from({ length: ticks }, (_, tick) => isUp[(start + tick) % isUp.length] === true);
}

function generated(random: SeededRandom, ticks: number): readonly boolean[] {
  const isUp: boolean[] = [];
  for (let isHere = random.chance(0.7); isUp.length < ticks; isHere = !isHere) {
    const stretch = Math.max(1, Math.round(random.gap(isHere ? UP_TICKS_MEAN : DOWN_TICKS_MEAN)));
    for (let tick = 0; tick < stretch; tick++) isUp.push(isHere);
  }
  return isUp;
}

function eventOf(
  kind: "owner-week" | "spot",
  of: { readonly node: number; readonly atMs: number; readonly durationMs: number },
): FaultEvent {
  return { kind, ...of, coin: true, stepMs: 0 };
}
