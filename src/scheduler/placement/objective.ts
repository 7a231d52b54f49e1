/**
 * What a placement is worth, in micro-USD per hour:
 *
 *   sum v * min(D, X)  -  price * use  -  moved * GB / remaining life  -  carbon * gCO2  -  loss * (1 - S) * v * D  -  memory * GB
 *
 * per class of demand v is its price times the tier's factor, times what a slow or coarse replica's token is worth against the
 * best. `use` is the share of the machine's memory that the replica needs at least. The last part is ours: memory that holds
 * what nobody asks for is not free, else a grid without prices would fill itself with copies.
 */
import type { ServiceTier } from "../../domain/tier.ts";
import type { ObjectiveWeights, TierRule } from "./plan-question.ts";

export const OBJECTIVE: ObjectiveWeights = {
  // Home lines are not billed by the byte: 50 USD a month for 100 Mbit/s (45 GB an hour) is 1,540 for a GB. Nobody tells the grid which
  // node pays for bytes; a cloud's egress is 10,000 to 90,000, paid once by who serves the weights, and outweighs no copy of a model
  // that is asked for: the load is paid once, over the hours that the replica stays.
  movedMicroUsdPerGb: 1_500,
  // 100 USD a tonne, about the price of a certificate.
  carbonMicroUsdPerGram: 100,
  // A 24 GB card for rent at 0.10 USD an hour is 4,000 for a GB; idle memory is priced at a fortieth of that.
  memoryMicroUsdPerGbHour: 100,
  // An answer that is not given loses its price, and the caller who waited for it or went elsewhere as much again. Chosen with the
  // weight above on seeds 1 to 4 of the churn simulator (docs/placement.md).
  lossFactor: 2,
  verificationOverhead: 0,
};

/** Without a rule of its own a tier takes every node. Worth: what waits or may be preempted is worth less than what may not. */
export const TIER_RULES: Readonly<Record<ServiceTier, TierRule>> = {
  priority: { valueFactor: 2, trustMin: 0, priceMicroUsdPerHourMax: null, stagesMax: 4 },
  default: { valueFactor: 1, trustMin: 0, priceMicroUsdPerHourMax: null, stagesMax: 12 },
  flex: { valueFactor: 0.5, trustMin: 0, priceMicroUsdPerHourMax: null, stagesMax: 16 },
};

/** A token that takes so long is worth half of one that comes at once: ten a second is somewhat faster than people read. */
const READER_TOKEN_SECONDS = 0.1;
/** Demand that a warm replica stands for while nobody asks: one reader. */
export const READER_TOK_PER_SECOND = 10;
/** Remaining lives are taken between these: moving for less than five minutes never pays, and nobody promises more than a day. */
const LIFE_HOURS_MIN = 1 / 12;
const LIFE_HOURS_MAX = 24;
/** A free model is still worth serving; also keeps every value above zero. */
const VALUE_MICRO_USD_PER_MTOK_MIN = 1_000;
const GB = 1e9;

/** Worth of a token per second over an hour. */
export function valuePerTokPerSecond(valueMicroUsdPerMtok: number, tier: TierRule): number {
  return (Math.max(VALUE_MICRO_USD_PER_MTOK_MIN, valueMicroUsdPerMtok) * tier.valueFactor * 3_600) / 1e6;
}

/** 0 to 1: a token that comes slowly, or from a coarser file, is worth less. */
export function tokenWorth(token: { seconds: number; qualityPenalty: number }): number {
  return (1 - token.qualityPenalty) / (1 + token.seconds / READER_TOKEN_SECONDS);
}

/** Hours that a node stays, when `stayChance` is its chance to stay for the horizon (exponential law). */
export function remainingLifeHours(stayChance: number, horizonMs: number): number {
  const horizonHours = horizonMs / 3_600_000;
  const hours = stayChance >= 1 ? LIFE_HOURS_MAX : stayChance <= 0 ? 0 : -horizonHours / Math.log(stayChance);
  return Math.min(LIFE_HOURS_MAX, Math.max(LIFE_HOURS_MIN, hours));
}

export interface ReplicaCost {
  readonly movedBytes: number;
  /** What it needs at least, and what the node's owner lends in all. */
  readonly neededBytes: number;
  readonly usableBytes: number;
  readonly priceMicroUsdPerHour: number;
  readonly gramsCo2PerHour: number;
  readonly lifeHours: number;
}

export function replicaCost(replica: ReplicaCost, weights: ObjectiveWeights): number {
  const use = replica.usableBytes > 0 ? Math.min(1, replica.neededBytes / replica.usableBytes) : 1;
  return (
    use * (replica.priceMicroUsdPerHour + weights.carbonMicroUsdPerGram * replica.gramsCo2PerHour) +
    (weights.movedMicroUsdPerGb * (replica.movedBytes / GB)) / replica.lifeHours +
    weights.memoryMicroUsdPerGbHour * (replica.neededBytes / GB)
  );
}
