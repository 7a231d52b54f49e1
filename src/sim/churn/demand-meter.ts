/** What was asked for lately, as a coordinator counts it: averages that fade. */
import type { RequestDraw } from "./scenario.ts";
import type { ModelDemand } from "./policy.ts";

/** What was asked so long ago counts 1/e. */
export const DEMAND_FADE_MS = 900_000;

interface Meter {
  requests: number;
  promptTokens: number;
  outputTokens: number;
  atMs: number;
}

export class DemandMeter {
  readonly #meters: readonly Meter[];

  constructor(models: number, startMs: number) {
    this.#meters = Array.from({ length: models }, () => ({ requests: 0, promptTokens: 0, outputTokens: 0, atMs: startMs }));
  }

  asked(request: RequestDraw, nowMs: number): void {
    const meter = this.#meters[request.model];
    if (meter === undefined) return;
    fade(meter, nowMs);
    meter.requests += 1;
    meter.promptTokens += request.promptTokens;
    meter.outputTokens += request.outputTokens;
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
        waiting: waiting[model] ?? 0,
      };
    });
  }
}

function fade(meter: Meter, nowMs: number): void {
  const factor = Math.exp(-(nowMs - meter.atMs) / DEMAND_FADE_MS);
  meter.requests *= factor;
  meter.promptTokens *= factor;
  meter.outputTokens *= factor;
  meter.atMs = nowMs;
}
