/**
 * Region first: wide-area links are few, slow and far, so decide first which regions hold which part of the model and only then who
 * in a region holds what. Local search does not find this structure by itself (docs/planner.md).
 *
 * Cut the model at one or two places; every region takes one run between cuts. Two regions with the same run are parallel fronts
 * (or backs); one with the whole model is a pipeline of its own; one with a longer run is a way round the others. All assignments
 * are tried while there are few, a drawn sample of them otherwise. Regions beyond REGIONS_MAX are first joined with their nearest.
 */
import type { ClusterTables } from "./cluster-tables.ts";
import { type Draft, emptyDraft } from "./draft.ts";
import { FILL_MODES, type FillMode, fill } from "./fill.ts";
import type { RegionGrouping } from "./regions.ts";
import type { SearchRandom } from "./search-random.ts";

/** What the enumeration can afford: 3 runs for 5 regions are 243 assignments for each cut. */
export const REGIONS_MAX = 5;

/** One decision: who takes which run. `runOf[region]` numbers a run, -1 leaves the region out; `modeOf` how it is filled. */
export interface RegionPlan {
  readonly cuts: readonly number[];
  readonly runOf: readonly number[];
  readonly modeOf: readonly number[];
}

interface Run {
  readonly first: number;
  readonly end: number;
}

/** Modes that are tried before any is improved; a region that fills everything alone gets them all. */
const FIRST_MODES: readonly number[] = FILL_MODES.flatMap(({ chains, replicas, criterion }, mode) =>
  criterion === "room" && chains === 1 && replicas <= 2 ? [mode] : [],
);
/** Assignments of runs to regions that are tried for one list of cuts; a drawn sample when there are more. */
const ASSIGNMENTS_MAX = 243;
/** Share of the plans that cut the model twice: far more exist, and fewer of them are good. */
const TWO_CUTS_SHARE = 0.4;

/** Plans worth a look for the grouping, at most `countMax`; samples are drawn from `random`. */
export function regionPlans(
  tables: ClusterTables,
  grouping: RegionGrouping,
  more: { countMax: number; random: SearchRandom },
): RegionPlan[] {
  const members = membersOf(tables, grouping);
  const capacity = members.map((nodes) => nodes.reduce((sum, node) => sum + (tables.layersMax[node] ?? 0), 0));
  const simple: RegionPlan[] = [];
  const twice: RegionPlan[] = [];
  const modes = grouping.count === 1 ? FILL_MODES.map((_, mode) => mode) : FIRST_MODES;
  for (const cuts of cutLists(tables.layerCount, grouping.count)) {
    const runs = runsBetween(tables.layerCount, cuts);
    const choices = capacity.map((layers) => runs.flatMap((run, at) => (run.end - run.first <= layers ? [at] : [])));
    for (const runOf of assignments(choices, more.random)) {
      if (!isWhole(runOf, runs, tables.layerCount)) continue;
      for (const mode of modes) {
        (cuts.length < 2 ? simple : twice).push({ cuts, runOf, modeOf: members.map(() => mode) });
      }
    }
  }
  const twiceMax = Math.floor(more.countMax * TWO_CUTS_SHARE);
  const simpleMax = more.countMax - Math.min(twice.length, twiceMax);
  return [...sample(simple, { ...more, countMax: simpleMax }), ...sample(twice, { ...more, countMax: twiceMax })];
}

/** Lays the plan; null when a region cannot hold its run in its mode. */
export function draftOf(tables: ClusterTables, grouping: RegionGrouping, plan: RegionPlan): Draft | null {
  const members = membersOf(tables, grouping);
  const runs = runsBetween(tables.layerCount, plan.cuts);
  const draft = emptyDraft(tables.nodeCount);
  for (const [region, nodes] of members.entries()) {
    const run = runs[plan.runOf[region] ?? -1];
    const mode = FILL_MODES[plan.modeOf[region] ?? 0];
    if (run === undefined || mode === undefined) continue;
    if (!fill(tables, draft, { nodes, first: run.first, end: run.end, mode: mode satisfies FillMode })) return null;
  }
  return draft;
}

/** Plans one step away: another mode in one region, a cut moved, a region with another run. */
export function nearPlans(tables: ClusterTables, grouping: RegionGrouping, plan: RegionPlan): RegionPlan[] {
  const near: RegionPlan[] = [];
  for (let region = 0; region < grouping.count; region++) {
    for (let mode = 0; mode < FILL_MODES.length; mode++) {
      if (mode !== plan.modeOf[region]) near.push({ ...plan, modeOf: plan.modeOf.with(region, mode) });
    }
  }
  for (const [at, cut] of plan.cuts.entries()) {
    for (const by of [-3, -2, -1, 1, 2, 3]) {
      const cuts = plan.cuts.with(at, cut + by);
      const isOrdered = [0, ...cuts, tables.layerCount].every(
        (value, index, all) => index === 0 || value > (all[index - 1] ?? 0),
      );
      if (isOrdered) near.push({ ...plan, cuts });
    }
  }
  return near;
}

