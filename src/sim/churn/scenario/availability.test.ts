/** What the two sources of comings and goings generate: the measured series tick by tick, the owners' cohorts by their own numbers. */
import { describe, expect, test } from "vitest";
import { SeededRandom } from "../../time/random.ts";
import { type Availability, type Span, upShare } from "./availability.ts";
import { OWNER_COHORTS, type OwnerCohort, ownerAvailability } from "./owner-availability.ts";
import { spotAvailability } from "./spot-availability.ts";

const HOUR_MS = 3_600_000;
const WEEKS = 60;
const SPAN: Span = { fromMs: 0, toMs: WEEKS * 168 * HOUR_MS };

function cohortNamed(name: OwnerCohort["name"]): OwnerCohort {
  const found = OWNER_COHORTS.find((cohort) => cohort.name === name);
  if (found === undefined) throw new Error(`there is a cohort ${name}`);
  return found;
}

function owner(
  cohort: OwnerCohort,
  change: { seed?: string; zoneHours?: number; returnsFactor?: number } = {},
): Availability {
  return ownerAvailability({
    cohort,
    clock: { startHourOfWeekUtc: 0, zoneHours: change.zoneHours ?? 0 },
    span: SPAN,
    random: new SeededRandom(change.seed ?? "owner"),
    returnsFactor: change.returnsFactor ?? 1,
  });
}

/** Share of the weeks in which the machine is there in that hour of the week, Monday 00:00 UTC being 0. */
function shareAt({ intervals }: Availability, hourOfWeek: number): number {
  let sum = 0;
  for (let week = 1; week < WEEKS - 1; week++) {
    const fromMs = (week * 168 + hourOfWeek) * HOUR_MS;
    sum += upShare(intervals, { fromMs, toMs: fromMs + HOUR_MS });
  }
  return sum / (WEEKS - 2);
}

describe("owners", () => {
  const office: OwnerCohort = { ...cohortNamed("office"), returnGapHours: 1e9 };

  test("office machines are there at night and away in office hours, as often as the cohort says", () => {
    const machine = owner(office);
    const spell = office.weekday[0];
    for (const day of [0, 2, 4]) {
      expect(shareAt(machine, day * 24 + 12)).toBeCloseTo(1 - (spell?.probability ?? 0), 1);
      expect(shareAt(machine, day * 24 + 3)).toBeGreaterThan(0.75);
    }
  });

  test("a machine is off at night as often as the cohort says, after days on which somebody was there", () => {
    const machine = owner(office);
    const spell = office.weekday[0];
    expect(1 - shareAt(machine, 22)).toBeCloseTo(office.offProbability * (spell?.probability ?? 0), 1);
  });

  test("the hours are the owner's own: nine hours farther east the day begins nine hours earlier", () => {
    const here = owner(office);
    const east = owner(office, { zoneHours: 9 });
    expect(shareAt(here, 24 + 12)).toBeCloseTo(shareAt(east, 24 + 3), 1);
    expect(shareAt(east, 24 + 12)).toBeGreaterThan(0.75);
  });

  test("gamers are away in the evening, and longer at the weekend", () => {
    const machine = owner({ ...cohortNamed("gamer"), returnGapHours: 1e9 });
    expect(shareAt(machine, 24 + 20)).toBeLessThan(0.3);
    expect(shareAt(machine, 24 + 11)).toBeGreaterThan(0.7);
    expect(shareAt(machine, 5 * 24 + 16)).toBeLessThan(0.3);
  });

  test("short returns come as often and stay as long as the cohort says", () => {
    const cohort: OwnerCohort = {
      ...cohortNamed("lab"),
      weekday: [],
      weekend: [],
      offProbability: 0,
      returnGapHours: 5,
      returnMinutes: 30,
    };
    const { intervals } = owner(cohort);
    const upHours = intervals.reduce((sum, { fromMs, toMs }) => sum + (toMs - fromMs) / HOUR_MS, 0);
    expect(upHours / intervals.length).toBeCloseTo(5, 0);
    const awayHours = (SPAN.toMs - SPAN.fromMs) / HOUR_MS - upHours;
    expect(awayHours / intervals.length).toBeCloseTo(0.5, 1);
    const twice = owner(cohort, { returnsFactor: 2 });
    expect(twice.intervals.length / intervals.length).toBeGreaterThan(1.6);
  });

  test("times are in order and apart, within the span, and the same for the same seed", () => {
    for (const cohort of OWNER_COHORTS) {
      const machine = owner(cohort);
      let beforeMs = SPAN.fromMs;
      for (const { fromMs, toMs } of machine.intervals) {
        expect(fromMs).toBeGreaterThanOrEqual(beforeMs);
        expect(toMs).toBeGreaterThan(fromMs);
        beforeMs = toMs;
      }
      expect(beforeMs).toBeLessThanOrEqual(SPAN.toMs);
      expect(owner(cohort)).toEqual(machine);
      expect(owner(cohort, { seed: "another" })).not.toEqual(machine);
    }
  });
});

describe("spot machines", () => {
  test("are up while their series had capacity, from some place in it on, round and round", () => {
    const series = { name: "zone", gapMs: 600_000, isUp: [true, true, false, true, false, false] };
    const span = { fromMs: -6 * 600_000, toMs: 12 * 600_000 };
    const { intervals, keepsDisk } = spotAvailability(series, span, new SeededRandom("spot"));
    expect(keepsDisk).toBe(false);
    expect(upShare(intervals, span)).toBeCloseTo(0.5, 1);
    // Whole stretches of the series: two ticks or one.
    for (const { fromMs, toMs } of intervals.slice(1, -1))
      expect([1, 2]).toContain(Math.round((toMs - fromMs) / 600_000));
    expect(intervals.length).toBeGreaterThanOrEqual(5);
  });
});
