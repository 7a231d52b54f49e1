/**
 * A chain whose stages all show that they live, and which gives no tokens: who of them is at fault? Neighbours cannot tell, so all stages are asked how
 * far each sequence is (`chain.progress`), twice. Where nothing moved in between, positions stop at somebody:
 *
 * | the stages say of the answer that waited for longest                     | at fault                                  | on whose word               |
 * | ------------------------------------------------------------------------- | ----------------------------------------- | --------------------------- |
 * | any of their numbers grew between the looks                               | nobody: it works                           |                             |
 * | one says nothing                                                          | that one, the first of several             | the coordinator's own       |
 * | one asked for positions again and has not got them                       | the one before it, of the first such stage | of the one that lacks them  |
 * | one has less than the one before sent (the first: than was drawn)         | that one, the first such stage             | of the one before it        |
 * | one took in more than it passed on, and the next one takes more           | that one                                   | the coordinator's own       |
 * | one took in more than it passed on, and the next one takes nothing more   | the next one that is not held up itself    | of the one before that      |
 * | all have it, and nothing was drawn                                        | the last one                               | the coordinator's own       |
 *
 * Between two stages it is one word against another: who accuses several, whom nobody else accuses, is replaced itself (coordinator/chains/chain-blame.ts). A stage
 * that tells a position more at each look is slow, not stalled; its requests are bounded by their leases and deadlines.
 */
import { assert } from "../../domain/assert.ts";
import { STALL_BOUNDS, type StallBounds, stalledAtMs, type TokenPace } from "../attempts/stall.ts";

/** What one stage tells of one sequence, in positions from the first on. */
export interface StageProgress {
  readonly arrived: number;
  readonly passed: number;
  readonly isLacking: boolean;
  /** Of all its sequences: it has something to send and the next stage takes nothing more. */
  readonly isHeldUp: boolean;
  /** Positions that its engine decoded, of all sequences. */
  readonly decoded: number;
}

export interface StalledStage {
  /** In the order of the stages. */
  readonly at: number;
  /** Whose word it is; null: the coordinator sees it from what the stage says itself. */
  readonly reporter: number | null;
  readonly what: "no-answer" | "nothing-sent-again" | "nothing-taken" | "nothing-passed-on" | "nothing-drawn";
}

/** Answers that wait too long, each counted once more for each time that it waits as long again: so many are no accident. */
export const OVERDUE_TO_ASK = 3;
/** Between two looks, and at most: a stage that works has moved by then. */
const LOOKS_APART_MS = 1_000;
const LOOKS_APART_MS_MAX = 15_000;
/** The largest piece of a prompt (inference/pipeline/piece-bounds.ts), and how often it may take as long as it did so far. */
const PIECE_POSITIONS_MAX = 512;
const SLOWER_TIMES = 3;
/** As long as a token's way around the chain, so many times. */
const LOOP_TIMES = 12;

/** What stages measured of themselves; null: nobody did. */
export interface ChainPace {
  readonly loopMs: number | null;
  /** Of the slowest stage. */
  readonly promptMsPerPosition: number | null;
}

/** How long an answer over this chain may be without a token. */
export function chainPatience({ loopMs, promptMsPerPosition }: ChainPace): StallBounds {
  const loops = LOOP_TIMES * (loopMs ?? 0);
  return {
    ...STALL_BOUNDS,
    firstTokenFloorMs: Math.max(STALL_BOUNDS.firstTokenFloorMs, loops),
    firstTokenPerPromptTokenMs: Math.max(
      STALL_BOUNDS.firstTokenPerPromptTokenMs,
      SLOWER_TIMES * (promptMsPerPosition ?? 0),
    ),
    gapFloorMs: Math.max(STALL_BOUNDS.gapFloorMs, loops),
  };
}

/** From the first look's answers to the second look. */
export function looksApartMs({ loopMs, promptMsPerPosition }: ChainPace): number {
  const pieceMs = SLOWER_TIMES * PIECE_POSITIONS_MAX * (promptMsPerPosition ?? 0);
  return Math.min(LOOKS_APART_MS_MAX, Math.max(LOOKS_APART_MS, pieceMs, LOOP_TIMES * (loopMs ?? 0)));
}

