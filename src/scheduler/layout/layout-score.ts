/**
 * The one number by which layouts are compared, in generated tokens per second (objective `throughput`) or in seconds of a mean
 * request, negative (objective `latency`):
 *
 *   served value, less what is lost and done twice when nodes leave, less what nodes and their carbon cost, less what loading takes,
 *   less a trifle for replicas of a stage that one owner or network could take away together.
 *
 * A layout that breaks a rule of ways (hops) scores below every one that keeps it, by how much it breaks it, so that the search
 * can find its way out.
 */
import type { ClusterTables } from "./cluster-tables.ts";
import { heldBy } from "./draft.ts";
import { type DenseIntervals, upperBoundOf } from "./flow.ts";
import { brokenRules, sharedDomainStages } from "./layout-rules.ts";
import type { PlanGoals, PlanRules } from "./plan-goals.ts";
import { type ServingEstimate, ServingModel } from "./serving-model.ts";
import { coverageSurvival, hasChurn } from "./survival.ts";

/** Below any score that a layout without a broken rule can have. */
const BROKEN_RULE = 1e6;
/** Share of the served value that a stage costs whose replicas all share an owner or a network: decides between equals. */
const SHARED_DOMAIN_SHARE = 0.005;
/** Share of the throughput bound at which the latency objective looks, when no demand is given: a lightly loaded cluster. */
const LIGHT_LOAD_SHARE = 0.1;
const SECONDS_PER_HOUR = 3600;
/** A node that is sure to leave leaves within some minutes. */
const SURVIVAL_MIN = 1e-6;

export interface ScoreParts {
  readonly score: number;
  readonly serving: ServingEstimate;
  readonly survival: number;
  /** Tokens per second that prices and carbon are worth. */
  readonly costTokensPerSecond: number;
  readonly sharedDomainStages: number;
  readonly brokenRules: number;
}

/** How far a search had come when it found something better. */
export interface SearchStep {
  readonly evaluations: number;
  readonly score: number;
}

export class LayoutScore {
  readonly tables: ClusterTables;
  readonly model: ServingModel;
  readonly goals: PlanGoals;
  readonly rules: PlanRules;
  readonly #hasChurn: boolean;
  readonly #lightRate: number;
  /** Layouts that were looked at; the search's budget is counted in these. */
  evaluations = 0;
  /** Told of each layout that the search likes better than all before. */
  onImproved: ((step: SearchStep) => void) | null = null;
  #bestScore = Number.NEGATIVE_INFINITY;

  constructor(tables: ClusterTables, goals: PlanGoals, rules: PlanRules) {
    this.tables = tables;
    this.goals = goals;
    this.rules = rules;
    this.model = new ServingModel(tables, {
      isPartialAllowed: rules.isPartialAllowed,
      verificationShare: goals.verificationShare,
    });
    this.#hasChurn = hasChurn(tables);
    const { promptTokensMean, outputTokensMean } = tables.cluster.model;
    const outputShare = outputTokensMean / (promptTokensMean + outputTokensMean);
    this.#lightRate = goals.demandTokensPerSecond ?? upperBoundOf(tables) * outputShare * LIGHT_LOAD_SHARE;
  }

  /** The search says what it holds; what is better than all before is passed on. */
  found(score: number): void {
    if (score <= this.#bestScore) return;
    this.#bestScore = score;
    this.onImproved?.({ evaluations: this.evaluations, score });
  }

  score(draft: DenseIntervals): number {
    this.evaluations += 1;
    if (this.goals.objective === "flow") return this.#flowScore(draft);
    const room = this.model.prepare(draft);
    if (room <= 0) return Number.NEGATIVE_INFINITY;
    return this.#scoreFrom(draft, 0);
  }

  /** The score when it is at least `threshold`, null otherwise; far cheaper than `score` for layouts that fall short. */
  scoreIfAtLeast(draft: DenseIntervals, threshold: number): number | null {
    if (this.goals.objective === "flow") {
      const flow = this.score(draft);
      return flow >= threshold ? flow : null;
    }
    this.evaluations += 1;
    const room = this.model.prepare(draft);
    if (room <= 0) return null;
    if (this.goals.objective === "latency") {
      const score = this.#scoreFrom(draft, 0);
      return score >= threshold ? score : null;
    }
    const { kept, cost, broken } = this.#weights(draft);
    const needed = (threshold + cost + BROKEN_RULE * broken) / kept;
    const demand = this.goals.demandTokensPerSecond ?? Number.POSITIVE_INFINITY;
    if (needed > demand || (needed > 0 && !this.model.serves(needed))) return null;
    const score = this.#scoreFrom(draft, Math.max(0, needed));
    return score >= threshold ? score : null;
  }

  parts(draft: DenseIntervals): ScoreParts {
    const score = this.score(draft);
    const { survival, cost, shared, broken } = this.#weights(draft);
    return {
      score,
      serving: this.model.estimate(draft),
      survival,
      costTokensPerSecond: cost,
      sharedDomainStages: shared,
      brokenRules: broken,
    };
  }

  /** The layout's flow by Helix's measure, nothing derated. */
  flow(draft: DenseIntervals): number {
    return this.model.network.solve(draft, { isPartialAllowed: this.rules.isPartialAllowed });
  }

  #flowScore(draft: DenseIntervals): number {
    const flow = this.flow(draft);
    return flow <= 0
      ? Number.NEGATIVE_INFINITY
      : flow - BROKEN_RULE * brokenRules(this.model.network, draft, this.rules);
  }

