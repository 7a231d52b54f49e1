/** All constructions of one cluster, laid, scored and the best of each kept: where the search starts from. */
import type { Layout } from "../../domain/cluster.ts";
import { equalStageDrafts } from "./construct-equal-stages.ts";
import { linkedChainDrafts } from "./construct-linked-chains.ts";
import { coarser, draftOf, nearPlans, REGIONS_MAX, type RegionPlan, regionPlans } from "./construct-regions.ts";
import { weakestWindowDraft } from "./construct-weakest-window.ts";
import { copyDraft, type Draft, draftKey, emptyDraft, isWithinLimits } from "./draft.ts";
import { forEachLayout, layoutCount } from "./enumerate-layouts.ts";
import { denseIntervals } from "./flow.ts";
import type { LayoutScore } from "./layout-score.ts";
import { pairSeconds, type RegionGrouping } from "./regions.ts";
import type { SearchRandom } from "./search-random.ts";

export interface Candidate {
  readonly construction: string;
  readonly draft: Draft;
  readonly score: number;
}

/** A grouping of more regions than this says that the cluster has none; joining them looks at each pair. */
const REGIONS_JOINED_MAX = 500;

interface PortfolioWork {
  readonly groupings: readonly RegionGrouping[];
  readonly random: SearchRandom;
  readonly previous: Layout | null;
  readonly evaluations: number;
}

/** The construction that leaves nothing to improve. */
export const ALL_LAYOUTS = "all-layouts";
/** Candidates that are kept. */
const CANDIDATES_MAX = 24;
const EQUAL_STAGES_MAX = 64;
/** Region plans whose neighbours are looked at, and how often. */
const CLIMBERS = 5;
const CLIMB_ROUNDS = 4;
/** Share of the looks that go to enumerating region plans; climbing takes what it needs of the rest. */
const ENUMERATION_SHARE = 0.5;

/** Best first; empty when no construction lets a request through. */
export function constructions(score: LayoutScore, work: PortfolioWork): Candidate[] {
  const pool = new CandidatePool(score);
  for (const [construction, draft] of plainDrafts(score, work)) pool.add(construction, draft);
  calibrateResidence(score, pool);
  for (const grouping of work.groupings) addRegionPlans(score, pool, { ...work, grouping });
  calibrateResidence(score, pool);
  addAllLayouts(score, pool, work.evaluations);
  return pool.best();
}

/** The best of all layouts when there are few enough to look at each. */
function addAllLayouts(score: LayoutScore, pool: CandidatePool, evaluations: number): void {
  if (layoutCount(score.tables) > evaluations) return;
  let best = Number.NEGATIVE_INFINITY;
  let bestDraft: Draft | null = null;
  forEachLayout(score.tables, (draft) => {
    const found = score.scoreIfAtLeast(draft, best);
    if (found === null || found <= best) return;
    best = found;
    bestDraft = copyDraft(draft);
  });
  if (bestDraft !== null) pool.keep({ construction: ALL_LAYOUTS, draft: bestDraft, score: best });
}

function plainDrafts(score: LayoutScore, work: PortfolioWork): [string, Draft][] {
  const { tables } = score;
  const nodes = tables.nodes.map((_, node) => node);
  const drafts: [string, Draft][] = [["whole-model", wholeModelDraft(score)]];
  for (const draft of equalStageDrafts(tables, nodes, EQUAL_STAGES_MAX)) drafts.push(["equal-stages", draft]);
  const strongest = nodes
    .map((node) => ({ node, held: tables.layersMax[node] ?? 0 }))
    .sort((a, b) => b.held - a.held || a.node - b.node);
  drafts.push(["weakest-window", weakestWindowDraft(tables, strongest)]);
  for (const draft of linkedChainDrafts(tables, work.random)) drafts.push(["linked-chains", draft]);
  if (work.previous !== null) drafts.push(["previous", { ...denseIntervals(tables, work.previous) }]);
  return drafts;
}

/** Every node that can hold the model whole does. */
function wholeModelDraft(score: LayoutScore): Draft {
  const { tables } = score;
  const draft = emptyDraft(tables.nodeCount);
  for (let node = 0; node < tables.nodeCount; node++) {
    if ((tables.layersMax[node] ?? 0) >= tables.layerCount) draft.end[node] = tables.layerCount;
  }
  return draft;
}

