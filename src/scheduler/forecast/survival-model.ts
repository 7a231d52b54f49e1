/**
 * Whether a node stays. The hazard of its leaving is that of its age in state (`life-table.ts`), of the node itself as far as
 * it was seen leave, shrunk to its cohort (the same class of device in the same time zone) and the cohort to the whole grid;
 * times the factor of the hour of the week where that helps (`season.ts`). The chance to stay for a horizon is the exponential
 * of minus the hazard summed over it.
 *
 * | event                     | node unknown or down | node up                                        |
 * | ------------------------- | -------------------- | ---------------------------------------------- |
 * | `up`                      | up, age 0            | ignored: it is up                              |
 * | `left`                    | ignored              | a departure at its age; down                   |
 * | `unseen`                  | ignored              | down; no departure: an order, or we were away  |
 *
 * Time is that of the caller's wall clock, ascending: an event from before the last one counts as at the last one.
 * Not handled: nodes that leave together (a power cut, a spot zone that dries up) are taken as independent.
 */
import { assert } from "../../domain/assert.ts";
import { ageBin, ageBinEndMs, type Hazards, HOUR_MS, LifeTable, type LifeTableData } from "./life-table.ts";
import { hourEndMs, hourOfWeek, type SeasonData, SeasonTable } from "./season.ts";

/**
 * Departures as if seen at the prior's hazard, in each bin of age: so many of its own make a node believed half. 10, 20, 30 and 60
 * score alike on the first half of the spot series; 20 believes a flighty node in days rather than weeks.
 */
const NODE_PSEUDO_DEPARTURES = 20;
const COHORT_PSEUDO_DEPARTURES = 60;
const GRID_PSEUDO_DEPARTURES = 0.5;
/** Of a grid that has seen nothing: one departure a day. */
const PRIOR_LIFE_HOURS = 24;
/** From one bin of age to the next, as the spot series have it on the mean. */
const PRIOR_DECLINE = 0.6;
/** What was seen eight weeks ago counts half. */
const FADE_HALF_LIFE_DAYS = 56;
const DAY_MS = 24 * HOUR_MS;
/** As many nodes as the matcher is built for; the one that was heard of longest ago is forgotten. */
export const NODES_MAX = 100_000;
/** More classes of nodes than this share one table. */
export const COHORTS_MAX = 1_024;
const OTHER_COHORT = "other";
/** No forecast looks farther; a longer remaining life is told as this. */
export const LIFE_MS_MAX = 14 * DAY_MS;

export interface SurvivalNode {
  readonly nodeId: string;
  /** Class of device and time zone: nodes that may be expected to behave alike. */
  readonly cohort: string;
  readonly utcOffsetMinutes: number;
}

export type Transition = "up" | "left" | "unseen";

interface KnownNode {
  readonly utcOffsetMinutes: number;
  readonly cohort: string;
  readonly table: LifeTable;
  /** Its place in the list of all. */
  place: number;
  /** Of the model's days of fading, those that its table has been through: it catches up when it is next read. */
  fadedDays: number;
  isUp: boolean;
  sinceMs: number;
  /** Its exposure is counted up to here. */
  countedMs: number;
}

/** What is kept of one node. */
export interface SurvivalNodeRow extends LifeTableData, SurvivalNode {
  readonly isUp: boolean;
  readonly sinceMs: number;
  readonly countedMs: number;
}

/** What is kept beside the nodes. */
export interface SurvivalCore {
  readonly grid: LifeTableData;
  readonly cohorts: readonly (LifeTableData & { readonly cohort: string })[];
  readonly season: SeasonData;
  readonly fadedMs: number;
}

interface Priors {
  readonly hazards: Hazards;
  readonly factors: readonly number[];
  /** By name; made when they are asked for. */
  readonly cohorts: Map<string, Hazards>;
}

export class SurvivalModel {
  readonly #nodes = new Map<string, KnownNode>();
  /** All of them, in no order that matters: who wants a few from all over need not walk. */
  readonly #list: string[] = [];
  #fadedDays = 0;
  /** Whose turn to be counted it is. */
  #turn = this.#nodes.values();
  readonly #cohorts = new Map<string, LifeTable>();
  readonly #grid: LifeTable;
  readonly #season: SeasonTable;
  #fadedMs: number;
  /** Of the grid, its hours and its cohorts; made again after the next count. */
  #prior: Priors | null = null;
  /** Whether the hour of the week has a say. */
  isSeasonal = false;

  constructor(kept: { core: SurvivalCore; nodes: readonly SurvivalNodeRow[] } | null = null) {
    this.#grid = new LifeTable(kept?.core.grid);
    this.#season = new SeasonTable(kept?.core.season);
    this.#fadedMs = kept?.core.fadedMs ?? 0;
    for (const row of kept?.core.cohorts.slice(0, COHORTS_MAX) ?? []) this.#cohorts.set(row.cohort, new LifeTable(row));
    for (const row of kept?.nodes.slice(0, NODES_MAX) ?? []) {
      const { nodeId, utcOffsetMinutes, cohort, isUp, sinceMs, countedMs } = row;
      const place = this.#nodes.get(nodeId)?.place ?? this.#list.push(nodeId) - 1;
      const known = { utcOffsetMinutes, cohort, place, fadedDays: 0, isUp, sinceMs, countedMs };
      this.#nodes.set(nodeId, { ...known, table: new LifeTable(row) });
    }
  }

