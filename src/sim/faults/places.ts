/** Where a machine stands: the region that its operator names, and how far that is from the coordinator. */
import type { SeededRandom } from "../time/random.ts";

export interface Place {
  /** Null: its operator named none. */
  readonly region: string | null;
  /** One way to the coordinator, on top of what the network does to every packet. */
  readonly delayMs: number;
}

export const NOWHERE: Place = { region: null, delayMs: 0 };

/** Half of the round trips within a town, over a continent, over an ocean (the measured tables go from 0 to 250 ms). */
export const REGIONS: readonly Place[] = [
  { region: "eu", delayMs: 4 },
  { region: "us", delayMs: 55 },
  { region: "ap", delayMs: 110 },
];

/** One node in five names no region: no rule on regions is met by it. */
export function drawPlace(random: SeededRandom): Place {
  const place = random.pick(REGIONS);
  return random.chance(0.2) ? { ...place, region: null } : place;
}
