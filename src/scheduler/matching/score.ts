/**
 * The score of a candidate, in milliseconds of the caller's time: how much sooner, or as good as sooner, he is served there. Each part
 * is what the thing costs or saves, so that parts can be added and a person can argue with every weight.
 *
 * | part     | range            | why                                                                                          |
 * | -------- | ---------------- | -------------------------------------------------------------------------------------------- |
 * | warmth   | 0 to 2,000       | share of the layers that are in device memory; the rest has to be loaded first                 |
 * | prefix   | 0 to 500         | share of the prompt whose KV cache is there: prefill that is spared                            |
 * | speed    | 0 to 200         | half of it at 30 tok/s on the reference load: saturates, since the reference model is not this one |
 * | trust    | 0 to 200         | 0 to 1; a floor is a rule, this only breaks ties towards the proved                            |
 * | rtt      | down to -600,000 | round trip to the coordinator, and from the caller's region to the node's                      |
 * | price    | down             | 1 ms for each 1,000 micro-USD an hour: 0.10 USD an hour is worth 100 ms                        |
 * | load     | -1,000 to 0      | share of the slots that are leased: a full batch decodes slower and answers later              |
 * | risk     | -2,000 to 0      | chance that the node leaves before the work is done, times what a move costs                   |
 * | carbon   | down             | 1 ms for each 10 g CO2 an hour                                                                 |
 *
 * Weights are hand-set; prefix, load and speed keep the proportions that dispatch was tuned and tested with (0.5 : 1 : 0.2).
 * Not handled: weights by tier.
 */
export const SCORE_WEIGHTS = {
  warmthMs: 2_000,
  prefixMs: 500,
  speedMs: 200,
  /** Half of `speedMs` is reached here. */
  speedHalfTokPerSecond: 30,
  trustMs: 200,
  priceMsPerMicroUsdPerHour: 1e-3,
  loadMs: 1_000,
  /** What a move costs its caller: cold 240 ms to 1.5 s on one machine (bench failover), more over a WAN. */
  riskMs: 2_000,
  carbonMsPerGramPerHour: 0.1,
} as const;

/**
 * Scores closer than this are near-equals, and the live load of two of them decides: less than a caller can notice, more than the
 * noise of a measured round trip.
 */
export const TIE_BAND_MS = 5;

export const SCORE_PARTS = ["warmth", "prefix", "speed", "trust", "rtt", "price", "load", "risk", "carbon"] as const;
export type ScorePart = (typeof SCORE_PARTS)[number];
/** Each in milliseconds, signed; their sum is the score. */
export type ScoreParts = Readonly<Record<ScorePart, number>>;

export interface NodeQualities {
  readonly decodeTokPerSecond: number;
  readonly trust: number;
  readonly rttMs: number;
  readonly priceMicroUsdPerHour: number;
  readonly gramsCo2PerHour: number;
}

/** The part of the score that only the node decides. */
export function nodeScore(node: NodeQualities): number {
  const { speed, trust, rtt, price, carbon } = nodeParts(node);
  return speed + trust + rtt + price + carbon;
}

export function nodeParts(node: NodeQualities): Pick<ScoreParts, "speed" | "trust" | "rtt" | "price" | "carbon"> {
  const { speedMs, speedHalfTokPerSecond, trustMs, priceMsPerMicroUsdPerHour, carbonMsPerGramPerHour } = SCORE_WEIGHTS;
  return {
    speed: (speedMs * node.decodeTokPerSecond) / (node.decodeTokPerSecond + speedHalfTokPerSecond),
    trust: trustMs * node.trust,
    rtt: -node.rttMs,
    price: -priceMsPerMicroUsdPerHour * node.priceMicroUsdPerHour,
    carbon: -carbonMsPerGramPerHour * node.gramsCo2PerHour,
  };
}

const MS_PER_HOUR = 3_600_000;

/** A chance of staying one hour as a rate of leaving; a chance of 0 leaves within the second. */
export function hazardPerMs(stayChancePerHour: number): number {
  return -Math.log(Math.max(stayChancePerHour, Number.MIN_VALUE)) / MS_PER_HOUR;
}

/** 0 or less. */
export function riskScore(hazardOfNodePerMs: number, remainingMs: number): number {
  if (hazardOfNodePerMs === 0 || remainingMs === 0) return 0;
  return -SCORE_WEIGHTS.riskMs * (1 - Math.exp(-hazardOfNodePerMs * remainingMs));
}
