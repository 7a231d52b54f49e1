/** What `GET /grid/v1/weights` and `GET /grid/v1/links` answer: where the weights are, and the ways between nodes. */
import { z } from "zod";

const count = z.number().int().min(0);

export const weightsNodeSchema = z.object({
  nodeId: z.string(),
  nodeName: z.string(),
  /** 0 to 1 of the whole model's chunks. */
  share: z.number(),
  /** Layers that are there in whole, as runs of first and count, ascending. */
  layers: z.array(z.tuple([count, count])),
  /** `serving`: it has some and wants no more; `fetching` and `staging` (ahead of need) until it has what it wants; `listed`: it says so and serves nobody. */
  state: z.enum(["serving", "fetching", "staging", "listed"]),
  /** 0 to 1 of what it wants; null when it wants nothing. */
  progress: z.number().nullable(),
  uploads: count,
  uploadsMax: count,
  /** Taken from the coordinator in this session. */
  sourceBytes: count,
});

export const weightsRowSchema = z.object({
  weightsSha256: z.string(),
  /** Null when the model was removed. */
  modelId: z.string().nullable(),
  totalBytes: count,
  /** These two are 0, and `isPublic` false, until a node asks for the model: its manifest was not read yet. */
  chunkBytes: count,
  chunkCount: count,
  isPublic: z.boolean(),
  /** Since the coordinator started. */
  sourceBytes: count,
  peerBytes: count,
  /** Chunks that nodes are bringing from the source. */
  claimed: count,
  /** The first by id. */
  nodes: z.array(weightsNodeSchema),
  nodeCount: count,
});
export type WeightsRow = z.infer<typeof weightsRowSchema>;
export const weightsListSchema = z.object({ weights: z.array(weightsRowSchema) });

export const linkRowSchema = z.object({
  from: z.string(),
  fromName: z.string(),
  to: z.string(),
  toName: z.string(),
  rttMs: z.number(),
  bytesPerSecond: z.number(),
  /** False: an estimate, also where the round trip was measured. */
  isBandwidthMeasured: z.boolean().optional(),
  lossShare: z.number(),
  /** 0 to 1. */
  confidence: z.number(),
  basis: z.enum(["measured", "same-network", "regions", "triangle", "unknown"]),
  carrier: z.enum(["tcp", "udp", "relay"]).nullable(),
});
export type LinkRow = z.infer<typeof linkRowSchema>;
export const linkListSchema = z.object({ links: z.array(linkRowSchema) });
