/**
 * Simulated annealing from a given layout: take a change that helps, and one that hurts by so much with a chance that shrinks as the
 * search cools. The threshold is drawn before the layout is scored, so that a change that falls short costs one question to the
 * model instead of a bisection.
 */
import type { ClusterTables } from "./cluster-tables.ts";
import { copyDraft, type Draft, isWithinLimits, overwrite } from "./draft.ts";
import type { DenseIntervals } from "./flow.ts";
import { changeDraft, type MoveContext } from "./moves.ts";

/** Temperature as a share of the best score's size, at the start and at the end. */
const START_SHARE = 0.02;
const END_SHARE = 0.0002;
/** Changes strung together before the outcome is looked at. */
const CHANGES_MAX = 3;

/** What a search asks of layouts; `LayoutScore` is one. */
export interface Judge {
  readonly tables: ClusterTables;
  score(draft: DenseIntervals): number;
  /** The score when it is at least `threshold`, null otherwise. */
  scoreIfAtLeast(draft: DenseIntervals, threshold: number): number | null;
  /** Told of each layout that the search likes better than all before it in this run. */
  found?(score: number): void;
}

export interface Found {
  readonly draft: Draft;
  readonly score: number;
}

/** Looks at `evaluations` layouts (out of limits not counted, but at most four times as many drawn). */
export function anneal(
  judge: Judge,
  context: MoveContext,
  start: { draft: DenseIntervals; evaluations: number },
): Found {
  const current = copyDraft(start.draft);
  const trial = copyDraft(start.draft);
  let score = judge.score(current);
  const best = { draft: copyDraft(current), score };
  if (score === Number.NEGATIVE_INFINITY) return best;
  let looked = 0;
  for (let drawn = 0; looked < start.evaluations && drawn < 4 * start.evaluations; drawn++) {
    const done = looked / start.evaluations;
    const temperature = Math.max(1e-9, Math.abs(best.score)) * START_SHARE * (END_SHARE / START_SHARE) ** done;
    overwrite(trial, current);
    for (let changes = 0; changes === 0 || (changes < CHANGES_MAX && context.random.next() < 0.35); changes++) {
      changeDraft(trial, context);
    }
    if (!isWithinLimits(judge.tables, trial) || isUnchanged(trial, current)) continue;
    looked += 1;
    const threshold = score + temperature * Math.log(Math.max(Number.MIN_VALUE, context.random.next()));
    const trialScore = judge.scoreIfAtLeast(trial, threshold);
    if (trialScore === null) continue;
    overwrite(current, trial);
    score = trialScore;
    if (score > best.score) {
      best.score = score;
      overwrite(best.draft, current);
      judge.found?.(score);
    }
  }
  return best;
}

function isUnchanged(a: DenseIntervals, b: DenseIntervals): boolean {
  for (let node = 0; node < a.first.length; node++) {
    if (a.first[node] !== b.first[node] || a.end[node] !== b.end[node]) return false;
  }
  return true;
}
