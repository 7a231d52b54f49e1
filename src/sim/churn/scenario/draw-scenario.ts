/** Draws a scenario: the same for every policy, so that their runs are pairs. */
import { assert } from "../../../domain/assert.ts";
import { SeededRandom } from "../../time/random.ts";
import type { ChurnKind } from "../churn-report.ts";
import { SERVED_MIX } from "../policies/served-mix.ts";
import type { Availability, Span } from "./availability.ts";
import type { ChurnTraces, RegionTable } from "./churn-traces.ts";
import { drawRequests } from "./draw-requests.ts";
import { OWNER_GPUS, SPOT_GPUS } from "./gpu-classes.ts";
import { OWNER_COHORTS, ownerAvailability } from "./owner-availability.ts";
import { type NodeDraw, REGION_RTT_MS, type Scenario } from "./scenario.ts";
import { spotAvailability } from "./spot-availability.ts";
import { TAIL_MS } from "./tier-bounds.ts";

const HOUR_MS = 3_600_000;
/** What a forecast may have seen before the run begins. */
export const HISTORY_MS = 7 * 24 * HOUR_MS;
const REGIONS_USED = 3;
/** A lab has several machines in one network. */
const LAB_MACHINES = 3;
/** Home lines: 100, 250 and 500 Mbit/s down, a fifth of it up; labs and spot machines 1 Gbit/s. */
const HOME_DOWN_BYTES_PER_MS = [12_500, 31_250, 62_500] as const;
const HOME_UP_SHARE = 0.2;
const WIRED_BYTES_PER_MS = 125_000;
const DISK_READ_BYTES_PER_MS = [1_000_000, 2_500_000] as const;
const DISK_BYTES = [60e9, 120e9, 250e9] as const;

/** Where the regions of the table lie: offset of their standard time, for owners' days. */
const ZONE_HOURS: Readonly<Record<string, number>> = {
  Dallas: -6,
  Toronto: -5,
  "Washington DC": -5,
  Frankfurt: 1,
  London: 0,
  Madrid: 1,
  Montreal: -5,
  Chennai: 5.5,
  Mumbai: 5.5,
  Osaka: 9,
  Sydney: 10,
  Tokyo: 9,
  "Sao Paulo": -3,
};

/** Without a table of measured round trips: three places with round trips of the usual order, SYNTHETIC. */
const SYNTHETIC_REGIONS: RegionTable = {
  names: ["Frankfurt", "Dallas", "Tokyo"],
  rttMs: [
    [0, 120, 230],
    [120, 0, 145],
    [230, 145, 0],
  ],
};

export interface ScenarioOptions {
  readonly seed: number;
  readonly kind: ChurnKind;
  readonly hours: number;
  readonly nodes: number;
  readonly requestsPerHour: number;
  readonly traces: ChurnTraces | null;
  /** How often owners come back for a short while, against what the cohorts say; 1 by default. */
  readonly returnsFactor?: number;
}

export function drawScenario(options: ScenarioOptions): Scenario {
  const { seed, kind, hours, requestsPerHour, traces } = options;
  const random = new SeededRandom(`fallow-churn/${kind}/${seed}`);
  const endMs = hours * HOUR_MS;
  const regions = drawRegions(random.fork("regions"), traces?.regions ?? SYNTHETIC_REGIONS);
  const startHourOfWeekUtc = random.fork("start").between(0, 167);
  const drawNode = kind === "spot" ? drawSpotNode : drawOwnerNode;
  const context = { ...options, regions, startHourOfWeekUtc, span: { fromMs: -HISTORY_MS, toMs: endMs + TAIL_MS } };
  const models = SERVED_MIX;
  return {
    kind,
    seed,
    endMs,
    historyMs: HISTORY_MS,
    startHourOfWeekUtc,
    regionNames: regions.names,
    rttMs: regions.rttMs,
    models,
    nodes: Array.from({ length: options.nodes }, (_, index) => drawNode(random.fork(`node/${index}`), index, context)),
    requests: drawRequests({ random: random.fork("load"), endMs, requestsPerHour, models: models.length, traces }),
  };
}

interface NodeContext extends ScenarioOptions {
  readonly regions: RegionTable;
  readonly startHourOfWeekUtc: number;
  readonly span: Span;
}

function drawRegions(random: SeededRandom, table: RegionTable): RegionTable {
  const all = table.names.map((_, index) => index);
  const chosen: number[] = [];
  while (chosen.length < Math.min(REGIONS_USED, table.names.length)) {
    const index = random.pick(all.filter((one) => !chosen.includes(one)));
    chosen.push(index);
  }
  const rttMs = chosen.map((from) =>
    chosen.map((to) => (from === to ? REGION_RTT_MS : (table.rttMs[from]?.[to] ?? 0))),
  );
  return { names: chosen.map((index) => table.names[index] ?? ""), rttMs };
}

function drawSpotNode(random: SeededRandom, index: number, context: NodeContext): NodeDraw {
  const { regions, span, traces } = context;
  assert(traces !== null && traces.spot.length > 0, "spot churn has series to replay");
  const series = random.pick(traces.spot);
  const region = random.between(0, regions.names.length - 1);
  return {
    ...placeOf(random, index, { region, regions }),
    gpu: random.pick(SPOT_GPUS),
    owner: `spot-${index}`,
    cohort: series.name,
    downBytesPerMs: WIRED_BYTES_PER_MS,
    upBytesPerMs: WIRED_BYTES_PER_MS,
    availability: spotAvailability(series, span, random.fork("availability")),
  };
}

function drawOwnerNode(random: SeededRandom, index: number, context: NodeContext): NodeDraw {
  const { regions, span, startHourOfWeekUtc, returnsFactor } = context;
  const cohort = random.pick(OWNER_COHORTS);
  const isLab = cohort.name === "lab";
  const region = random.between(0, regions.names.length - 1);
  const place = placeOf(random, index, { region, regions });
  const downBytesPerMs = isLab ? WIRED_BYTES_PER_MS : random.pick(HOME_DOWN_BYTES_PER_MS);
  const availability: Availability = ownerAvailability({
    cohort,
    clock: { startHourOfWeekUtc, zoneHours: place.zoneHours },
    span,
    random: random.fork("availability"),
    returnsFactor: returnsFactor ?? 1,
  });
  return {
    ...place,
    gpu: random.pick(OWNER_GPUS),
    owner: isLab ? `lab-${region}-${Math.floor(random.between(0, LAB_MACHINES - 1) / 2)}` : `owner-${index}`,
    cohort: `${cohort.name}/${regions.names[region] ?? ""}`,
    downBytesPerMs,
    upBytesPerMs: isLab ? downBytesPerMs : downBytesPerMs * HOME_UP_SHARE,
    availability,
  };
}

function placeOf(random: SeededRandom, index: number, of: { readonly region: number; readonly regions: RegionTable }) {
  return {
    name: `n${String(index).padStart(3, "0")}`,
    region: of.region,
    zoneHours: ZONE_HOURS[of.regions.names[of.region] ?? ""] ?? 0,
    diskReadBytesPerMs: random.pick(DISK_READ_BYTES_PER_MS),
    diskBytes: random.pick(DISK_BYTES),
  };
}
