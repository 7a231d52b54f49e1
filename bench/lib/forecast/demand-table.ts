/** One hour ahead, each model and each hour of the model-request trace, after two days to begin with. */
import { DemandModel } from "../../../src/scheduler/forecast/demand-model.ts";
import { HOUR_MS } from "../../../src/scheduler/forecast/life-table.ts";
import type { ModelRequest } from "./model-requests.ts";

const BEGIN_HOURS = 48;
const DAY_HOURS = 24;
export const QUANTILES = [0.5, 0.8, 0.95] as const;

export interface DemandScore {
  /** Sum of misses over sum of requests. */
  readonly wape: number;
  /** Sum of misses over that of the same hour of the day before. */
  readonly mase: number;
  /** Pinball loss over that of the same forecast as every quantile, by quantile. */
  readonly pinballRatio: readonly number[];
}

export function scoreDemand(requests: readonly ModelRequest[]): {
  readonly ours: DemandScore;
  readonly naiveWape: number;
  readonly lastHourWape: number;
} {
  const firstHour = Math.floor((requests[0]?.atMs ?? 0) / HOUR_MS);
  const hours = Math.floor((requests.at(-1)?.atMs ?? 0) / HOUR_MS) - firstHour + 1;
  const counts = new Map<string, number[]>();
  for (const { modelId, atMs } of requests) {
    const row = counts.get(modelId) ?? new Array<number>(hours).fill(0);
    const hour = Math.floor(atMs / HOUR_MS) - firstHour;
    row[hour] = (row[hour] ?? 0) + 1;
    counts.set(modelId, row);
  }
  const model = new DemandModel();
  const sums = { requests: 0, ours: 0, naive: 0, last: 0 };
  const pinball = QUANTILES.map(() => ({ ours: 0, naive: 0 }));
  let fed = 0;
  for (let hour = 0; hour < hours; hour++) {
    const nowMs = (firstHour + hour) * HOUR_MS;
    for (; (requests[fed]?.atMs ?? Number.POSITIVE_INFINITY) < nowMs; fed++) {
      const { modelId, atMs } = requests[fed] ?? { modelId: "", atMs: 0 };
      model.take({ modelId, region: "" }, atMs);
    }
    model.advance(nowMs);
    if (hour < BEGIN_HOURS) continue;
    for (const [modelId, row] of counts) {
      const count = row[hour] ?? 0;
      const naive = row[hour - DAY_HOURS] ?? 0;
      const pair = { modelId, region: "" };
      sums.requests += count;
      sums.ours += Math.abs(count - model.expected(pair, nowMs, HOUR_MS));
      sums.naive += Math.abs(count - naive);
      sums.last += Math.abs(count - (row[hour - 1] ?? 0));
      QUANTILES.forEach((chance, at) => {
        const loss = pinball[at];
        if (loss === undefined) return;
        loss.ours += pinballLoss(count, model.quantile(pair, nowMs, HOUR_MS, chance), chance);
        loss.naive += pinballLoss(count, naive, chance);
      });
    }
  }
  return {
    ours: {
      wape: sums.ours / sums.requests,
      mase: sums.ours / sums.naive,
      pinballRatio: pinball.map(({ ours, naive }) => ours / naive),
    },
    naiveWape: sums.naive / sums.requests,
    lastHourWape: sums.last / sums.requests,
  };
}

function pinballLoss(count: number, quantile: number, chance: number): number {
  return count >= quantile ? chance * (count - quantile) : (1 - chance) * (quantile - count);
}
