/** What was asked for lately, as a coordinator counts it: averages that fade. */

import { SERVICE_TIERS, type ServiceTier } from "../../../domain/tier.ts";
import type { RequestDraw } from "../scenario/scenario.ts";
import type { ModelDemand } from "./policy.ts";

/** What was asked so long ago counts 1/e. */
export const DEMAND_FADE_MS = 900_000;

interface Meter {
  requests: number;
  promptTokens: number;
  outputTokens: number;
  readonly byTier: Record<ServiceTier, number>;
  atMs: number;
}

export class DemandMeter {
  readonly #meters: readonly Meter[];

  /** What is told before `startMs` is what was asked up to then: nothing fades until that time. */
  constructor(models: number, startMs: number) {
    this.#meters = Array.from({ length: models }, () => ({
      requests: 0,
      promptTokens: 0,
      outputTokens: 0,
      byTier: { priority: 0, default: 0, flex: 0 },
      atMs: startMs,
    }));
  }

  /** `weight`: a request may stand for several, or for a part of one. */
  asked(request: RequestDraw, nowMs: number, weight = 1): void {
    const meter = this.#meters[request.model];
    if (meter === undefined) return;
    fade(meter, nowMs);
    meter.requests += weight;
    meter.byTier[request.tier] += weight;
    meter.promptTokens += weight * request.promptTokens;
    meter.outputTokens += weight * request.outputTokens;
  }

  /** `waiting` by model. */
  demands(nowMs: number, waiting: readonly number[]): readonly ModelDemand[] {
    return this.#meters.map((meter, model) => {
      fade(meter, nowMs);
      const { requests, promptTokens, outputTokens } = meter;
      return {
        requestsPerSecond: (1_000 * requests) / DEMAND_FADE_MS,
        outputTokensPerSecond: (1_000 * outputTokens) / DEMAND_FADE_MS,
        promptTokensMean: requests === 0 ? 0 : promptTokens / requests,
        outputTokensMean: requests === 0 ? 0 : outputTokens / requests,
        tierShares: {
          priority: shareOf(meter, "priority"),
          default: shareOf(meter, "default"),
          flex: shareOf(meter, "flex"),
        },
        waiting: waiting[model] ?? 0,
      };
    });
  }
}

function shareOf({ byTier, requests }: Meter, tier: ServiceTier): number {
  return requests === 0 ? 0 : byTier[tier] / requests;
}

function fade(meter: Meter, nowMs: number): void {
  if (nowMs <= meter.atMs) return;
  const factor = Math.exp(-(nowMs - meter.atMs) / DEMAND_FADE_MS);
  meter.requests *= factor;
  for (const tier of SERVICE_TIERS) meter.byTier[tier] *= factor;
  meter.promptTokens *= factor;
  meter.outputTokens *= factor;
  meter.atMs = nowMs;
}
