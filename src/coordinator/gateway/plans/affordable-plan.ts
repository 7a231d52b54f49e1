/**
 * A caller who says what a request may cost, and not how long its answer may be, gets as long a one as that buys: asking for all that the
 * context leaves would be refused as too dear nearly always. Where he names a length, it is his: the route then refuses what is too dear.
 */
import { holdAmount } from "../../../market/hold.ts";
import { costCap } from "../../../scheduler/tiers/route-rules.ts";
import type { GatewayModels } from "../gateway-options.ts";
import type { GenerationPlan } from "./generation-plan.ts";

export function affordablePlan(models: Pick<GatewayModels, "get" | "priceOf">, plan: GenerationPlan): GenerationPlan {
  const cap = costCap(plan.preferences);
  if (cap === null || plan.isTokensMaxAsked) return plan;
  const served = models.get(plan.model.manifest.modelId);
  // What only providers have is bought at their prices: the route takes those that keep the cap.
  if (served === null) return plan;
  const price = models.priceOf(served.manifest, plan.tier);
  const { promptTokens, choices } = plan;
  const most = (maxTokens: number) => holdAmount({ promptTokens, maxTokens, choices: choices.length, price });
  if (most(plan.tokensMax) <= cap || most(1) > cap) return plan;
  let [fits, tooMany] = [1, plan.tokensMax];
  while (tooMany - fits > 1) {
    const middle = Math.floor((fits + tooMany) / 2);
    if (most(middle) <= cap) fits = middle;
    else tooMany = middle;
  }
  return { ...plan, tokensMax: fits };
}
