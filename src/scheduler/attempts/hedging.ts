/**
 * When a priority request gets a second attempt: its first token is later than that of 95 of 100 requests of its model, the
 * grid has room, and hedges stay a small part of the load. The second attempt runs in another failure domain; whichever gives
 * the first token wins, the other is cancelled and costs nobody anything (Dean and Barroso, "The Tail at Scale", CACM 2013).
 *
 * Not handled: hedging after the first token (a stalled stream moves instead: stall.ts); the prompt's length in the prediction.
 */
import type { ModelId } from "../../domain/ids.ts";
import type { ServiceTier } from "../../domain/tier.ts";

/** Above this part of a model's slots a hedge takes away more than it gives. */
export const HEDGE_UTILISATION_MAX = 0.7;
/** Attempts that pay for one hedge: extra load of a tenth. */
export const STARTS_PER_HEDGE = 10;
/** Hedges that may be saved up. */
export const HEDGES_SAVED_MAX = 10;
const QUANTILE = 0.95;
/** Fewer say nothing of a 95th percentile. */
const FIRST_TOKENS_MIN = 20;
/** The newest so many of a model are remembered. */
const FIRST_TOKENS_KEPT = 128;

export interface HedgeQuestion {
  readonly tier: ServiceTier;
  readonly hasToken: boolean;
  readonly hasHedge: boolean;
  /** Since the attempt started. */
  readonly waitedMs: number;
  /** Null: not known. */
  readonly firstTokenP95Ms: number | null;
  /** Leased slots over all slots of the model's ready replicas. */
  readonly utilisation: number;
}

export function wantsHedge(question: HedgeQuestion): boolean {
  if (question.tier !== "priority" || question.hasToken || question.hasHedge) return false;
  if (question.firstTokenP95Ms === null || question.waitedMs <= question.firstTokenP95Ms) return false;
  return question.utilisation < HEDGE_UTILISATION_MAX;
}

/** Hedges are at most a tenth of the attempts. */
export class HedgeBudget {
  /** In starts. */
  #left = 0;

  started(): void {
    this.#left = Math.min(HEDGES_SAVED_MAX * STARTS_PER_HEDGE, this.#left + 1);
  }

  get hasRoom(): boolean {
    return this.#left >= STARTS_PER_HEDGE;
  }

  take(): void {
    this.#left -= STARTS_PER_HEDGE;
  }
}

/** Times from the start of an attempt to its first token, the newest of each model. */
export class FirstTokenTimes {
  readonly #newest = new Map<ModelId, number[]>();

  record(modelId: ModelId, ms: number): void {
    const times = this.#newest.get(modelId) ?? [];
    times.push(ms);
    if (times.length > FIRST_TOKENS_KEPT) times.shift();
    this.#newest.set(modelId, times);
  }

  /** Null while too few are known. */
  p95Ms(modelId: ModelId): number | null {
    const times = this.#newest.get(modelId) ?? [];
    if (times.length < FIRST_TOKENS_MIN) return null;
    const sorted = [...times].sort((a, b) => a - b);
    return sorted[Math.ceil(sorted.length * QUANTILE) - 1] ?? null;
  }
}
