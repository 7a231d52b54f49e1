/**
 * Ways are chosen against a residence: how long a request stays, and the share of that time that prompts have. It follows from the
 * layout, and the layout from it, so there is more than one answer that fits itself: short stays with little room, or long stays
 * with much. One search cannot leave the one it began with. So the search is made for several residences around the first one, and
 * what each found is compared under the residence that fits it.
 */
import { type Grown, improve } from "./improve.ts";
import type { LayoutScore } from "./layout-score.ts";
import type { MoveContext } from "./moves.ts";
import type { Candidate } from "./portfolio.ts";
import type { Calibration } from "./serving-model.ts";

/** Times the residence of the best construction. Half as long again is where the first searches were most often wrong. */
const STRETCHES = [1, 1.5, 0.75] as const;

/** Leaves the score calibrated to what it answers. */
export function improveByResidence(
  score: LayoutScore,
  context: MoveContext,
  work: { candidates: readonly [Candidate, ...Candidate[]]; evaluations: number },
): Grown {
  if (score.goals.objective === "flow") return improve(score, context, work);
  const evaluations = Math.floor(work.evaluations / STRETCHES.length);
  const base = score.model.calibration;
  const starts = STRETCHES.map((stretch) => score.model.stretched(base, stretch));
  const results = starts.map((start) => {
    score.model.calibration = start;
    const [first, ...others] = work.candidates
      .map((candidate) => ({ ...candidate, score: score.score(candidate.draft) }))
      .sort((a, b) => b.score - a.score);
    const grown = improve(score, context, { candidates: [first ?? work.candidates[0], ...others], evaluations });
    return { grown, ...fitting(score, grown, starts) };
  });
  results.sort((a, b) => b.score - a.score);
  const [best] = results;
  if (best === undefined) return improve(score, context, work);
  score.model.calibration = best.calibration;
  return { ...best.grown, found: { draft: best.grown.found.draft, score: best.score } };
}

/** The residence under which the layout itself has that residence; the better one when there are several. */
function fitting(
  score: LayoutScore,
  grown: Grown,
  starts: readonly Calibration[],
): { score: number; calibration: Calibration } {
  const { draft } = grown.found;
  const found = starts.map((start) => {
    score.model.calibration = start;
    score.model.calibrate(draft);
    return { score: score.score(draft), calibration: score.model.calibration };
  });
  found.sort((a, b) => b.score - a.score);
  return found[0] ?? { score: grown.found.score, calibration: score.model.calibration };
}
