/**
 * What an access link does to packets: the way between one host or router and the core of the lab's internet. The delay of
 * a path is the sum of its two links, so 40 ms of round trip are, say, 20 ms on one link and none on the other.
 */
import { z } from "zod";

/** Longest one-way delay: a geostationary satellite takes 300 ms. Bounds the packets that are on their way. */
const DELAY_MAX_MS = 2_000;
const RATE_MAX_MBIT = 100_000;
const QUEUE_MAX_KB = 64 * 1024;
/** 80 ms at 100 Mbit/s: what a home router holds. */
const QUEUE_DEFAULT_KB = 1_000;

const share = z.number().min(0).max(1);
const rateMbit = z.number().positive().max(RATE_MAX_MBIT).nullable();

/** Loss in bursts after Gilbert and Elliott: a bad state entered and left by chance per packet, with a loss of its own. */
const burstSchema = z.strictObject({ enterShare: share, leaveShare: share, lossShare: share });

const shapeFields = {
  /** One way, on this link. */
  delayMs: z.number().min(0).max(DELAY_MAX_MS),
  /** Added to the delay, uniform from 0 to this; packets stay in order. */
  jitterMs: z.number().min(0).max(DELAY_MAX_MS),
  /** Chance that a packet from the owner of the link is lost, each by itself. */
  lossShareUp: share,
  lossShareDown: share,
  /** On top of the single losses, in both directions, each with a state of its own. */
  burst: burstSchema.nullable(),
  /** From the owner of the link into the core; null is as fast as the machine. */
  rateMbitUp: rateMbit,
  rateMbitDown: rateMbit,
  /** Waiting bytes at which the tail is dropped, per direction. */
  queueKb: z.number().positive().max(QUEUE_MAX_KB),
};

export const linkShapeSchema = z.strictObject(shapeFields);
export type LinkShape = Readonly<z.infer<typeof linkShapeSchema>>;

/** What a lab asks for: any part of a shape, and one word for both directions. */
export const linkSpecSchema = z.strictObject({ ...shapeFields, lossShare: share, rateMbit }).partial();
export type LinkSpec = Readonly<z.input<typeof linkSpecSchema>>;

export const PLAIN_SHAPE: LinkShape = {
  delayMs: 0,
  jitterMs: 0,
  lossShareUp: 0,
  lossShareDown: 0,
  burst: null,
  rateMbitUp: null,
  rateMbitDown: null,
  queueKb: QUEUE_DEFAULT_KB,
};

/** The shape with the asked changes; what is not named stays. */
export function reshape(shape: LinkShape, asked: LinkSpec): LinkShape {
  const { lossShare, rateMbit: rate, ...named } = linkSpecSchema.parse(asked);
  const both = {
    ...(lossShare === undefined ? {} : { lossShareUp: lossShare, lossShareDown: lossShare }),
    ...(rate === undefined ? {} : { rateMbitUp: rate, rateMbitDown: rate }),
  };
  return linkShapeSchema.parse({ ...shape, ...both, ...named });
}