/** An attempt that runs on the chain, and owes tokens. */
export interface ChainAttempt {
  readonly pace: TokenPace;
  readonly promptTokens: number;
}

/** The one that waits for longest beyond its patience, when there is reason to ask the stages; null when there is none. */
export function overdueAttempt<Attempt extends ChainAttempt>(
  attempts: readonly Attempt[],
  by: { readonly nowMs: number; readonly patience: StallBounds },
): Attempt | null {
  let worst: { readonly attempt: Attempt; readonly lateMs: number } | null = null;
  let overdue = 0;
  let isAnyInTime = false;
  for (const attempt of attempts) {
    const { pace, promptTokens } = attempt;
    const dueAtMs = stalledAtMs(pace, { tokens: promptTokens }, by.patience);
    const lateMs = by.nowMs - dueAtMs;
    if (lateMs < 0) {
      isAnyInTime = true;
      continue;
    }
    overdue += 1 + Math.floor(lateMs / (dueAtMs - (pace.lastTokenAtMs ?? pace.startedAtMs)));
    if (worst === null || lateMs > worst.lateMs) worst = { attempt, lateMs };
  }
  return isAnyInTime && overdue < OVERDUE_TO_ASK ? null : (worst?.attempt ?? null);
}

type Look = readonly (StageProgress | null)[];

/**
 * Two looks at one sequence; null where a stage said nothing. `known`: positions whose tokens the coordinator has. `isBusyExcused`: nobody is at fault whose engine
 * decoded something in between, as one that computes a lost stage's part again. Null when something moved.
 */
export function stalledStage(
  before: Look,
  now: Look,
  { known, isBusyExcused }: { readonly known: number; readonly isBusyExcused: boolean },
): StalledStage | null {
  assert(before.length === now.length && now.length >= 2, `two looks at one chain, ${before.length} and ${now.length}`);
  if (now.some((stage, at) => hasGrown(before[at] ?? null, stage))) return null;
  const silent = now.findIndex((stage, at) => stage === null && before[at] === null);
  if (silent >= 0) return { at: silent, reporter: null, what: "no-answer" };
  const told = now.flatMap((stage) => stage ?? []);
  // It told once and not twice: the next looks will tell.
  if (told.length < now.length) return null;
  const found = stopOf(told, known);
  const isBusy = (now[found.at]?.decoded ?? 0) > (before[found.at]?.decoded ?? 0);
  return isBusyExcused && isBusy ? null : found;
}

function hasGrown(before: StageProgress | null, now: StageProgress | null): boolean {
  return before !== null && now !== null && (now.arrived > before.arrived || now.passed > before.passed);
}

function stopOf(told: readonly StageProgress[], known: number): StalledStage {
  const last = told.length - 1;
  const before = (at: number) => (at === 0 ? last : at - 1);
  const lacking = told.findIndex(({ isLacking }) => isLacking);
  if (lacking > 0) return { at: lacking - 1, reporter: lacking, what: "nothing-sent-again" };
  let sent = known;
  for (const [at, { arrived, passed }] of told.entries()) {
    if (arrived < sent) return { at, reporter: before(at), what: "nothing-taken" };
    if (at === last) break;
    if (passed < arrived) return heldBy(told, at);
    sent = passed;
  }
  return { at: last, reporter: null, what: "nothing-drawn" };
}

/** It has more than it passed on. */
function heldBy(told: readonly StageProgress[], from: number): StalledStage {
  if (told[from]?.isHeldUp !== true) return { at: from, reporter: null, what: "nothing-passed-on" };
  // The last one sends nothing that could be held up, whatever it says.
  const free = told.findIndex(({ isHeldUp }, at) => at > from && (!isHeldUp || at === told.length - 1));
  return { at: free, reporter: free - 1, what: "nothing-taken" };
}