  /** Of the layout last prepared, which serves at least `low`. */
  #scoreFrom(draft: DenseIntervals, low: number): number {
    const { kept, cost, broken } = this.#weights(draft);
    const penalty = cost + BROKEN_RULE * broken;
    if (this.goals.objective === "throughput") {
      const demand = this.goals.demandTokensPerSecond ?? Number.POSITIVE_INFINITY;
      const rate = Math.min(demand, this.model.serves(demand) ? demand : this.model.rateInFullRoom(low));
      return rate * kept * this.#answersKept(draft, rate) - penalty;
    }
    const seconds = this.model.lightRequestSeconds(this.#lightRate);
    // What the nodes cost beside what the light load earns, as a share: seconds and money have no common unit of their own.
    const costShare = cost / this.#lightRate;
    if (seconds < Number.POSITIVE_INFINITY) return (-seconds / kept) * (1 + costShare) - BROKEN_RULE * broken;
    // Not even the light load: below all that serve it, better the nearer it comes.
    return this.model.rateInFullRoom() - this.#lightRate - BROKEN_RULE - penalty;
  }

  /**
   * Share of the work that is not done twice: an answer whose way loses one of its nodes is computed again on all of it. So of two
   * layouts that serve the demand the one with the shorter ways wins where nodes come and go.
   */
  #answersKept(draft: DenseIntervals, rate: number): number {
    if (!this.#hasChurn || rate <= 0) return 1;
    let used = 0;
    let lossesPerHour = 0;
    for (const [node, { survivalPerHour }] of this.tables.nodes.entries()) {
      if (heldBy(draft, node) === 0) continue;
      used += 1;
      lossesPerHour -= Math.log(Math.max(survivalPerHour, SURVIVAL_MIN));
    }
    const hoursOfNodes = (this.model.hopsMean * this.model.requestSecondsAt(rate)) / SECONDS_PER_HOUR;
    return Math.exp((-lossesPerHour / Math.max(1, used)) * hoursOfNodes);
  }

  #weights(draft: DenseIntervals): { kept: number; survival: number; cost: number; shared: number; broken: number } {
    const { goals, rules, tables } = this;
    const survival = this.#hasChurn ? coverageSurvival(tables, draft, goals.horizonHours) : 1;
    const shared = sharedDomainStages(tables, draft);
    const kept = Math.max(
      Number.EPSILON,
      (1 - goals.lossAversion * (1 - survival)) * (1 - Math.min(0.5, SHARED_DOMAIN_SHARE * shared)),
    );
    return { kept, survival, shared, cost: this.#cost(draft), broken: brokenRules(this.model.network, draft, rules) };
  }

  /** Prices and carbon of the nodes used, in generated tokens per second that would pay for them. */
  #cost(draft: DenseIntervals): number {
    let microUsdPerHour = 0;
    for (const [node, { priceMicroUsdPerHour, gramsCo2PerHour }] of this.tables.nodes.entries()) {
      if (heldBy(draft, node) === 0) continue;
      microUsdPerHour += priceMicroUsdPerHour + gramsCo2PerHour * this.goals.carbonMicroUsdPerGram;
    }
    const microUsdPerToken = this.goals.valueMicroUsdPerMtok / 1e6;
    return microUsdPerHour === 0 ? 0 : microUsdPerHour / SECONDS_PER_HOUR / microUsdPerToken;
  }
}
