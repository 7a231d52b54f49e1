import type { Outlook } from "../dispatch/replica-pool.ts";
import type { Forecast } from "../forecast/forecast.ts";
import type { WeightsDistribution } from "../weights/distribution.ts";
import type { LinkBook } from "./link-book.ts";

/** What plans know beside the nodes' own words: who stays, what is asked for, and the ways between nodes. */
export function outlookOf(
  forecast: Forecast,
  links: Pick<LinkBook, "factsOf">,
  distribution?: Pick<WeightsDistribution, "shareOn" | "endsOf">,
): Outlook {
  return {
    cachedWeights: (nodeId) => forecast.cachedWeights(nodeId),
    stayChance: (nodeId) => forecast.stayChance(nodeId),
    expectedDemand: () => forecast.expectedDemand(),
    links: (nodeId) => links.factsOf(nodeId),
    endsOf: (weightsSha256) => distribution?.endsOf(weightsSha256) ?? null,
    shareOn: (nodeId, weightsSha256, share) => distribution?.shareOn(nodeId, weightsSha256, share) ?? null,
  };
}
