/**
 * What each tier promises in churn runs. Chosen for a grid of idle machines, where a chain across regions pays a round trip for each
 * token: four tokens a second are about what people read, two a second are slow, flex may wait.
 */
import type { ServiceTier } from "../../../domain/tier.ts";
import type { TierBounds } from "../churn-report.ts";

export const TIER_BOUNDS: Readonly<Record<ServiceTier, TierBounds>> = {
  priority: { firstTokenMs: 10_000, perTokenMs: 250, patienceMs: 120_000 },
  default: { firstTokenMs: 25_000, perTokenMs: 500, patienceMs: 300_000 },
  flex: { firstTokenMs: 120_000, perTokenMs: 2_000, patienceMs: 1_200_000 },
};

/** How long after the last arrival the last patience ends. */
export const TAIL_MS = TIER_BOUNDS.flex.patienceMs + 60_000;