  get size(): number {
    return this.#nodes.size;
  }

  observe(node: SurvivalNode, transition: Transition, atMs: number): void {
    const known = this.#nodes.get(node.nodeId) ?? null;
    if (transition === "up") {
      if (known?.isUp === true) return;
      const table = known?.table ?? new LifeTable();
      const fadedDays = known?.fadedDays ?? this.#fadedDays;
      const place = known?.place ?? this.#list.push(node.nodeId) - 1;
      const cohort = this.#cohortNamed(node.cohort);
      const { utcOffsetMinutes } = node;
      const up = { utcOffsetMinutes, cohort, place, fadedDays, isUp: true, sinceMs: atMs, countedMs: atMs };
      this.#nodes.delete(node.nodeId);
      this.#nodes.set(node.nodeId, { ...up, table });
      this.#forgetOldest();
      return;
    }
    if (known === null || !known.isUp) return;
    this.#count(known, atMs);
    if (transition === "left") this.#depart(known);
    known.isUp = false;
    known.sinceMs = known.countedMs;
  }

  /**
   * Counts the time that nodes have been up until now; of the next `nodesMax` nodes only, so that a large grid is counted in turns.
   * Between calls the age is known, the evidence of having stayed is not.
   */
  advance(nowMs: number, nodesMax: number = NODES_MAX): void {
    for (let at = 0; at < Math.min(nodesMax, this.#nodes.size); at++) {
      let next = this.#turn.next();
      if (next.done === true) {
        this.#turn = this.#nodes.values();
        next = this.#turn.next();
      }
      if (next.done !== true && next.value.isUp) this.#count(next.value, nowMs);
    }
    if (this.#fadedMs === 0 || nowMs < this.#fadedMs) this.#fadedMs = nowMs;
    const days = Math.floor((nowMs - this.#fadedMs) / DAY_MS);
    if (days < 1) return;
    this.#fadedMs += days * DAY_MS;
    this.#fadedDays += days;
    const factor = fadeOver(days);
    this.#grid.fade(factor);
    this.#season.fade(factor);
    for (const table of this.#cohorts.values()) table.fade(factor);
  }

  /** Since when the node is up; null when it is not, or is not known. */
  upSinceMs(nodeId: string): number | null {
    const node = this.#nodes.get(nodeId);
    return node?.isUp === true ? node.sinceMs : null;
  }

  /** Chance that the node is up without a break from now to the end of the horizon. 0 when it is down or unknown. */
  stayChance(nodeId: string, nowMs: number, horizonMs: number, options: { isSeasonal?: boolean } = {}): number {
    const node = this.#nodes.get(nodeId);
    if (node === undefined || !node.isUp) return 0;
    const isSeasonal = options.isSeasonal ?? this.isSeasonal;
    const spanMs = Math.min(Math.max(0, horizonMs), LIFE_MS_MAX);
    let hazard = 0;
    this.#walk(node, { fromMs: nowMs, toMs: nowMs + spanMs, isSeasonal }, (rate, hours) => {
      hazard += rate * hours;
      return true;
    });
    return Math.exp(-hazard);
  }

  /** The time within which the node leaves with the chance given; at most `LIFE_MS_MAX`, and 0 when it is down or unknown. */
  remainingLifeMs(nodeId: string, nowMs: number, quantile: number): number {
    assert(quantile > 0 && quantile < 1, `a quantile is between 0 and 1, not ${quantile}`);
    const node = this.#nodes.get(nodeId);
    if (node === undefined || !node.isUp) return 0;
    let left = -Math.log1p(-quantile);
    let lifeHours = 0;
    let isFound = false;
    const { isSeasonal } = this;
    this.#walk(node, { fromMs: nowMs, toMs: nowMs + LIFE_MS_MAX, isSeasonal }, (rate, hours) => {
      isFound = rate * hours >= left;
      lifeHours += isFound ? left / rate : hours;
      left -= rate * hours;
      return !isFound;
    });
    return isFound ? Math.min(LIFE_MS_MAX, lifeHours * HOUR_MS) : LIFE_MS_MAX;
  }

  /** Of every so many nodes one, when it is up. */
  *upNodesEvery(step: number, from: number): Iterable<string> {
    for (let at = from; at < this.#list.length; at += step) {
      const nodeId = this.#list[at] ?? "";
      if (this.#nodes.get(nodeId)?.isUp === true) yield nodeId;
    }
  }

  core(): SurvivalCore {
    return {
      grid: this.#grid.data(),
      cohorts: [...this.#cohorts].map(([cohort, table]) => ({ cohort, ...table.data() })),
      season: this.#season.data(),
      fadedMs: this.#fadedMs,
    };
  }

  /** In the order in which they were heard of, in pieces: a large grid is not written in one go. */
  *rows(): Iterable<SurvivalNodeRow> {
    for (const [nodeId, node] of this.#nodes) {
      const { cohort, utcOffsetMinutes, isUp, sinceMs, countedMs } = node;
      yield { nodeId, cohort, utcOffsetMinutes, isUp, sinceMs, countedMs, ...this.#tableOf(node).data() };
    }
  }

  /** Stretches within one bin of age and one hour, in order, until `take` answers false. */
  #walk(
    node: KnownNode,
    span: { fromMs: number; toMs: number; isSeasonal: boolean },
    take: (ratePerHour: number, hours: number) => boolean,
  ): void {
    const priors = this.#priors();
    const { factors } = priors;
    const cohort = this.#hazardsOf(node.cohort, priors);
    const table = this.#tableOf(node);
    for (let atMs = span.fromMs; atMs < span.toMs; ) {
      const ageMs = Math.max(0, atMs - node.sinceMs);
      const bin = ageBin(ageMs);
      const binEndMs = atMs + (ageBinEndMs(ageMs) - ageMs);
      const hourMs = span.isSeasonal ? hourEndMs(atMs, node.utcOffsetMinutes) : Number.POSITIVE_INFINITY;
      const nextMs = Math.min(span.toMs, binEndMs, hourMs);
      const factor = span.isSeasonal ? (factors[hourOfWeek(atMs, node.utcOffsetMinutes)] ?? 1) : 1;
      const rate = table.hazardAt(bin, cohort, NODE_PSEUDO_DEPARTURES);
      if (!take(rate * factor, (nextMs - atMs) / HOUR_MS)) return;
      atMs = nextMs;
    }
  }

  #hazardsOf(cohort: string, { hazards, cohorts }: Priors): Hazards {
    const known = cohorts.get(cohort);
    if (known !== undefined) return known;
    const shrunk = this.#cohorts.get(cohort)?.shrunkTo(hazards, COHORT_PSEUDO_DEPARTURES) ?? hazards;
    cohorts.set(cohort, shrunk);
    return shrunk;
  }

  #priors(): Priors {
    if (this.#prior === null) {
      const hazards = this.#grid.declining({
        first: 1 / this.#grid.meanLifeHours(PRIOR_LIFE_HOURS),
        decline: PRIOR_DECLINE,
        pseudoDepartures: GRID_PSEUDO_DEPARTURES,
      });
      this.#prior = { hazards, factors: this.#season.factors(hazards), cohorts: new Map() };
    }
    return this.#prior;
  }

  #count(node: KnownNode, nowMs: number): void {
    const cohort = this.#cohorts.get(node.cohort);
    const own = this.#tableOf(node);
    while (node.countedMs < nowMs) {
      const ageMs = node.countedMs - node.sinceMs;
      const binEndMs = node.countedMs + (ageBinEndMs(ageMs) - ageMs);
      const nextMs = Math.min(nowMs, binEndMs, hourEndMs(node.countedMs, node.utcOffsetMinutes));
      const hours = (nextMs - node.countedMs) / HOUR_MS;
      const bin = ageBin(ageMs);
      for (const table of [own, cohort, this.#grid]) table?.addExposure(bin, hours);
      this.#season.addExposure({ hour: hourOfWeek(node.countedMs, node.utcOffsetMinutes), bin }, hours);
      node.countedMs = nextMs;
      this.#prior = null;
    }
  }

  #depart(node: KnownNode): void {
    // The stretch that ended here: an age exactly at an edge belongs to the bin before it.
    const bin = ageBin(Math.max(0, node.countedMs - node.sinceMs - 1));
    for (const table of [this.#tableOf(node), this.#cohorts.get(node.cohort), this.#grid]) table?.addDeparture(bin);
    this.#season.addDeparture(hourOfWeek(node.countedMs - 1, node.utcOffsetMinutes));
    this.#prior = null;
  }

  #cohortNamed(wanted: string): string {
    const cohort = this.#cohorts.has(wanted) || this.#cohorts.size < COHORTS_MAX - 1 ? wanted : OTHER_COHORT;
    if (!this.#cohorts.has(cohort)) this.#cohorts.set(cohort, new LifeTable());
    return cohort;
  }

  #forgetOldest(): void {
    if (this.#nodes.size <= NODES_MAX) return;
    const [oldest] = this.#nodes.keys();
    const place = this.#nodes.get(oldest ?? "")?.place ?? 0;
    const last = this.#list.pop() ?? "";
    const moved = this.#nodes.get(last);
    if (oldest === undefined || moved === undefined) return;
    // The last of the list takes the place of who goes.
    if (last !== oldest) this.#list[place] = last;
    moved.place = place;
    this.#nodes.delete(oldest);
  }

  /** A hundred thousand tables are not faded in one turn: each is when it is next read. */
  #tableOf(node: KnownNode): LifeTable {
    const days = this.#fadedDays - node.fadedDays;
    if (days > 0) node.table.fade(fadeOver(days));
    node.fadedDays = this.#fadedDays;
    return node.table;
  }
}

function fadeOver(days: number): number {
  return 0.5 ** (days / FADE_HALF_LIFE_DAYS);
}