function addRegionPlans(
  score: LayoutScore,
  pool: CandidatePool,
  work: PortfolioWork & { grouping: RegionGrouping },
): void {
  const { tables } = score;
  if (work.grouping.count > REGIONS_JOINED_MAX) return;
  const grouping =
    work.grouping.count <= REGIONS_MAX
      ? work.grouping
      : coarser(work.grouping, {
          countMax: REGIONS_MAX,
          distance: (a, b) => regionDistance(score, work.grouping, { a, b }),
        });
  const countMax = Math.ceil((work.evaluations * ENUMERATION_SHARE) / work.groupings.length);
  const tried: { plan: RegionPlan; score: number }[] = [];
  const look = (plan: RegionPlan): number => {
    const draft = draftOf(tables, grouping, plan);
    if (draft === null) return Number.NEGATIVE_INFINITY;
    return pool.add(`regions-${grouping.count}`, draft);
  };
  for (const plan of regionPlans(tables, grouping, { countMax, random: work.random })) {
    tried.push({ plan, score: look(plan) });
  }
  tried.sort((a, b) => b.score - a.score);
  const climbed = new Set<string>();
  for (const start of tried) {
    if (climbed.size >= CLIMBERS) break;
    const shape = start.plan.runOf.join();
    if (start.score === Number.NEGATIVE_INFINITY || climbed.has(shape)) continue;
    climbed.add(shape);
    climb(start, { look, near: (plan) => nearPlans(tables, grouping, plan) });
  }
}

/** Steepest ascent over neighbouring plans. */
function climb(
  start: { plan: RegionPlan; score: number },
  how: { look: (plan: RegionPlan) => number; near: (plan: RegionPlan) => RegionPlan[] },
): void {
  let best = start;
  for (let round = 0; round < CLIMB_ROUNDS; round++) {
    const before = best;
    for (const plan of how.near(before.plan)) {
      const score = how.look(plan);
      if (score > best.score) best = { plan, score };
    }
    if (best === before) return;
  }
}

function regionDistance(score: LayoutScore, grouping: RegionGrouping, pair: { a: number; b: number }): number {
  const { tables } = score;
  let sum = 0;
  let pairs = 0;
  for (let from = 0; from < tables.nodeCount; from++) {
    if (grouping.regionOf[from] !== pair.a) continue;
    for (let to = 0; to < tables.nodeCount; to++) {
      if (grouping.regionOf[to] !== pair.b) continue;
      const seconds = pairSeconds(tables, { from, to });
      if (seconds === Number.POSITIVE_INFINITY) continue;
      sum += seconds;
      pairs += 1;
    }
  }
  return pairs === 0 ? Number.MAX_VALUE : sum / pairs;
}

/** Take from the best layout so far how long requests stay, and score all again by it. */
function calibrateResidence(score: LayoutScore, pool: CandidatePool): void {
  const [best] = pool.best();
  if (best === undefined) return;
  score.model.calibrate(best.draft);
  pool.scoreAgain();
}

class CandidatePool {
  readonly #score: LayoutScore;
  #kept: Candidate[] = [];
  readonly #keys = new Set<string>();

  constructor(score: LayoutScore) {
    this.#score = score;
  }

  /** Answers the score. */
  add(construction: string, draft: Draft): number {
    const key = draftKey(draft);
    if (this.#keys.has(key) || !isWithinLimits(this.#score.tables, draft)) return Number.NEGATIVE_INFINITY;
    this.#keys.add(key);
    const score = this.#score.score(draft);
    if (score === Number.NEGATIVE_INFINITY) return score;
    this.#kept.push({ construction, draft, score });
    if (this.#kept.length > 4 * CANDIDATES_MAX) this.#kept = this.best();
    return score;
  }

  /** Best first; the best of each construction is always among them. */
  best(): Candidate[] {
    this.#kept.sort((a, b) => b.score - a.score);
    const seen = new Set<string>();
    return this.#kept.filter(({ construction }, at) => {
      const isFirstOfItsKind = !seen.has(construction);
      seen.add(construction);
      return at < CANDIDATES_MAX || isFirstOfItsKind;
    });
  }

  /** Also what was met before and dropped when it was scored by another calibration. */
  keep(candidate: Candidate): void {
    this.#kept.push(candidate);
  }

  scoreAgain(): void {
    this.#kept = this.best().map(({ construction, draft }) => ({
      construction,
      draft,
      score: this.#score.score(draft),
    }));
  }
}
