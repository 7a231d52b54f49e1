/** What would help a request that is turned away: the end of each refusal for capacity. */
import type { ServiceTier } from "../../domain/tier.ts";
import type { LoserCounts, LoserReason } from "../placement/snapshot.ts";

/** Of a queue that is full, or of a wait that is in vain. */
export function helpForWaiting(tier: ServiceTier): string {
  const cloud = "allow the cloud (grid.hybrid), where a provider has the model";
  switch (tier) {
    case "priority":
      return `try again then, or ${cloud}`;
    case "default":
      return `try again then, take service_tier 'priority', which is served first, or ${cloud}`;
    case "flex":
      return "try again then, or take service_tier 'default', which is served before flex";
  }
}

const BY_REASON: Partial<Readonly<Record<LoserReason, string>>> = {
  "memory-too-small": "a machine with more memory that joins (fallow join), or a smaller quantisation of the model",
  "context-too-small": "a shorter prompt or a smaller max_tokens",
  "region-not-allowed": "another of grid.regions",
  "trust-too-low": "a lower grid.trust_min",
  "price-too-high": "a higher bound on what a node may cost",
  "node-draining": "the end of a drain (fallow nodes undrain)",
  "load-failed-recently": "another try later: loading is tried again by itself",
};

/** Of nodes that can never run it, by why they cannot; most of them first. */
export function helpForNodes(losers: LoserCounts): string {
  const helps = [...losers]
    .sort(([nameA, countA], [nameB, countB]) => countB - countA || (nameA < nameB ? -1 : 1))
    .flatMap(([reason]) => BY_REASON[reason] ?? []);
  return [...new Set(helps)].join("; or ") || "a machine that joins (fallow join)";
}
