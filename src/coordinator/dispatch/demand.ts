import type { ModelId } from "../../domain/ids.ts";
import type { Demand } from "../../scheduler/placement/plan-question.ts";
import type { Work } from "./work.ts";

/** What waits, by model. */
export function demandOf(waiting: readonly Work[]): ReadonlyMap<ModelId, Demand> {
  const demand = new Map<ModelId, Demand>();
  for (const work of waiting) {
    const before = demand.get(work.modelId) ?? { waiting: 0, tokensNeeded: 0 };
    const tokensNeeded = Math.max(before.tokensNeeded, work.tokensNeeded());
    demand.set(work.modelId, { waiting: before.waiting + 1, tokensNeeded });
  }
  return demand;
}
