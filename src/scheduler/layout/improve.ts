/**
 * From candidates to a plan: the best of each kind of construction is annealed briefly, the best outcomes of that at length, and what
 * the score cannot tell apart is decided by flow.
 */
import { anneal, type Found } from "./anneal.ts";
import type { LayoutScore } from "./layout-score.ts";
import type { MoveContext } from "./moves.ts";
import type { Candidate } from "./portfolio.ts";
import { preferFlow } from "./prefer-flow.ts";

export interface Grown {
  readonly found: Found;
  /** Which construction it grew from. */
  readonly construction: string;
}

/** Candidates of one construction that are annealed briefly, candidates in all, and how many outcomes at length. */
const STARTS_PER_KIND = 3;
const BRIEF_STARTS = 16;
const LONG_STARTS = 3;
/** Shares of the looks for the brief searches and for the choice by flow; the long searches take the rest. */
const BRIEF_SHARE = 0.6;
const FLOW_SHARE = 0.1;

/** `candidates` best first, at least one. */
export function improve(
  score: LayoutScore,
  context: MoveContext,
  work: { candidates: readonly [Candidate, ...Candidate[]]; evaluations: number },
): Grown {
  const starts = chooseStarts(work.candidates);
  const brief = Math.floor((work.evaluations * BRIEF_SHARE) / starts.length);
  const grown: Grown[] = starts.map(({ draft, construction }) => ({
    construction,
    found: anneal(score, context, { draft, evaluations: brief }),
  }));
  grown.sort((a, b) => b.found.score - a.found.score);
  const chosen = grown.slice(0, LONG_STARTS);
  const long = Math.floor((work.evaluations * (1 - BRIEF_SHARE - FLOW_SHARE)) / chosen.length);
  for (const { construction, found } of chosen) {
    grown.push({ construction, found: anneal(score, context, { draft: found.draft, evaluations: long }) });
  }
  grown.sort((a, b) => b.found.score - a.found.score);
  const [first] = work.candidates;
  const best = grown[0] ?? { construction: first.construction, found: first };
  if (score.goals.objective !== "throughput" || best.found.score <= 0) return best;
  const found = preferFlow(score, context, {
    best: best.found,
    starts: [...work.candidates, ...grown.map((one) => one.found)],
    evaluations: Math.floor(work.evaluations * FLOW_SHARE),
  });
  return { construction: best.construction, found };
}

/** The best of each kind first, then the best of all. */
function chooseStarts(candidates: readonly Candidate[]): readonly Candidate[] {
  const taken = new Map<string, number>();
  const chosen: Candidate[] = [];
  for (const candidate of candidates) {
    const count = taken.get(candidate.construction) ?? 0;
    if (count >= STARTS_PER_KIND || chosen.length >= BRIEF_STARTS) continue;
    taken.set(candidate.construction, count + 1);
    chosen.push(candidate);
  }
  for (const candidate of candidates) {
    if (chosen.length >= BRIEF_STARTS) break;
    if (!chosen.includes(candidate)) chosen.push(candidate);
  }
  return chosen;
}
