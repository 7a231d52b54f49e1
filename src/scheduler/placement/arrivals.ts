/**
 * Demand as it was counted: output tokens a second of each model, tier and region, over the last minutes. Each arrival adds what it
 * may generate; what was added fades by half in `HALF_LIFE_MS`, so that the sum times ln 2 / half-life is the rate of late.
 */
import type { ModelId } from "../../domain/ids.ts";
import type { ServiceTier } from "../../domain/tier.ts";
import type { DemandClass } from "./plan-question.ts";

/** Long against a request, short against a working day. */
export const HALF_LIFE_MS = 300_000;
/** Classes that are remembered; the faintest goes first. A region is what a caller names, so their number has to have a bound. */
export const CLASSES_MAX = 1_024;
/** Less than a token in ten minutes is no demand. */
const FORGOTTEN_TOK_PER_SECOND = 1 / 600;

export interface Arrival {
  readonly modelId: ModelId;
  readonly tier: ServiceTier;
  readonly region: string | null;
  readonly promptTokens: number;
  readonly outputTokens: number;
  readonly nowMs: number;
}

interface Faded {
  readonly arrival: Pick<Arrival, "modelId" | "tier" | "region">;
  requests: number;
  promptTokens: number;
  outputTokens: number;
  contextTokensMax: number;
  atMs: number;
}

export class Arrivals {
  readonly #classes = new Map<string, Faded>();

  add(arrival: Arrival): void {
    const key = `${arrival.modelId} ${arrival.tier} ${arrival.region ?? ""}`;
    const known = this.#classes.get(key);
    const faded = known ?? { arrival, requests: 0, promptTokens: 0, outputTokens: 0, contextTokensMax: 0, atMs: 0 };
    fade(faded, arrival.nowMs);
    faded.requests += 1;
    faded.promptTokens += arrival.promptTokens;
    faded.outputTokens += arrival.outputTokens;
    faded.contextTokensMax = Math.max(faded.contextTokensMax, arrival.promptTokens + arrival.outputTokens);
    if (known !== undefined) return;
    if (this.#classes.size >= CLASSES_MAX) this.#dropFaintest(arrival.nowMs);
    this.#classes.set(key, faded);
  }

  /** Sorted by model, tier, region. */
  classes(nowMs: number): readonly DemandClass[] {
    const found: DemandClass[] = [];
    for (const [key, faded] of [...this.#classes].sort(([a], [b]) => (a < b ? -1 : 1))) {
      fade(faded, nowMs);
      const tokPerSecond = ratePerSecond(faded.outputTokens);
      if (tokPerSecond < FORGOTTEN_TOK_PER_SECOND) {
        this.#classes.delete(key);
        continue;
      }
      const { modelId, tier, region } = faded.arrival;
      found.push({
        modelId,
        tier,
        region,
        tokPerSecond,
        promptTokensMean: faded.promptTokens / faded.requests,
        outputTokensMean: faded.outputTokens / faded.requests,
        contextTokensNeeded: faded.contextTokensMax,
      });
    }
    return found;
  }

  #dropFaintest(nowMs: number): void {
    let faintest: { key: string; tokens: number } | null = null;
    for (const [key, faded] of this.#classes) {
      fade(faded, nowMs);
      if (faintest === null || faded.outputTokens < faintest.tokens) faintest = { key, tokens: faded.outputTokens };
    }
    if (faintest !== null) this.#classes.delete(faintest.key);
  }
}

function fade(faded: Faded, nowMs: number): void {
  const factor = 0.5 ** (Math.max(0, nowMs - faded.atMs) / HALF_LIFE_MS);
  faded.requests *= factor;
  faded.promptTokens *= factor;
  faded.outputTokens *= factor;
  faded.atMs = nowMs;
}

function ratePerSecond(fadedTokens: number): number {
  return (fadedTokens * Math.LN2 * 1_000) / HALF_LIFE_MS;
}
