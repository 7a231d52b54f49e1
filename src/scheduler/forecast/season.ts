/**
 * When in the week nodes leave: a factor on the hazard for each hour of the week, 1 where nothing is known. The factor of an
 * hour is its departures over those that age alone would let expect; hours of the week are shrunk to their hour of the day and
 * that to 1, so that two quiet weeks say little. Whether the factors are used at all is decided by their Brier score
 * (`survival-score.ts`).
 */
import { AGE_BINS, type Hazards, HOUR_MS, rounded } from "./life-table.ts";

export const HOURS_PER_DAY = 24;
export const HOURS_PER_WEEK = 168;
/** Departures that an hour must have seen to count half. Chosen on the first half of the spot series (docs/forecast.md). */
const PSEUDO_DEPARTURES = 20;
/** 1 January 1970 was a Thursday; the week begins on Monday. */
const EPOCH_SHIFT_MS = 3 * HOURS_PER_DAY * HOUR_MS;

export interface SeasonData {
  /** By hour of the week. */
  readonly departures: readonly number[];
  /** By hour of the week, and in it by bin of age. */
  readonly exposureHours: readonly number[];
}

export class SeasonTable {
  readonly #departures: number[];
  readonly #exposureHours: number[];

  constructor(data: SeasonData | null = null) {
    this.#departures = data === null ? new Array<number>(HOURS_PER_WEEK).fill(0) : [...data.departures];
    this.#exposureHours =
      data === null ? new Array<number>(HOURS_PER_WEEK * AGE_BINS).fill(0) : [...data.exposureHours];
  }

  addExposure(at: { hour: number; bin: number }, hours: number): void {
    const cell = at.hour * AGE_BINS + at.bin;
    this.#exposureHours[cell] = (this.#exposureHours[cell] ?? 0) + hours;
  }

  addDeparture(hour: number): void {
    this.#departures[hour] = (this.#departures[hour] ?? 0) + 1;
  }

  fade(factor: number): void {
    for (const list of [this.#departures, this.#exposureHours]) {
      for (let at = 0; at < list.length; at++) list[at] = (list[at] ?? 0) * factor;
    }
  }

  /** One factor for each hour of the week. */
  factors(hazards: Hazards): readonly number[] {
    const expected = this.#departures.map((_, hour) =>
      hazards.reduce((sum, rate, bin) => sum + rate * (this.#exposureHours[hour * AGE_BINS + bin] ?? 0), 0),
    );
    const daily = Array.from({ length: HOURS_PER_DAY }, (_, hourOfDay) => {
      let seen = PSEUDO_DEPARTURES;
      let due = PSEUDO_DEPARTURES;
      for (let hour = hourOfDay; hour < HOURS_PER_WEEK; hour += HOURS_PER_DAY) {
        seen += this.#departures[hour] ?? 0;
        due += expected[hour] ?? 0;
      }
      return seen / due;
    });
    return expected.map((due, hour) => {
      const prior = daily[hour % HOURS_PER_DAY] ?? 1;
      return ((this.#departures[hour] ?? 0) + PSEUDO_DEPARTURES * prior) / (due + PSEUDO_DEPARTURES);
    });
  }

  data(): SeasonData {
    return { departures: this.#departures.map(rounded), exposureHours: this.#exposureHours.map(rounded) };
  }
}

/** 0 is Monday, midnight to one, at the place that is so far from UTC. */
export function hourOfWeek(atMs: number, utcOffsetMinutes: number): number {
  const hours = Math.floor((atMs + EPOCH_SHIFT_MS + utcOffsetMinutes * 60_000) / HOUR_MS);
  return ((hours % HOURS_PER_WEEK) + HOURS_PER_WEEK) % HOURS_PER_WEEK;
}

/** When that place's next hour begins. */
export function hourEndMs(atMs: number, utcOffsetMinutes: number): number {
  const shiftMs = utcOffsetMinutes * 60_000;
  return (Math.floor((atMs + shiftMs) / HOUR_MS) + 1) * HOUR_MS - shiftMs;
}
