/**
 * How often nodes leave, by how long they have been there. A table counts two things for each bin of age: the time that nodes
 * were up at that age (exposure) and how many left at it (departures). Their ratio is the hazard: departures per hour.
 * Hazards fall steeply with age: who just came is likely to leave, who has stayed a day stays. That is why age alone beats
 * every other cheap predictor (bench/forecast.bench.ts).
 */
export const HOUR_MS = 3_600_000;

/** Lower edges of the bins of age in ms; the last bin has no upper edge. From the fit in docs/forecast.md. */
export const AGE_EDGES_MS: readonly number[] = [0, 1 / 6, 1 / 2, 1, 2, 4, 8, 16, 32].map((hours) => hours * HOUR_MS);
export const AGE_BINS = AGE_EDGES_MS.length;

/** Departures per hour, by bin of age. */
export type Hazards = readonly number[];

/** As it is kept: both lists have `AGE_BINS` entries, none negative. */
export interface LifeTableData {
  readonly departures: readonly number[];
  readonly exposureHours: readonly number[];
}

export class LifeTable {
  readonly #departures: number[];
  readonly #exposureHours: number[];

  constructor(data: LifeTableData | null = null) {
    this.#departures = data === null ? zeros() : [...data.departures];
    this.#exposureHours = data === null ? zeros() : [...data.exposureHours];
  }

  addExposure(bin: number, hours: number): void {
    this.#exposureHours[bin] = (this.#exposureHours[bin] ?? 0) + hours;
  }

  addDeparture(bin: number): void {
    this.#departures[bin] = (this.#departures[bin] ?? 0) + 1;
  }

  /** Makes what was counted weigh less, so that a node that changed its ways is believed. */
  fade(factor: number): void {
    for (let bin = 0; bin < AGE_BINS; bin++) {
      this.#departures[bin] = (this.#departures[bin] ?? 0) * factor;
      this.#exposureHours[bin] = (this.#exposureHours[bin] ?? 0) * factor;
    }
  }

  /** This table's hazards as if it had also seen `pseudoDepartures` at the prior's rate: few observations say little. */
  shrunkTo(prior: Hazards, pseudoDepartures: number): Hazards {
    return prior.map((_, bin) => this.hazardAt(bin, prior, pseudoDepartures));
  }

  /** One bin of `shrunkTo`. */
  hazardAt(bin: number, prior: Hazards, pseudoDepartures: number): number {
    const departures = (this.#departures[bin] ?? 0) + pseudoDepartures;
    return departures / ((this.#exposureHours[bin] ?? 0) + pseudoDepartures / (prior[bin] ?? 1));
  }

  /**
   * The hazards of a grid that nothing stands above: each bin is shrunk to the younger one's hazard times `decline`, the youngest to
   * `first`. So an age that nobody reached yet is not blamed for those who left young.
   */
  declining(prior: { first: number; decline: number; pseudoDepartures: number }): Hazards {
    let rate = prior.first;
    return this.#departures.map((departures, bin) => {
      const expected = bin === 0 ? rate : rate * prior.decline;
      const { pseudoDepartures } = prior;
      rate = (departures + pseudoDepartures) / ((this.#exposureHours[bin] ?? 0) + pseudoDepartures / expected);
      return rate;
    });
  }

  /** Mean time between departures, with one departure in `priorHours` added. */
  meanLifeHours(priorHours: number): number {
    return (sum(this.#exposureHours) + priorHours) / (sum(this.#departures) + 1);
  }

  data(): LifeTableData {
    return { departures: this.#departures.map(rounded), exposureHours: this.#exposureHours.map(rounded) };
  }
}

export function ageBin(ageMs: number): number {
  let bin = 0;
  while (bin + 1 < AGE_BINS && ageMs >= (AGE_EDGES_MS[bin + 1] ?? 0)) bin++;
  return bin;
}

/** Where the bin of this age ends. */
export function ageBinEndMs(ageMs: number): number {
  return AGE_EDGES_MS[ageBin(ageMs) + 1] ?? Number.POSITIVE_INFINITY;
}

/** Six digits: a snapshot of many nodes stays small, and no forecast sees the rest. */
export function rounded(value: number): number {
  return Number(value.toPrecision(6));
}

function zeros(): number[] {
  return new Array<number>(AGE_BINS).fill(0);
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
