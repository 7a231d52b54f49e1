/**
 * How long attempts of a model hold their slot, and what that is worth. Learnt from attempts that ended; a request's expected
 * time follows from its size.
 *
 * Work is counted in tokens: each output token is one, each prompt token `PROMPT_TOKEN_WORK` (prefill runs in batches). How
 * many of the tokens that a request allows it will produce is the model's usual share of them.
 *
 * Normalised device-seconds = seconds a slot was held / slots of the replica × decode speed of the node / `REFERENCE_SPEED`.
 * So a slot is its part of the device, and a second on a node that decodes twice as fast weighs twice as much (throughput as
 * in Gavel, Narayanan et al., OSDI 2020). A node that has not measured itself counts as one of reference speed.
 */
import type { ModelId } from "../../domain/ids.ts";

/** A prompt token's part of the time of an output token (engines reference: 1.5 ms against 10 to 20 ms on one CPU core). */
const PROMPT_TOKEN_WORK = 0.1;
/** Decode tokens per second on the reference load that count as 1. Only ratios matter to shares. */
export const REFERENCE_SPEED = 100;
/**
 * A node tells its own speed, and may lie: beyond these it would empty the share of every tenant that it serves, or serve some for
 * nothing. The reference model does 4,160 tok/s on one CPU core.
 */
export const SPEED_COUNTED_MIN = 10;
export const SPEED_COUNTED_MAX = 20_000;
/** Before any request of a model has ended: an output token on one CPU core. */
const MS_PER_WORK_GUESS = 20;
const OUTPUT_SHARE_GUESS = 0.5;
/** Slots that a replica of an unknown model is taken to have. */
const SLOTS_GUESS = 16;
/** Weight of the newest attempt: the means follow the last twenty or so. */
const NEWEST_WEIGHT = 0.05;

export interface RequestSize {
  readonly modelId: ModelId;
  readonly promptTokens: number;
  /** The most it may still produce. */
  readonly outputTokensMax: number;
}

export interface EndedAttempt extends RequestSize {
  readonly heldMs: number;
  readonly outputTokens: number;
  /** `slotWorth` of where it ran. */
  readonly worth: number;
}

interface Learnt {
  msPerWork: number;
  outputShare: number;
  worth: number;
  ended: number;
}

/** What one slot-second on this replica counts. */
export function slotWorth(replica: { slots: number; decodeTokPerSecond: number | null }): number {
  const told = replica.decodeTokPerSecond ?? REFERENCE_SPEED;
  const counted = Math.min(SPEED_COUNTED_MAX, Math.max(SPEED_COUNTED_MIN, told));
  return counted / REFERENCE_SPEED / Math.max(1, replica.slots);
}

export class SlotTimes {
  readonly #learnt = new Map<ModelId, Learnt>();

  /** An attempt that ran to its end, or as far as it was let. */
  record(attempt: EndedAttempt): void {
    const work = workOf(attempt.promptTokens, attempt.outputTokens);
    if (work <= 0 || attempt.heldMs < 0) return;
    const share = attempt.outputTokensMax > 0 ? attempt.outputTokens / attempt.outputTokensMax : 0;
    const seen = { msPerWork: attempt.heldMs / work, outputShare: share, worth: attempt.worth };
    const before = this.#learnt.get(attempt.modelId);
    if (before === undefined) {
      this.#learnt.set(attempt.modelId, { ...seen, ended: 1 });
      return;
    }
    before.ended += 1;
    // The first few count fully: a mean of all while there are fewer than the window holds.
    const weight = Math.max(NEWEST_WEIGHT, 1 / before.ended);
    before.msPerWork += weight * (seen.msPerWork - before.msPerWork);
    before.outputShare += weight * (seen.outputShare - before.outputShare);
    before.worth += weight * (seen.worth - before.worth);
  }

  /** How long it will hold its slot. */
  expectedMs(request: RequestSize): number {
    const msPerWork = this.#learnt.get(request.modelId)?.msPerWork ?? MS_PER_WORK_GUESS;
    return msPerWork * workOf(request.promptTokens, request.outputTokensMax * this.outputShare(request.modelId));
  }

  /** Normalised device-seconds that it will take. */
  expectedCost(request: RequestSize): number {
    const worth = this.#learnt.get(request.modelId)?.worth ?? 1 / SLOTS_GUESS;
    return (this.expectedMs(request) / 1_000) * worth;
  }

  /** The usual share of the allowed tokens that is produced. */
  outputShare(modelId: ModelId): number {
    return this.#learnt.get(modelId)?.outputShare ?? OUTPUT_SHARE_GUESS;
  }

  isMeasured(modelId: ModelId): boolean {
    return this.#learnt.has(modelId);
  }
}

function workOf(promptTokens: number, outputTokens: number): number {
  return promptTokens * PROMPT_TOKEN_WORK + outputTokens;
}