function membersOf(tables: ClusterTables, grouping: RegionGrouping): number[][] {
  const members: number[][] = Array.from({ length: grouping.count }, () => []);
  for (let node = 0; node < tables.nodeCount; node++) {
    if ((tables.layersMax[node] ?? 0) > 0) members[grouping.regionOf[node] ?? 0]?.push(node);
  }
  return members;
}

/** No cut, one cut at every fortieth of the model, and for three regions or more two cuts at every tenth. */
function cutLists(layerCount: number, regionCount: number): number[][] {
  const lists: number[][] = [[]];
  if (regionCount < 2) return lists;
  const at = (parts: number): number[] =>
    [...new Set(Array.from({ length: parts - 1 }, (_, part) => Math.round(((part + 1) * layerCount) / parts)))].filter(
      (cut) => cut > 0 && cut < layerCount,
    );
  for (const cut of at(40)) lists.push([cut]);
  if (regionCount < 3) return lists;
  const coarse = at(12);
  for (const [index, low] of coarse.entries()) for (const high of coarse.slice(index + 1)) lists.push([low, high]);
  return lists;
}

/** Every stretch between two of 0, the cuts and the end. */
function runsBetween(layerCount: number, cuts: readonly number[]): Run[] {
  const marks = [0, ...cuts, layerCount];
  return marks.flatMap((first, at) => marks.slice(at + 1).map((end) => ({ first, end })));
}

/** Ways to give each region one of its choices (or, when it has none, nothing): all, or a drawn sample. */
function assignments(choices: readonly (readonly number[])[], random: SearchRandom): number[][] {
  const options = choices.map((own) => (own.length > 0 ? own : [-1]));
  const total = options.reduce((product, own) => product * own.length, 1);
  if (total > ASSIGNMENTS_MAX) {
    return Array.from({ length: ASSIGNMENTS_MAX }, () => options.map((own) => own[random.below(own.length)] ?? -1));
  }
  let partial: number[][] = [[]];
  for (const own of options) partial = partial.flatMap((runOf) => own.map((run) => [...runOf, run]));
  return partial;
}

function isWhole(runOf: readonly number[], runs: readonly Run[], layerCount: number): boolean {
  let reached = new Set([0]);
  // Runs are few and sorted by their first layer, so one sweep finds every mark that can be reached.
  for (const [at, run] of runs.entries()) {
    if (runOf.includes(at) && reached.has(run.first)) reached = new Set([...reached, run.end]);
  }
  return reached.has(layerCount);
}

function sample(plans: RegionPlan[], more: { countMax: number; random: SearchRandom }): RegionPlan[] {
  if (plans.length <= more.countMax) return plans;
  for (let at = 0; at < more.countMax; at++) {
    const other = at + more.random.below(plans.length - at);
    const [a, b] = [plans[at], plans[other]];
    if (a === undefined || b === undefined) break;
    plans[at] = b;
    plans[other] = a;
  }
  return plans.slice(0, more.countMax);
}

/** The grouping with its nearest regions joined until there are at most `countMax`; nearness is given per pair of regions. */
export function coarser(
  grouping: RegionGrouping,
  more: { countMax: number; distance: (a: number, b: number) => number },
): RegionGrouping {
  const regionOf = grouping.regionOf.slice();
  let alive = Array.from({ length: grouping.count }, (_, region) => region);
  // Distances do not change as regions are joined, so the nearest pair of those left is the next of one sorted list.
  const pairs = alive.flatMap((into) =>
    alive.slice(into + 1).map((from) => ({ from, into, distance: more.distance(into, from) })),
  );
  pairs.sort((a, b) => a.distance - b.distance || a.into - b.into || a.from - b.from);
  const gone = new Set<number>();
  for (const { from, into } of pairs) {
    if (alive.length - gone.size <= more.countMax) break;
    if (gone.has(from) || gone.has(into)) continue;
    for (let node = 0; node < regionOf.length; node++) if (regionOf[node] === from) regionOf[node] = into;
    gone.add(from);
  }
  alive = alive.filter((region) => !gone.has(region));
  const number = new Map(alive.map((region, at) => [region, at]));
  return { regionOf: regionOf.map((region) => number.get(region) ?? 0), count: alive.length };
}
