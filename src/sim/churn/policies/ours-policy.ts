/**
 * Our policies: the product's layout planner for models that need a chain, its placement planner for the others, its survival forecast
 * for both and for the way of each request. Ablations take the forecast away, or the memory of what is already there.
 */

import type { GridNode, Hop, Running, StagePlan } from "../grid/grid-parts.ts";
import { layersThatFit } from "../grid/stage-speed.ts";
import type { Scenario } from "../scenario/scenario.ts";
import { ChainedModel } from "./chained-model.ts";
import { NodeOutlook } from "./node-outlook.ts";
import { routeOurs } from "./ours-route.ts";
import type { ChurnPolicy, GridFacts } from "./policy.ts";
import { HORIZON_MS, planWholeModels } from "./whole-models.ts";

const HOUR_MS = 3_600_000;
/** The product plans after each change, no two plans within so long. */
const PLAN_DELAY_MS = 250;
const PLAN_EVERY_MS = 60_000;
/** Without stickiness each plan is made from nothing: less often, or machines would never come to serve. */
const PLAN_FREELY_EVERY_MS = 300_000;

const CHAINS_FIRST_EVERY_MS = 300_000;

export class OursPolicy implements ChurnPolicy {
  readonly replaysLostStagesOnly = false;
  readonly planEveryMs: number;
  readonly planDelayMs = PLAN_DELAY_MS;
  #nowMs = 0;
  readonly #outlook: NodeOutlook;
  readonly #isSticky: boolean;
  #chainsFirstAtMs = Number.NEGATIVE_INFINITY;
  readonly #chained: readonly ChainedModel[];
  readonly #whole: readonly number[];
  /** Chains for models that fit on one machine, while no such machine is there. */
  readonly #standIns: readonly ChainedModel[];

  constructor(scenario: Scenario, options: { readonly usesSurvival: boolean; readonly isSticky: boolean }) {
    const { startHourOfWeekUtc, models, nodes } = scenario;
    this.#outlook = new NodeOutlook({ startHourOfWeekUtc, isOff: !options.usesSurvival });
    this.#isSticky = options.isSticky;
    this.planEveryMs = options.isSticky ? PLAN_EVERY_MS : PLAN_FREELY_EVERY_MS;
    const isWhole = (model: number) => {
      const spec = models[model];
      return spec !== undefined && nodes.some(({ gpu }) => layersThatFit(gpu, spec) === spec.layerCount);
    };
    const all = models.map((_, model) => model);
    const rules = { isSticky: options.isSticky, staysPerHour: (node: GridNode) => this.#stays(node, HOUR_MS) };
    this.#whole = all.filter(isWhole);
    this.#chained = all.filter((model) => !isWhole(model)).map((model) => new ChainedModel(model, rules));
    this.#standIns = this.#whole.map((model) => new ChainedModel(model, rules));
  }

  observe(node: GridNode, transition: "up" | "left", atMs: number): void {
    this.#nowMs = atMs;
    this.#outlook.observe(node, transition, atMs);
  }

  plan(facts: GridFacts): ReadonlyMap<number, readonly StagePlan[]> {
    this.#nowMs = facts.nowMs;
    const up = facts.nodes.filter((node) => node.isUp);
    this.#layChainsFirst(facts);
    const standing = this.#standIns.filter((one) => one.isLaid && !hasReadyWhole(facts, one.model));
    const chained = new Set([...this.#chained, ...standing].flatMap((one) => [...one.kept(facts)]));
    // A model that fits on one machine comes first: where the chains leave it none, it takes one of theirs.
    const apart = this.#wholeOn(
      facts,
      up.filter(({ index }) => !chained.has(index)),
    );
    const whole = this.#shortOf(apart).length > 0 ? this.#wholeOn(facts, up) : apart;
    const short = this.#shortOf(whole);
    const wanted = new Map(whole);
    const taken = new Set([...whole].flatMap(([index, stages]) => (stages.length > 0 ? [index] : [])));
    for (const one of this.#standIns) if (!short.includes(one.model) && !standing.includes(one)) one.release();
    const inUse = this.#standIns.filter((one) => short.includes(one.model) || standing.includes(one));
    for (const one of [...this.#chained, ...inUse]) {
      for (const [index, stage] of one.plan(facts, taken)) {
        wanted.set(index, [stage]);
        taken.add(index);
      }
    }
    return wanted;
  }

  /**
   * A chain that found no machines is planned before the others now and then: they may do with fewer. Where that leaves one of them
   * without a machine, it takes one back in the same plan.
   */
  #layChainsFirst(facts: GridFacts): void {
    const without = this.#chained.filter((one) => !one.isLaid);
    if (without.length === 0 || facts.nowMs - this.#chainsFirstAtMs < CHAINS_FIRST_EVERY_MS) return;
    this.#chainsFirstAtMs = facts.nowMs;
    for (const one of without) one.plan(facts, new Set());
  }

  #wholeOn(facts: GridFacts, nodes: readonly GridNode[]): ReadonlyMap<number, readonly StagePlan[]> {
    const rules = { isSticky: this.#isSticky, stays: (node: GridNode) => this.#stays(node, HORIZON_MS) };
    return planWholeModels(facts, { nodes, models: this.#whole, rules });
  }

  /** Models that fit on some machine, and on none of those that are there and free. */
  #shortOf(wanted: ReadonlyMap<number, readonly StagePlan[]>): readonly number[] {
    const placed = new Set([...wanted.values()].flatMap((stages) => stages.map(({ model }) => model)));
    return this.#whole.filter((model) => !placed.has(model));
  }

  route(running: Running, facts: GridFacts): readonly Hop[] | null {
    this.#nowMs = facts.nowMs;
    return routeOurs(running, facts, (node) => this.#stays(node, HOUR_MS));
  }

  #stays(node: GridNode, horizonMs: number): number {
    return this.#outlook.stays(node, this.#nowMs, horizonMs);
  }
}

function hasReadyWhole({ nodes, scenario }: GridFacts, model: number): boolean {
  const end = scenario.models[model]?.layerCount;
  return nodes.some(({ stages }) =>
    stages.some((stage) => stage.model === model && stage.state === "ready" && stage.first === 0 && stage.end === end),
  );
}
