/**
 * Among layouts that the score cannot tell apart, the one with more flow. The serving model is an estimate with an error of its own
 * (docs/planner.md has it measured), the flow by profiled rates is another view of the same cluster; where the first does not decide,
 * the second does, and a plan that could be proven best by it is found.
 */
import { anneal, type Found, type Judge } from "./anneal.ts";
import type { ClusterTables } from "./cluster-tables.ts";
import type { DenseIntervals } from "./flow.ts";
import type { LayoutScore } from "./layout-score.ts";
import type { MoveContext } from "./moves.ts";

/** Layouts within this share of the best score count as equal to it. */
export const EQUAL_SHARE = 0.01;

/** The layout with most flow found among those as good as `best`; `starts` are looked at first. */
export function preferFlow(
  score: LayoutScore,
  context: MoveContext,
  work: { best: Found; starts: readonly Found[]; evaluations: number },
): Found {
  const floor = work.best.score - EQUAL_SHARE * Math.abs(work.best.score);
  const judge = new FlowAmongEquals(score, floor);
  let from = { draft: work.best.draft, score: judge.score(work.best.draft) };
  for (const start of work.starts) {
    const flow = start.score >= floor ? judge.score(start.draft) : Number.NEGATIVE_INFINITY;
    if (flow > from.score) from = { draft: start.draft, score: flow };
  }
  const found = anneal(judge, context, { draft: from.draft, evaluations: work.evaluations });
  return { draft: found.draft, score: score.score(found.draft) };
}

class FlowAmongEquals implements Judge {
  readonly tables: ClusterTables;
  readonly #score: LayoutScore;
  readonly #floor: number;

  constructor(score: LayoutScore, floor: number) {
    this.tables = score.tables;
    this.#score = score;
    this.#floor = floor;
  }

  score(draft: DenseIntervals): number {
    if (this.#score.scoreIfAtLeast(draft, this.#floor) === null) return Number.NEGATIVE_INFINITY;
    return this.#score.flow(draft);
  }

  scoreIfAtLeast(draft: DenseIntervals, threshold: number): number | null {
    const flow = this.#score.flow(draft);
    if (flow < threshold || this.#score.scoreIfAtLeast(draft, this.#floor) === null) return null;
    return flow;
  }
}
