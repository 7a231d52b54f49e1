/**
 * A model that fits on no single machine, laid over several by the product's layout planner: for the shortest request that still serves
 * the demand, counting on no machine for longer than its forecast. The layout stays until it is broken or something better is worth
 * the move.
 *
 * | situation                                  | sticky                                       | not sticky     |
 * | ------------------------------------------ | -------------------------------------------- | -------------- |
 * | a machine of it was lost                   | repaired around those that stayed            | planned anew   |
 * | no layout, or none that a repair can mend  | planned anew                                 | planned anew   |
 * | its time has come (`REPLAN_MS`)            | planned; taken when `acceptPlan` takes it    | planned, taken |
 */
import type { Cluster, Layout } from "../../../domain/cluster.ts";
import { acceptPlan } from "../../../scheduler/layout/accept-plan.ts";
import { clusterTables } from "../../../scheduler/layout/cluster-tables.ts";
import { denseIntervals } from "../../../scheduler/layout/flow.ts";
import { LayoutScore } from "../../../scheduler/layout/layout-score.ts";
import { DEFAULT_GOALS, DEFAULT_RULES, type PlanGoals } from "../../../scheduler/layout/plan-goals.ts";
import { planLayout } from "../../../scheduler/layout/plan-layout.ts";
import { repairLayout } from "../../../scheduler/layout/repair-layout.ts";
import type { GridNode, StagePlan } from "../grid/grid-parts.ts";
import { layersThatFit, usableBytesOf } from "../grid/stage-speed.ts";
import { type ChainNode, clusterOf } from "./chain-cluster.ts";
import type { GridFacts } from "./policy.ts";
import type { SimModel } from "./served-mix.ts";

/** Layouts that one plan may look at: with as many machines about 100 ms of CPU. */
const EVALUATIONS = 500;
/** Machines that one plan may choose from: those of the layout in force, then those that hold most for longest. */
const CHOICES_MAX = 14;
const REPLAN_MS = 3_600_000;
/** A grid without a layout that could be made is asked again after so long, or when another machine came. */
const RETRY_MS = 600_000;
/** Tokens are planned for with this much room above the mean demand. */
const DEMAND_HEADROOM = 1.5;
/** Of a model that nobody asked for lately. */
const DEMAND_MIN_TOK_PER_SECOND = 2;
/** What others lose by a machine: in the planner's score about a second of a mean request's time for each. */
const PRICE_MICRO_USD_PER_HOUR = 2_500;
/** A machine of the layout in force is chosen from before others. */
const HELD_BONUS = 1_000;

export interface ChainRules {
  readonly staysPerHour: (node: GridNode) => number;
  readonly isSticky: boolean;
}

export class ChainedModel {
  readonly model: number;
  readonly #rules: ChainRules;
  #layout: Layout = new Map();
  #plannedAtMs = Number.NEGATIVE_INFINITY;
  /** How many machines the last plan that found nothing had to choose from. */
  #hopelessWith: number | null = null;

  constructor(model: number, rules: ChainRules) {
    this.model = model;
    this.#rules = rules;
  }

  get isLaid(): boolean {
    return this.#layout.size > 0;
  }

  /** It is not needed any more. */
  release(): void {
    this.#layout = new Map();
    this.#hopelessWith = null;
  }

