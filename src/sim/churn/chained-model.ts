/**
 * A model that fits on no single machine, laid over several by the product's layout planner, which plans for the demand and no more,
 * sets a price on each machine for what others lose by it, and counts on no machine for longer than its forecast. The layout stays until
 * it is broken or something better is worth the move.
 *
 * | situation                               | sticky                                   | not sticky       |
 * | --------------------------------------- | ---------------------------------------- | ---------------- |
 * | no layout, or one that cannot be mended | planned anew                             | planned anew     |
 * | a machine of it was lost                | mended around those that stayed          | planned anew     |
 * | `REPLAN_MS` passed                      | planned; taken when the gain beats 5 %   | planned, taken   |
 */
import type { Layout } from "../../domain/cluster.ts";
import { planLayout } from "../../scheduler/layout/plan-layout.ts";
import { type ChainNode, clusterOf } from "./chain-cluster.ts";
import type { GridNode, StagePlan } from "./grid-parts.ts";
import type { GridFacts } from "./policy.ts";
import type { SimModel } from "./served-mix.ts";
import { layersThatFit, usableBytesOf } from "./stage-speed.ts";

/** Layouts that one plan may look at. */
const EVALUATIONS = 600;
/** Machines that one plan may choose from: those that hold most for longest, and those that hold some of it already. */
const CHOICES_MAX = 12;
const REPLAN_MS = 900_000;
/** Without stickiness: at once on a loss, and so often. */
const REPLAN_FREELY_MS = 300_000;
/** Tokens are planned for with this much room above the mean demand. */
const DEMAND_HEADROOM = 1.5;
/** Of a model that nobody asked for lately. */
const DEMAND_MIN_TOK_PER_SECOND = 2;
/** What a machine could earn otherwise: less when nothing runs on it. */
const IDLE_PRICE_MICRO_USD_PER_HOUR = 1_000;
const BUSY_PRICE_MICRO_USD_PER_HOUR = 4_000;
/** A machine of the layout in force is chosen from before others. */
const HELD_BONUS = 10;

export interface ChainRules {
  readonly staysPerHour: (node: GridNode) => number;
  readonly isSticky: boolean;
}

export class ChainedModel {
  readonly #model: number;
  readonly #rules: ChainRules;
  #layout: Layout = new Map();
  #plannedAtMs = Number.NEGATIVE_INFINITY;

  constructor(model: number, rules: ChainRules) {
    this.#model = model;
    this.#rules = rules;
  }

  /** Machines of the layout in force that are there. */
  kept(facts: GridFacts): ReadonlySet<number> {
    if (!this.#rules.isSticky) return new Set();
    const up = facts.nodes.filter(({ isUp, draw }) => isUp && this.#layout.has(draw.name));
    return new Set(up.map(({ index }) => index));
  }

  /** What each machine that it uses shall hold; `taken` are used by others of this kind. */
  plan(facts: GridFacts, taken: ReadonlySet<number>): ReadonlyMap<number, StagePlan> {
    const up = facts.nodes.filter((node) => node.isUp && !taken.has(node.index));
    const byName = new Map(up.map((node) => [node.draw.name, node]));
    const isBroken = this.#layout.size === 0 || [...this.#layout.keys()].some((name) => !byName.has(name));
    const everyMs = this.#rules.isSticky ? REPLAN_MS : REPLAN_FREELY_MS;
    const isDue = facts.nowMs - this.#plannedAtMs >= everyMs;
    if (isBroken || isDue) this.#replan(facts, up);
    const wanted = new Map<number, StagePlan>();
    for (const [name, { first, end }] of this.#layout) {
      const node = byName.get(name);
      if (node === undefined) continue;
      wanted.set(node.index, { model: this.#model, first, end, memoryBytes: usableBytesOf(node.draw.gpu) });
    }
    return wanted;
  }

  #replan(facts: GridFacts, up: readonly GridNode[]): void {
    const spec = facts.scenario.models[this.#model];
    const demand = facts.demand()[this.#model];
    if (spec === undefined || demand === undefined) return;
    const nodes = this.#choices(up, spec).map((node): ChainNode => {
      const isBusy = node.stages.some((stage) => stage.model !== this.#model && stage.sequences.size > 0);
      return {
        node,
        survivalPerHour: this.#rules.staysPerHour(node),
        priceMicroUsdPerHour: isBusy ? BUSY_PRICE_MICRO_USD_PER_HOUR : IDLE_PRICE_MICRO_USD_PER_HOUR,
      };
    });
    const cluster = clusterOf(facts.scenario, spec, { nodes, demand });
    const kept = new Map([...this.#layout].filter(([name]) => up.some(({ draw }) => draw.name === name)));
    const planned = planLayout({
      cluster,
      goals: {
        objective: "latency",
        demandTokensPerSecond: DEMAND_HEADROOM * Math.max(DEMAND_MIN_TOK_PER_SECOND, demand.outputTokensPerSecond),
      },
      previous: this.#rules.isSticky ? kept : null,
      evaluationsMax: EVALUATIONS,
    });
    this.#plannedAtMs = facts.nowMs;
    if (!planned.ok) return;
    this.#layout = planned.value.layout;
  }

  #choices(up: readonly GridNode[], spec: SimModel): readonly GridNode[] {
    const weighed = up.flatMap((node) => {
      const layers = layersThatFit(node.draw.gpu, spec);
      if (layers === 0) return [];
      const held = this.#rules.isSticky && this.#layout.has(node.draw.name) ? HELD_BONUS : 1;
      return [{ node, weight: layers * this.#rules.staysPerHour(node) * held }];
    });
    weighed.sort((a, b) => b.weight - a.weight || a.node.index - b.node.index);
    return weighed.slice(0, CHOICES_MAX).map(({ node }) => node);
  }
}
