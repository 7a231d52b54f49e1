/**
 * When owners leave their machines: a parametric generator, SYNTHETIC, since no trace of desktop owners was found. A cohort has busy
 * times by day of the week in the owner's own time zone, with jitter; a machine that is left is switched off with some chance; and
 * into the idle time fall short returns at random. All three numbers of a cohort can be read off what it generates (the test does).
 *
 * Not handled: holidays, owners of one household, a machine whose habits change.
 */
import type { SeededRandom } from "../../time/random.ts";
import type { Availability, Span, UpInterval } from "./availability.ts";

/** The owner sits at the machine from about `fromHour` to about `toHour`, local time; `toHour` may be past 24. */
export interface BusySpell {
  readonly fromHour: number;
  readonly toHour: number;
  /** Standard deviation of both ends. */
  readonly jitterHours: number;
  /** That the spell happens on a given day. */
  readonly probability: number;
}

export interface OwnerCohort {
  readonly name: "office" | "gamer" | "lab";
  readonly weekday: readonly BusySpell[];
  readonly weekend: readonly BusySpell[];
  /** That the machine is switched off from the end of a day's last spell until the first of the next day. */
  readonly offProbability: number;
  /** Mean idle time between two short returns. */
  readonly returnGapHours: number;
  /** Mean length of a short return. */
  readonly returnMinutes: number;
}

export const OWNER_COHORTS: readonly OwnerCohort[] = [
  {
    name: "office",
    weekday: [{ fromHour: 8.5, toHour: 17.5, jitterHours: 0.6, probability: 0.95 }],
    weekend: [{ fromHour: 11, toHour: 14, jitterHours: 1, probability: 0.08 }],
    offProbability: 0.15,
    returnGapHours: 30,
    returnMinutes: 10,
  },
  {
    name: "gamer",
    weekday: [{ fromHour: 18, toHour: 23, jitterHours: 1, probability: 0.8 }],
    weekend: [{ fromHour: 13, toHour: 24, jitterHours: 1.5, probability: 0.85 }],
    offProbability: 0.3,
    returnGapHours: 5,
    returnMinutes: 15,
  },
  {
    name: "lab",
    weekday: [{ fromHour: 10, toHour: 16, jitterHours: 2, probability: 0.25 }],
    weekend: [],
    offProbability: 0.01,
    returnGapHours: 20,
    returnMinutes: 45,
  },
];

export interface OwnerClock {
  /** Hour of the week (Monday 00:00 UTC is 0) at time 0 of the run. */
  readonly startHourOfWeekUtc: number;
  /** Local time minus UTC. */
  readonly zoneHours: number;
}

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
const WEEK_DAYS = 7;
const WEEKDAYS = 5;
/** How far a spell may be moved by its jitter, in standard deviations: what a day is stays a day. */
const JITTER_MAX = 2.5;

interface Busy {
  readonly fromMs: number;
  readonly toMs: number;
  /** How the idle time before it ended, from the grid's view. */
  readonly end: UpInterval["end"];
}

/** `returnsFactor` multiplies how often owners come back for a short while; 1 is as the cohort says. */
export function ownerAvailability(options: {
  readonly cohort: OwnerCohort;
  readonly clock: OwnerClock;
  readonly span: Span;
  readonly random: SeededRandom;
  readonly returnsFactor: number;
}): Availability {
  const { cohort, span, random, returnsFactor } = options;
  const busy = daysOf(options).flat();
  const gaps = gapsBetween(merged(busy), span);
  const intervals = gaps.flatMap((gap) =>
    withReturns(gap, {
      gapMs: (cohort.returnGapHours * HOUR_MS) / returnsFactor,
      lengthMs: cohort.returnMinutes * 60_000,
      random,
    }),
  );
  return { intervals, keepsDisk: true };
}

