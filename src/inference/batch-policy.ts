/**
 * What goes into one decode step. Every sequence that is generating gives its one token, so that no long prompt ever holds
 * up the others; prompts share what is left of the step, oldest first: finishing one prompt soon beats advancing all of
 * them slowly. The share is sized by measured time, which bounds how long a step takes, and with it the time to react to
 * an abort or to a new request.
 */

/** A step aims at this, so that aborts and first tokens of others never wait much longer. */
export const STEP_TARGET_MS = 40;
/** Below this, a step's fixed cost outweighs its prompt tokens. */
export const PREFILL_TOKENS_MIN = 16;
/** Above this a batch gains nothing on the devices at hand, and its buffers grow. */
export const PREFILL_TOKENS_MAX = 512;
/** The first steps, before anything was measured. */
export const PREFILL_TOKENS_START = 128;
/** Share of a new measurement in the running mean. */
const SMOOTHING = 0.3;

export interface PendingSequence {
  readonly slot: number;
  /** Tokens not yet decoded, at least 1. */
  readonly pendingTokens: number;
  /** Order of arrival. */
  readonly order: number;
}

export interface StepPart {
  readonly slot: number;
  readonly tokens: number;
}

/** Parts sorted by slot: the engine merges neighbouring slots into one piece of work. */
export function planStep(sequences: readonly PendingSequence[], prefillTokens: number): readonly StepPart[] {
  const parts: StepPart[] = [];
  const prompts: PendingSequence[] = [];
  for (const sequence of sequences) {
    if (sequence.pendingTokens === 1) parts.push({ slot: sequence.slot, tokens: 1 });
    else prompts.push(sequence);
  }
  let left = prefillTokens;
  for (const prompt of prompts.sort((a, b) => a.order - b.order || a.slot - b.slot)) {
    if (left <= 0) break;
    const tokens = Math.min(left, prompt.pendingTokens);
    parts.push({ slot: prompt.slot, tokens });
    left -= tokens;
  }
  return parts.sort((a, b) => a.slot - b.slot);
}

/** How many prompt tokens a step may take, learnt from how long they took. */
export class PrefillPace {
  #tokens = PREFILL_TOKENS_START;
  #msPerToken: number | null = null;
  #decodeMs = 0;

  get tokens(): number {
    return this.#tokens;
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
