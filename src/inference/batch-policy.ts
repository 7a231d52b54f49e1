/**
 * What goes into one decode step. Every sequence that is generating gives its one token, so that no long prompt ever holds
 * up the others; prompts share what is left of the step, oldest first: finishing one prompt soon beats advancing all of
 * them slowly. The share is sized by measured time, which bounds how long a step takes, and with it the time to react to
 * an abort or to a new request.
 *
 * Same tokens, same logits, whatever else runs: on a CPU the library multiplies a single token by another kernel than two
 * or more, and the sums differ in their last bits, which is enough to turn a draw after a few hundred tokens. It cuts a
 * batch into pieces of equal length, so a prompt beside a single token would be cut, too. Hence each group of a step is
 * decoded apart; prompts go in pieces of two tokens at least; and what an earlier attempt generated, one token at a time,
 * is decoded so again, unless that takes too long (docs/dispatch.md, exactness).
 *
 * Background sequences take part only in steps in which nobody else's does: they stop where they are, with their keys and values, and go on when the
 * others are through. So whoever comes waits for one step of theirs at most, and such a step is short. Where a step costs hardly more with more sequences
 * (a GPU with many slots), background sequences that generate stay in it; only for the others' prompts they stop.
 */

/** A step aims at this, so that aborts and first tokens of others never wait much longer. */
export const STEP_TARGET_MS = 40;
/** Below this, a step's fixed cost outweighs its prompt tokens. */
export const PREFILL_TOKENS_MIN = 16;
/** Above this a batch gains nothing on the devices at hand, and its buffers grow. */
export const PREFILL_TOKENS_MAX = 512;
/** The first steps, before anything was measured. */
export const PREFILL_TOKENS_START = 128;
/** Of a step's prompt tokens, when all of them are background's: whoever comes waits for that step, so it aims at a quarter of the time. */
const BACKGROUND_PREFILL_SHARE = 0.25;
/** A GPU that decodes so many sequences at once has room beside others: one more costs each of them little. */
export const SHARED_SLOTS_LEAST = 16;
/** Share of a new measurement in the running mean. */
const SMOOTHING = 0.3;

/** A stream that moved here is worth this wait for its exact text; a longer history is decoded as a prompt. */
export const REPLAY_MS_MAX = 2_000;
/** No step is faster than this. */
const STEP_MS_MIN = 0.25;

export interface PendingSequence {
  readonly slot: number;
  /** Of the prompt, not yet decoded. */
  readonly promptTokens: number;
  /** Generated and not yet decoded: one while it generates, more when it has moved here. */
  readonly generatedTokens: number;
  /** Order of arrival. */
  readonly order: number;
  readonly isBackground?: boolean;
}

export interface StepPart {
  readonly slot: number;
  readonly tokens: number;
}

export interface StepBudget {
  readonly prefillTokens: number;
  /** Up to so many generated tokens are decoded one at a time. */
  readonly replayTokensMax: number;
  /** One more sequence costs the others of a step little. */
  readonly hasRoomBeside?: boolean;
}

/**
 * Groups that are decoded one after the other: single tokens first, then prompts of equal length. The parts of a group are
 * sorted by slot: the engine merges neighbouring slots into one piece of work.
 */
export function planStep(pending: readonly PendingSequence[], budget: StepBudget): readonly (readonly StepPart[])[] {
  const sequences = withoutHeldBack(pending, budget);
  const isBackground = sequences.every((sequence) => sequence.isBackground === true);
  const groups = new Map<number, StepPart[]>([[1, []]]);
  const prompts: { readonly slot: number; readonly pendingTokens: number; readonly order: number }[] = [];
  for (const { slot, promptTokens, generatedTokens, order } of sequences) {
    if (promptTokens > 1) prompts.push({ slot, pendingTokens: promptTokens, order });
    else if (promptTokens === 1 || generatedTokens <= budget.replayTokensMax) groups.get(1)?.push({ slot, tokens: 1 });
    else prompts.push({ slot, pendingTokens: generatedTokens, order });
  }
  let left = isBackground ? backgroundPrefillTokens(budget) : budget.prefillTokens;
  for (const { slot, pendingTokens } of prompts.sort((a, b) => a.order - b.order || a.slot - b.slot)) {
    const tokens = pieceOf(pendingTokens, left);
    if (tokens === 0) break;
    groups.set(tokens, [...(groups.get(tokens) ?? []), { slot, tokens }]);
    left -= tokens;
  }
  return [...groups.values()].filter((parts) => parts.length > 0).map((parts) => parts.sort((a, b) => a.slot - b.slot));
}

/** Those that may take part in this step. */
export function withoutHeldBack(
  pending: readonly PendingSequence[],
  { replayTokensMax, hasRoomBeside }: Pick<StepBudget, "replayTokensMax" | "hasRoomBeside">,
): readonly PendingSequence[] {
  const others = pending.filter(({ isBackground }) => isBackground !== true);
  if (others.length === 0 || others.length === pending.length) return pending;
  const isSingle = ({ promptTokens, generatedTokens }: PendingSequence): boolean =>
    promptTokens === 0 && generatedTokens <= replayTokensMax;
  if (hasRoomBeside !== true || !others.every(isSingle)) return others;
  return pending.filter((sequence) => sequence.isBackground !== true || isSingle(sequence));
}

function backgroundPrefillTokens({ prefillTokens }: StepBudget): number {
  return Math.max(Math.min(prefillTokens, PREFILL_TOKENS_MIN), Math.floor(prefillTokens * BACKGROUND_PREFILL_SHARE));
}

/** At least two tokens, and never all but one of them. */
function pieceOf(pendingTokens: number, left: number): number {
  if (pendingTokens <= left) return pendingTokens;
  const tokens = pendingTokens - left === 1 ? left - 1 : left;
  return tokens < 2 ? 0 : tokens;
}

/** How many prompt tokens a step may take, learnt from how long they took. */
export class PrefillPace {
  #tokens = PREFILL_TOKENS_START;
  #msPerToken: number | null = null;
  #decodeMs = 0;

  get tokens(): number {
    return this.#tokens;
  }

  /** How long a history is still decoded token by token. */
  get replayTokensMax(): number {
    return Math.max(1, Math.floor(REPLAY_MS_MAX / Math.max(this.#decodeMs, STEP_MS_MIN)));
  }

  /** Notes a step. A step without prompt tokens tells what the others cost. */
  note(step: { readonly prefillTokens: number; readonly stepMs: number }): void {
    if (step.prefillTokens === 0) {
      this.#decodeMs += SMOOTHING * (step.stepMs - this.#decodeMs);
    } else if (step.prefillTokens >= PREFILL_TOKENS_MIN) {
      const measured = Math.max(0, step.stepMs - this.#decodeMs) / step.prefillTokens;
      this.#msPerToken =
        this.#msPerToken === null ? measured : this.#msPerToken + SMOOTHING * (measured - this.#msPerToken);
    }
    if (this.#msPerToken === null) return;
    const affordable = Math.floor((STEP_TARGET_MS - this.#decodeMs) / Math.max(this.#msPerToken, 1e-6));
    this.#tokens = Math.min(PREFILL_TOKENS_MAX, Math.max(PREFILL_TOKENS_MIN, affordable));
  }
}