/** Busy and switched-off times of each day that touches the span, a day more on both sides. */
function daysOf(options: {
  readonly cohort: OwnerCohort;
  readonly clock: OwnerClock;
  readonly span: Span;
  readonly random: SeededRandom;
}): readonly (readonly Busy[])[] {
  const { cohort, clock, span } = options;
  const random = options.random.fork("days");
  // Local midnight of the Monday in whose week time 0 lies.
  const localHourAtZero = clock.startHourOfWeekUtc + clock.zoneHours;
  const mondayMs = -localHourAtZero * HOUR_MS;
  const first = Math.floor((span.fromMs - mondayMs) / DAY_MS) - 1;
  const last = Math.ceil((span.toMs - mondayMs) / DAY_MS) + 1;
  const days: (readonly Busy[])[] = [];
  for (let day = first; day <= last; day++) {
    const dayOfWeek = ((day % WEEK_DAYS) + WEEK_DAYS) % WEEK_DAYS;
    const spells = dayOfWeek < WEEKDAYS ? cohort.weekday : cohort.weekend;
    const midnightMs = mondayMs + day * DAY_MS;
    const busy = spells.flatMap((spell): readonly Busy[] => {
      const happens = random.chance(spell.probability);
      const fromMs = midnightMs + (spell.fromHour + jitter(random, spell)) * HOUR_MS;
      const toMs = midnightMs + (spell.toHour + jitter(random, spell)) * HOUR_MS;
      return happens && toMs > fromMs ? [{ fromMs, toMs, end: "owner" }] : [];
    });
    const isOff = random.chance(cohort.offProbability);
    const end = busy.at(-1);
    if (!isOff || end === undefined) days.push(busy);
    // Off until the first spell of the next day begins at the usual hour.
    else
      days.push([
        ...busy,
        { fromMs: end.toMs, toMs: midnightMs + DAY_MS + (spells[0]?.fromHour ?? 0) * HOUR_MS, end: "owner" },
      ]);
  }
  return days;
}

function jitter(random: SeededRandom, spell: BusySpell): number {
  return Math.max(-JITTER_MAX, Math.min(JITTER_MAX, normal(random))) * spell.jitterHours;
}

/** Box and Muller. */
function normal(random: SeededRandom): number {
  return Math.sqrt(-2 * Math.log(1 - random.fraction())) * Math.cos(2 * Math.PI * random.fraction());
}

function merged(busy: readonly Busy[]): readonly Busy[] {
  const sorted = [...busy].sort((a, b) => a.fromMs - b.fromMs || a.toMs - b.toMs);
  const joined: Busy[] = [];
  for (const spell of sorted) {
    const before = joined.at(-1);
    if (before === undefined || spell.fromMs > before.toMs) joined.push(spell);
    else joined[joined.length - 1] = { ...before, toMs: Math.max(before.toMs, spell.toMs) };
  }
  return joined;
}

function gapsBetween(busy: readonly Busy[], span: Span): readonly UpInterval[] {
  const gaps: UpInterval[] = [];
  let fromMs = span.fromMs;
  for (const spell of busy) {
    if (spell.toMs <= span.fromMs) continue;
    const toMs = Math.min(spell.fromMs, span.toMs);
    if (toMs > fromMs) gaps.push({ fromMs, toMs, end: spell.end });
    fromMs = Math.max(fromMs, spell.toMs);
    if (fromMs >= span.toMs) return gaps;
  }
  if (span.toMs > fromMs) gaps.push({ fromMs, toMs: span.toMs, end: "owner" });
  return gaps;
}

/** Cuts short returns out of an idle time. */
function withReturns(
  gap: UpInterval,
  returns: { readonly gapMs: number; readonly lengthMs: number; readonly random: SeededRandom },
): readonly UpInterval[] {
  const { gapMs, lengthMs, random } = returns;
  const intervals: UpInterval[] = [];
  let fromMs = gap.fromMs;
  for (;;) {
    const backMs = fromMs + random.gap(gapMs);
    if (backMs >= gap.toMs) break;
    intervals.push({ fromMs, toMs: backMs, end: "owner" });
    fromMs = backMs + random.gap(lengthMs);
    if (fromMs >= gap.toMs) return intervals;
  }
  intervals.push({ ...gap, fromMs });
  return intervals;
}
