/**
 * How good the forecasts were: asks the model at intervals, waits for what happens, and keeps the Brier score (mean square of
 * chance minus outcome, lower is better) and the reliability curve (of what was given p, how much came true). It scores the
 * model with and without the hour of the week, and that is what decides which of them is used.
 */
import { HOUR_MS } from "./life-table.ts";
import type { SurvivalModel } from "./survival-model.ts";

export const SCORED_HORIZONS_MS: readonly number[] = [1, 4, 12].map((hours) => hours * HOUR_MS);
/** Nodes asked at once; of a larger grid these are spread evenly over all. */
const NODES_ASKED_MAX = 128;
/** Until so many forecasts came due the hour of the week has no say. */
const OUTCOMES_MIN = 300;
/** The season must win by this share: two variants that are alike should not alternate. */
const WIN_SHARE = 0.002;
/** Of old scores, at each asking: with one an hour, those of a fortnight ago count a third. */
const FADE = 1 - 1 / 336;
/** Forecasts that wait for their outcome: one asking an hour, up to 12 hours ahead, with room for uneven hours. */
export const PENDING_MAX = NODES_ASKED_MAX * 40;

export const RELIABILITY_BINS = 10;

export class Reliability {
  readonly #forecasts = new Array<number>(RELIABILITY_BINS).fill(0);
  readonly #chances = new Array<number>(RELIABILITY_BINS).fill(0);
  readonly #outcomes = new Array<number>(RELIABILITY_BINS).fill(0);
  #squares = 0;
  #count = 0;

  add(chance: number, hasStayed: boolean): void {
    const bin = Math.min(RELIABILITY_BINS - 1, Math.floor(chance * RELIABILITY_BINS));
    const outcome = hasStayed ? 1 : 0;
    this.#forecasts[bin] = (this.#forecasts[bin] ?? 0) + 1;
    this.#chances[bin] = (this.#chances[bin] ?? 0) + chance;
    this.#outcomes[bin] = (this.#outcomes[bin] ?? 0) + outcome;
    this.#squares += (chance - outcome) ** 2;
    this.#count += 1;
  }

  get count(): number {
    return this.#count;
  }

  /** Null before the first outcome. */
  brier(): number | null {
    return this.#count === 0 ? null : this.#squares / this.#count;
  }

  /** Bins that saw a forecast, by ascending chance. */
  curve(): readonly { readonly forecasts: number; readonly meanChance: number; readonly stayedShare: number }[] {
    return this.#forecasts.flatMap((forecasts, bin) =>
      forecasts === 0
        ? []
        : [
            {
              forecasts,
              meanChance: (this.#chances[bin] ?? 0) / forecasts,
              stayedShare: (this.#outcomes[bin] ?? 0) / forecasts,
            },
          ],
    );
  }
}

interface Pending {
  readonly nodeId: string;
  readonly horizonAt: number;
  readonly madeAtMs: number;
  readonly dueMs: number;
  readonly plain: number;
  readonly seasonal: number;
  readonly used: number;
}

export class SurvivalScore {
  readonly #model: SurvivalModel;
  readonly #reliability = SCORED_HORIZONS_MS.map(() => new Reliability());
  /** One queue for each horizon, in the order of their due times. */
  readonly #pending = SCORED_HORIZONS_MS.map((): Pending[] => []);
  #plainSquares = 0;
  #seasonalSquares = 0;
  #weight = 0;

  constructor(model: SurvivalModel) {
    this.#model = model;
  }

  /** By horizon, in the order of `SCORED_HORIZONS_MS`. */
  get reliability(): readonly Reliability[] {
    return this.#reliability;
  }

  /**
   * Judges what came due, then asks again, and lets the better of the two variants be used. Call it once an hour; or with part 0 once an
   * hour and with the other parts soon after, each asking its share of the nodes.
   */
  ask(nowMs: number, { part, parts }: { readonly part: number; readonly parts: number } = { part: 0, parts: 1 }): void {
    if (part === 0) {
      this.#settle(nowMs);
      this.#model.isSeasonal = this.#isSeasonBetter();
      this.#plainSquares *= FADE;
      this.#seasonalSquares *= FADE;
      this.#weight *= FADE;
    }
    const step = Math.max(1, Math.ceil(this.#model.size / NODES_ASKED_MAX));
    const shift = Math.floor(nowMs / HOUR_MS) % step;
    for (const nodeId of this.#model.upNodesEvery(step * parts, shift + step * part)) this.#askOf(nodeId, nowMs);
  }

  #askOf(nodeId: string, nowMs: number): void {
    SCORED_HORIZONS_MS.forEach((horizonMs, horizonAt) => {
      const queue = this.#pending[horizonAt];
      if (queue === undefined || queue.length >= PENDING_MAX) return;
      const plain = this.#model.stayChance(nodeId, nowMs, horizonMs, { isSeasonal: false });
      const seasonal = this.#model.stayChance(nodeId, nowMs, horizonMs, { isSeasonal: true });
      const used = this.#model.isSeasonal ? seasonal : plain;
      queue.push({ nodeId, horizonAt, madeAtMs: nowMs, dueMs: nowMs + horizonMs, plain, seasonal, used });
    });
  }

  #settle(nowMs: number): void {
    for (const queue of this.#pending) {
      let settled = 0;
      for (const pending of queue) {
        if (pending.dueMs > nowMs) break;
        settled++;
        this.#judge(pending);
      }
      queue.splice(0, settled);
    }
  }

  #judge(pending: Pending): void {
    const sinceMs = this.#model.upSinceMs(pending.nodeId);
    const hasStayed = sinceMs !== null && sinceMs <= pending.madeAtMs;
    const outcome = hasStayed ? 1 : 0;
    this.#reliability[pending.horizonAt]?.add(pending.used, hasStayed);
    this.#plainSquares += (pending.plain - outcome) ** 2;
    this.#seasonalSquares += (pending.seasonal - outcome) ** 2;
    this.#weight += 1;
  }

  #isSeasonBetter(): boolean {
    if (this.#weight < OUTCOMES_MIN) return false;
    return this.#seasonalSquares < this.#plainSquares * (1 - WIN_SHARE);
  }
}