  /** Machines of the layout in force that are there. */
  kept(facts: GridFacts): ReadonlySet<number> {
    if (!this.#rules.isSticky) return new Set();
    const up = facts.nodes.filter(({ isUp, draw }) => isUp && this.#layout.has(draw.name));
    return new Set(up.map(({ index }) => index));
  }

  /** What each machine that it uses shall hold; `taken` are used by others. */
  plan(facts: GridFacts, taken: ReadonlySet<number>): ReadonlyMap<number, StagePlan> {
    const spec = facts.scenario.models[this.model];
    const free = facts.nodes.filter((node) => node.isUp && !taken.has(node.index));
    const byName = new Map(free.map((node) => [node.draw.name, node]));
    if (spec !== undefined) this.#update(facts, { spec, free, byName });
    const wanted = new Map<number, StagePlan>();
    for (const [name, { first, end }] of this.#layout) {
      const node = byName.get(name);
      if (node === undefined) continue;
      wanted.set(node.index, { model: this.model, first, end, memoryBytes: usableBytesOf(node.draw.gpu) });
    }
    return wanted;
  }

  #update(
    facts: GridFacts,
    on: {
      readonly spec: SimModel;
      readonly free: readonly GridNode[];
      readonly byName: ReadonlyMap<string, GridNode>;
    },
  ): void {
    const { spec, free, byName } = on;
    const lost = [...this.#layout.keys()].filter((name) => !byName.has(name));
    const sinceMs = facts.nowMs - this.#plannedAtMs;
    const isNone = this.#layout.size === 0;
    if (isNone && this.#hopelessWith !== null && free.length <= this.#hopelessWith && sinceMs < RETRY_MS) return;
    if (!isNone && lost.length === 0 && sinceMs < REPLAN_MS) return;
    const cluster = this.#cluster(facts, spec, free);
    const goals = this.#goals(facts);
    if (lost.length > 0 && this.#rules.isSticky) {
      const repaired = repairLayout({ layout: this.#layout, lostNodes: lost, cluster, goals });
      if (repaired.isServing) {
        this.#layout = repaired.layout;
        return;
      }
    }
    this.#replan(facts.nowMs, cluster, goals);
    this.#hopelessWith = this.#layout.size === 0 ? free.length : null;
  }

  #replan(nowMs: number, cluster: Cluster, goals: Partial<PlanGoals>): void {
    const here = new Set(cluster.nodes.map(({ id }) => id));
    const kept: Layout = new Map([...this.#layout].filter(([name]) => here.has(name)));
    const previous = this.#rules.isSticky && kept.size > 0 ? kept : null;
    this.#plannedAtMs = nowMs;
    const planned = planLayout({ cluster, goals, previous, evaluationsMax: EVALUATIONS });
    if (!planned.ok) {
      this.#layout = kept;
      return;
    }
    const { layout, parts } = planned.value;
    if (previous !== null && !this.#isWorthIt({ previous, layout, parts, cluster, goals })) return;
    this.#layout = layout;
  }

  #isWorthIt(of: {
    readonly previous: Layout;
    readonly layout: Layout;
    readonly parts: { readonly score: number; readonly serving: { readonly decodeTokensPerSecond: number } };
    readonly cluster: Cluster;
    readonly goals: Partial<PlanGoals>;
  }): boolean {
    const { previous, layout, parts, cluster, goals } = of;
    const tables = clusterTables(cluster);
    const scoring = new LayoutScore(tables, { ...DEFAULT_GOALS, ...goals }, DEFAULT_RULES);
    const old = scoring.parts(denseIntervals(tables, previous));
    const inForce = (one: typeof parts, of: Layout) => ({
      layout: of,
      score: one.score,
      decodeTokensPerSecond: one.serving.decodeTokensPerSecond,
    });
    const plans = { old: inForce(old, previous), new: inForce(parts, layout) };
    return acceptPlan(plans, { cluster, horizonHours: DEFAULT_GOALS.horizonHours }).isAccepted;
  }

  #goals(facts: GridFacts): Partial<PlanGoals> {
    const asked = facts.demand()[this.model]?.outputTokensPerSecond ?? 0;
    return {
      objective: "latency",
      demandTokensPerSecond: DEMAND_HEADROOM * Math.max(DEMAND_MIN_TOK_PER_SECOND, asked),
    };
  }

  #cluster(facts: GridFacts, spec: SimModel, free: readonly GridNode[]): Cluster {
    const demand = facts.demand()[this.model] ?? NO_DEMAND;
    const nodes = this.#choices(free, spec).map(
      (node): ChainNode => ({
        node,
        survivalPerHour: this.#rules.staysPerHour(node),
        priceMicroUsdPerHour: PRICE_MICRO_USD_PER_HOUR,
      }),
    );
    return clusterOf(facts.scenario, spec, { nodes, demand });
  }

  #choices(free: readonly GridNode[], spec: SimModel): readonly GridNode[] {
    const weighed = free.flatMap((node) => {
      const layers = layersThatFit(node.draw.gpu, spec);
      if (layers === 0) return [];
      const held = this.#rules.isSticky && this.#layout.has(node.draw.name) ? HELD_BONUS : 1;
      return [{ node, weight: layers * this.#rules.staysPerHour(node) * held }];
    });
    weighed.sort((a, b) => b.weight - a.weight || a.node.index - b.node.index);
    return weighed.slice(0, CHOICES_MAX).map(({ node }) => node);
  }
}

const NO_DEMAND = {
  requestsPerSecond: 0,
  outputTokensPerSecond: 0,
  promptTokensMean: 1_000,
  outputTokensMean: 200,
  tierShares: { priority: 0, default: 0, flex: 0 },
  waiting: 0,
};
