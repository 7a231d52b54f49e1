/** A grid run by Petals' rules: `petals-rule.ts` places, the shortest path routes; survival has no say. */
import { type GridNode, type Hop, hopLayers, type Running, type Stage, type StagePlan } from "../grid/grid-parts.ts";
import { kvNeed } from "../grid/request-flow.ts";
import { hopTransferMs } from "../grid/request-progress.ts";
import { layersThatFit, SEQUENCES_MAX, stepMs, usableBytesOf } from "../grid/stage-speed.ts";
import { rttToCoordinator } from "../scenario/scenario.ts";
import { BALANCE_QUALITY, betterStart, blockThroughputs, least, type Span, weakestWindow } from "./petals-rule.ts";
import type { ChurnPolicy, GridFacts, PlanCause } from "./policy.ts";
import { routeOver } from "./route-over.ts";
import type { SimModel } from "./served-mix.ts";

/** Petals' own period of asking whether to move. */
const BALANCE_EVERY_MS = 60_000;
/** Petals adds this to each server's round trip. */
const SERVER_OVERHEAD_MS = 18;
/** Longest path: a model of 80 layers over machines that hold few. */
const HOPS_MAX = 32;
/** A model that nobody asked for lately still counts as so much. */
const DEMAND_MIN_TOK_PER_SECOND = 0.5;

interface Membership {
  readonly model: number;
  readonly span: Span;
}

export class PetalsPolicy implements ChurnPolicy {
  readonly replaysLostStagesOnly = true;
  readonly planEveryMs = BALANCE_EVERY_MS;
  readonly planDelayMs = 0;
  readonly #members = new Map<number, Membership>();

  observe(node: GridNode, transition: "up" | "left"): void {
    if (transition === "left") this.#members.delete(node.index);
  }

  plan(facts: GridFacts, cause: PlanCause): ReadonlyMap<number, readonly StagePlan[]> {
    const wanted = new Map<number, readonly StagePlan[]>();
    if (cause.kind === "joined" && cause.node.isUp) this.#join(facts, cause.node, wanted);
    if (cause.kind !== "tick") return wanted;
    for (const node of facts.nodes) {
      if (!node.isUp) continue;
      if (this.#members.has(node.index)) this.#balance(facts, node, wanted);
      else this.#join(facts, node, wanted);
    }
    return wanted;
  }

  route(running: Running, facts: GridFacts): readonly Hop[] | null {
    const { scenario } = facts;
    const { draw } = running;
    const need = kvNeed(draw);
    const stages: Stage[] = [];
    for (const node of facts.nodes) {
      for (const stage of node.stages) {
        if (stage.model !== draw.model || stage.state !== "ready" || stage.isClosed) continue;
        if (stage.sequences.size < SEQUENCES_MAX && stage.kvTokens + need <= stage.kvTokensMax) stages.push(stage);
      }
    }
    const layerCount = scenario.models[draw.model]?.layerCount ?? 0;
    return routeOver(stages, layerCount, {
      hop: (before, hop) => {
        const { node, spec } = hop.stage;
        const networkMs =
          before === null
            ? rttToCoordinator(scenario, node.draw) / 2
            : hopTransferMs(scenario, { from: before.node, to: node, bytes: spec.activationBytes });
        return networkMs + SERVER_OVERHEAD_MS + stepMs(node.draw.gpu, spec, { layers: hopLayers(hop), sequences: 1 });
      },
      last: (stage) => rttToCoordinator(scenario, stage.node.draw) / 2,
      hopsMax: HOPS_MAX,
    });
  }

  #join(facts: GridFacts, node: GridNode, wanted: Map<number, readonly StagePlan[]>): void {
    const choices = facts.scenario.models.flatMap((spec, model) => {
      const length = layersThatFit(node.draw.gpu, spec);
      if (length === 0) return [];
      const sums = blockThroughputs(this.#spansOf(model).values(), spec.layerCount);
      return [{ model, spec, length, sums, ratio: least(sums) / demandOf(facts, model) }];
    });
    let best = choices[0];
    for (const choice of choices) if (best === undefined || choice.ratio < best.ratio) best = choice;
    if (best === undefined) return;
    const { model, spec, length, sums } = best;
    this.#place(node, { model, spec, first: weakestWindow(sums, length), length }, wanted);
  }

  #place(
    node: GridNode,
    at: { model: number; spec: SimModel; first: number; length: number },
    wanted: Map<number, readonly StagePlan[]>,
  ): void {
    const { model, spec, first, length } = at;
    this.#members.set(node.index, { model, span: { first, length, throughput: throughputOf(node, spec, length) } });
    wanted.set(node.index, [{ model, first, end: first + length, memoryBytes: usableBytesOf(node.draw.gpu) }]);
  }

  #balance(facts: GridFacts, node: GridNode, wanted: Map<number, readonly StagePlan[]>): void {
    const own = this.#members.get(node.index);
    const spec = own === undefined ? undefined : facts.scenario.models[own.model];
    // A machine that loads has nothing to say about its throughput yet.
    if (own === undefined || spec === undefined || node.stages.some(({ state }) => state !== "ready")) return;
    const start = betterStart(this.#spansOf(own.model), node.index, spec.layerCount);
    if (start !== null) {
      this.#place(node, { model: own.model, spec, first: start, length: own.span.length }, wanted);
      return;
    }
    this.#changeSwarm(facts, { node, own }, wanted);
  }

  /** To the swarm that is shortest of its demand, when that raises the least ratio of all swarms enough. */
  #changeSwarm(
    facts: GridFacts,
    { node, own }: { node: GridNode; own: Membership },
    wanted: Map<number, readonly StagePlan[]>,
  ): void {
    const { models } = facts.scenario;
    const ratio = (model: number, spans: Iterable<Span>) =>
      least(blockThroughputs(spans, models[model]?.layerCount ?? 1)) / demandOf(facts, model);
    const ratios = models.map((_, model) => ratio(model, this.#spansOf(model).values()));
    const poorest = ratios.indexOf(Math.min(...ratios));
    const spec = models[poorest];
    if (spec === undefined || poorest === own.model) return;
    const length = layersThatFit(node.draw.gpu, spec);
    if (length === 0) return;
    const without = [...this.#spansOf(own.model)].filter(([index]) => index !== node.index).map(([, span]) => span);
    const joined = [...this.#spansOf(poorest).values()];
    const first = weakestWindow(blockThroughputs(joined, spec.layerCount), length);
    joined.push({ first, length, throughput: throughputOf(node, spec, length) });
    const after = Math.min(
      ratio(own.model, without),
      ratio(poorest, joined),
      ...ratios.filter((_, model) => model !== own.model && model !== poorest),
    );
    if (after > 0 && Math.min(...ratios) / after < BALANCE_QUALITY) {
      this.#place(node, { model: poorest, spec, first, length }, wanted);
    }
  }

  #spansOf(model: number): ReadonlyMap<number, Span> {
    const spans = new Map<number, Span>();
    const members = [...this.#members].sort(([a], [b]) => a - b);
    for (const [index, member] of members) if (member.model === model) spans.set(index, member.span);
    return spans;
  }
}

/** Output tokens a second that a run of layers gives when it is full. */
function throughputOf(node: GridNode, spec: SimModel, layers: number): number {
  return (1_000 * SEQUENCES_MAX) / stepMs(node.draw.gpu, spec, { layers, sequences: SEQUENCES_MAX });
}

function demandOf(facts: GridFacts, model: number): number {
  return Math.max(DEMAND_MIN_TOK_PER_SECOND, facts.demand()[model]?.outputTokensPerSecond ?? 0);
}
