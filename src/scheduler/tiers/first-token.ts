import type { ServiceTier } from "../../domain/tier.ts";

/**
 * By when each tier's first token should come. Whoever may use the cloud when the grid would be late (`cloud-fallback`) goes there when the
 * grid expects to be later than this, or when it is. Flex promises no time, so it is late only where its callers would have given up.
 */
export const FIRST_TOKEN_MS_MAX: Readonly<Record<ServiceTier, number>> = {
  // What people bear before an answer begins; a warm replica of the grid is ten times faster.
  priority: 2_000,
  // A cold start of a small model, or a queue that moves.
  default: 15_000,
  flex: 120_000,
};
