/** What a lab and its emulator say to each other: one JSON object a line, an answer for each order, in order. */
import { z } from "zod";
import { linkShapeSchema } from "./link-shape.ts";

const openedLinkSchema = z.strictObject({
  name: z.string(),
  /** The namespace in which the device `wan0` is made. */
  namespace: z.string(),
  address: z.ipv4(),
  shape: linkShapeSchema,
  seed: z.number().int(),
});
export type OpenedLink = z.infer<typeof openedLinkSchema>;

export const orderSchema = z.discriminatedUnion("op", [
  z.strictObject({ op: z.literal("open"), links: z.array(openedLinkSchema) }),
  z.strictObject({ op: z.literal("shape"), link: z.string(), shape: linkShapeSchema }),
  z.strictObject({ op: z.literal("cut"), link: z.string(), isCut: z.boolean() }),
  z.strictObject({ op: z.literal("block"), pair: z.tuple([z.string(), z.string()]), isBlocked: z.boolean() }),
  z.strictObject({ op: z.literal("counters") }),
  z.strictObject({ op: z.literal("close") }),
]);
export type Order = z.infer<typeof orderSchema>;

const directionCountersSchema = z.strictObject({
  /** Delivered: what came out at the far end of this direction. */
  packets: z.number(),
  bytes: z.number(),
  lostPackets: z.number(),
  queueDroppedPackets: z.number(),
  /** Dropped because the link was cut, the pair partitioned, or the emulator out of room. */
  refusedPackets: z.number(),
});
export type DirectionCounters = z.infer<typeof directionCountersSchema>;

export const countersSchema = z.strictObject({
  /** `up` is from the owner of the link into the core. Bytes are those of IP packets. */
  links: z.record(z.string(), z.strictObject({ up: directionCountersSchema, down: directionCountersSchema })),
  /** To addresses that no link has. */
  unroutedPackets: z.number(),
  /** How much later than it should have been each packet was delivered. */
  late: z.strictObject({ meanUs: z.number(), p50Us: z.number(), p99Us: z.number(), maxUs: z.number() }),
});
export type EmulatorCounters = z.infer<typeof countersSchema>;

export const answerSchema = z.union([
  z.strictObject({ ok: z.literal(true), counters: countersSchema.optional() }),
  z.strictObject({ ok: z.literal(false), message: z.string() }),
]);
export type Answer = z.infer<typeof answerSchema>;
