/**
 * Which model is asked for soon. A logistic regression over what `reuse-state.ts` remembers, learned while requests come in:
 * the target of a model at a moment is e^(-d / 15), d being how many requests later it is asked for next (0 when it is not within
 * 45). So the value of keeping a model is near 1 when it comes next and falls smoothly, and evicting the model of least value is
 * what Belady's rule would do if the forecast were exact.
 *
 * Learning: a row of features for each model is put aside at a request and used 45 requests later, when its targets are known; steps are
 * AdaGrad's, so that no rate has to be tuned for a grid. Nothing is ever learned from a request before it came.
 * Not handled: models of which nothing was seen have no forecast; time of day enters only through what happens in it.
 */
import { FEATURES, RECENCY_FEATURE, type ReuseModelRow, ReuseState } from "./reuse-state.ts";

/** In requests; 8 to 40 score alike on the first third of the model-request trace (docs/forecast.md). */
const REACH = 15;
/** Later than this a next use counts as none. */
const WINDOW = 3 * REACH;
const RATE = 0.1;
const SHRINK = 1e-4;
/** A lesson costs about 0.1 ms for 76 models: at most 2 % of a core, however many requests come. */
const LESSON_GAP_MS = 5;
/** AdaGrad's first denominator: small, so that the first steps are long. */
const SQUARES_START = 0.01;
/** The mean and spread of the features follow slowly, so that weights keep their meaning. */
const NORM_RATE_MIN = 1e-3;
const SPREAD_MIN = 1e-3;

export interface ReuseWeights {
  readonly weights: readonly number[];
  readonly squares: readonly number[];
  readonly means: readonly number[];
  readonly spreads: readonly number[];
  readonly rows: number;
}

export interface ReuseSnapshot {
  readonly learned: ReuseWeights;
  readonly models: readonly ReuseModelRow[];
}

/** Rows that wait for their targets. */
interface Lesson {
  readonly request: number;
  readonly features: Float64Array;
  /** Request at which each model was asked for next; 0 while it was not. */
  readonly nextAt: Float64Array;
}

export class ReuseForecast {
  readonly #state = new ReuseState();
  /** One for each feature, and the constant. */
  #weights = firstWeights();
  #squares = new Float64Array(FEATURES + 1).fill(SQUARES_START);
  #means = new Float64Array(FEATURES);
  #spreads = new Float64Array(FEATURES).fill(1);
  #rows = 0;
  #lessonMs = Number.NEGATIVE_INFINITY;
  /** Oldest first; at most `WINDOW + 1`, one for each request. */
  #lessons: Lesson[] = [];

  constructor(kept: ReuseSnapshot | null = null) {
    if (kept === null) return;
    this.#weights = Float64Array.from(kept.learned.weights);
    this.#squares = Float64Array.from(kept.learned.squares);
    this.#means = Float64Array.from(kept.learned.means);
    this.#spreads = Float64Array.from(kept.learned.spreads);
    this.#rows = kept.learned.rows;
    this.#state.restore(kept.models);
  }

  /** Requests seen in this life. */
  get requests(): number {
    return this.#state.requests;
  }

  /** Tells of a request; a tenant is whoever may be expected to ask again. */
  take(request: { modelId: string; tenant: string | null; atMs: number }): void {
    const { index, isReplaced } = this.#state.take(request);
    const now = this.#state.requests;
    if (isReplaced) this.#lessons = [];
    for (const lesson of this.#lessons) if (lesson.nextAt[index] === 0) lesson.nextAt[index] = now;
    const [oldest] = this.#lessons;
    if (oldest !== undefined && now - oldest.request >= WINDOW) {
      this.#lessons.shift();
      this.#learn(oldest);
    }
    if (request.atMs - this.#lessonMs < LESSON_GAP_MS) return;
    this.#lessonMs = request.atMs;
    const features = this.#state.features(request.atMs);
    this.#follow(features);
    this.#lessons.push({ request: now, features, nextAt: new Float64Array(this.#state.size) });
  }

  /** For each model that was ever asked for: 0 (not soon) to 1 (next). In the order in which they were first asked for. */
  values(nowMs: number): ReadonlyMap<string, number> {
    const features = this.#state.features(nowMs);
    return new Map(this.#state.modelIds().map((modelId, index) => [modelId, this.#value(features, index)]));
  }

  snapshot(): ReuseSnapshot {
    const learned = {
      weights: [...this.#weights],
      squares: [...this.#squares],
      means: [...this.#means],
      spreads: [...this.#spreads],
      rows: this.#rows,
    };
    return { learned, models: this.#state.rows() };
  }

  #value(features: Float64Array, index: number): number {
    let sum = this.#weights[FEATURES] ?? 0;
    for (let at = 0; at < FEATURES; at++) sum += (this.#weights[at] ?? 0) * this.#normal(features, index, at);
    return 1 / (1 + Math.exp(-sum));
  }

  #normal(features: Float64Array, index: number, at: number): number {
    const value = features[index * FEATURES + at] ?? 0;
    return (value - (this.#means[at] ?? 0)) / Math.sqrt((this.#spreads[at] ?? 0) + SPREAD_MIN);
  }

  #learn(lesson: Lesson): void {
    const gradient = new Float64Array(FEATURES + 1);
    for (let index = 0; index < lesson.nextAt.length; index++) {
      const nextAt = lesson.nextAt[index] ?? 0;
      const target = nextAt === 0 ? 0 : Math.exp(-(nextAt - lesson.request) / REACH);
      const miss = this.#value(lesson.features, index) - target;
      for (let at = 0; at < FEATURES; at++) {
        gradient[at] = (gradient[at] ?? 0) + miss * this.#normal(lesson.features, index, at);
      }
      gradient[FEATURES] = (gradient[FEATURES] ?? 0) + miss;
    }
    gradient.forEach((slope, at) => {
      const step = slope + SHRINK * (this.#weights[at] ?? 0);
      const squares = (this.#squares[at] ?? SQUARES_START) + step * step;
      this.#squares[at] = squares;
      this.#weights[at] = (this.#weights[at] ?? 0) - (RATE * step) / Math.sqrt(squares);
    });
  }

  /** The mean and the spread of each feature, over the models of this moment. */
  #follow(features: Float64Array): void {
    const models = features.length / FEATURES;
    this.#rows += 1;
    const rate = Math.max(1 / this.#rows, NORM_RATE_MIN);
    for (let at = 0; at < FEATURES; at++) {
      let sum = 0;
      for (let index = 0; index < models; index++) sum += features[index * FEATURES + at] ?? 0;
      const mean = (this.#means[at] ?? 0) + rate * (sum / models - (this.#means[at] ?? 0));
      this.#means[at] = mean;
      let squares = 0;
      for (let index = 0; index < models; index++) squares += ((features[index * FEATURES + at] ?? 0) - mean) ** 2;
      this.#spreads[at] = (this.#spreads[at] ?? 0) + rate * (squares / models - (this.#spreads[at] ?? 0));
    }
  }
}

/** Before anything is learned, what was used lately is worth most: it begins as LRU. */
function firstWeights(): Float64Array<ArrayBuffer> {
  const weights = new Float64Array(FEATURES + 1);
  weights[RECENCY_FEATURE] = -1;
  weights[FEATURES] = FIRST_CONSTANT;
  return weights;
}

/** Most models are not asked for within the window. */
const FIRST_CONSTANT = -2;
