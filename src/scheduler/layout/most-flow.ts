/**
 * The layout with the most flow, told beside every plan: it is what published planners maximise, so a plan can be held against them,
 * and how much of it the plan gives up shows what the flow does not know. Nobody serves by it (docs/planner.md says what happened).
 */
import { anneal, type Found, type Judge } from "./anneal.ts";
import type { DenseIntervals } from "./flow.ts";
import type { LayoutScore } from "./layout-score.ts";
import type { MoveContext } from "./moves.ts";

/** Candidates with most flow that are annealed. */
const STARTS = 3;

/** `score` of what is found is its flow in tokens per second. */
export function mostFlow(
  layoutScore: LayoutScore,
  context: MoveContext,
  work: { starts: readonly { readonly draft: DenseIntervals }[]; evaluations: number },
): Found | null {
  const judge: Judge = {
    tables: layoutScore.tables,
    score: (draft) => layoutScore.flow(draft),
    scoreIfAtLeast: (draft, threshold) => {
      const flow = layoutScore.flow(draft);
      return flow >= threshold ? flow : null;
    },
  };
  const starts = work.starts.map(({ draft }) => ({ draft, score: judge.score(draft) }));
  starts.sort((a, b) => b.score - a.score);
  const evaluations = Math.floor(work.evaluations / STARTS);
  const found = starts.slice(0, STARTS).map(({ draft }) => anneal(judge, context, { draft, evaluations }));
  found.sort((a, b) => b.score - a.score);
  return found[0] ?? null;
}
