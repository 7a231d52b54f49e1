/**
 * What a tier costs: the model's own price times the tier's factor. Intuition: who can wait takes what nobody else wants and pays half; who
 * cannot wait is hedged, so that two nodes may work for one answer, and pays half as much again.
 */
import { assert } from "../domain/assert.ts";
import type { TokenPrice } from "../domain/money.ts";
import type { ServiceTier } from "../domain/tier.ts";

/** Basis points (1/10,000) of the model's price. */
export type TierFactors = Readonly<Record<ServiceTier, number>>;

export const PRIORITY_BASIS_POINTS = 15_000;
export const DEFAULT_BASIS_POINTS = 10_000;
/** As OpenAI's flex and batch: half. */
export const FLEX_BASIS_POINTS = 5_000;

export const TIER_FACTORS: TierFactors = {
  priority: PRIORITY_BASIS_POINTS,
  default: DEFAULT_BASIS_POINTS,
  flex: FLEX_BASIS_POINTS,
};

/** A hundred times the model's price: above it, it is another price and not a tier's. */
export const TIER_FACTOR_BASIS_POINTS_MAX = 1_000_000;

/** Each of the two prices rounded up to a whole micro-USD per million tokens, so that only what is free stays free. */
export function tierPrice(price: TokenPrice, basisPoints: number): TokenPrice {
  assert(
    Number.isInteger(basisPoints) && basisPoints >= 0 && basisPoints <= TIER_FACTOR_BASIS_POINTS_MAX,
    `${basisPoints} is 0 to ${TIER_FACTOR_BASIS_POINTS_MAX} basis points`,
  );
  const scaled = (microUsdPerMtok: number) =>
    Number((BigInt(microUsdPerMtok) * BigInt(basisPoints) + 9_999n) / 10_000n);
  return {
    inputMicroUsdPerMtok: scaled(price.inputMicroUsdPerMtok),
    outputMicroUsdPerMtok: scaled(price.outputMicroUsdPerMtok),
  };
}
