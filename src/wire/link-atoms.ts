/** Bounds and the smallest schemas of the agent link; every message is built from these. */
import { z } from "zod";
import { ID_PATTERNS } from "../domain/ids.ts";

/** Bounds on what a peer may send. */
export const WIRE_BOUNDS = {
  tokensPerPromptMax: 1_048_576,
  tokensPerChunkMax: 256,
  chunksPerFrameMax: 512,
  replicasPerNodeMax: 64,
  devicesPerNodeMax: 64,
  textMax: 2_000,
  /** Files of weights that a node tells of: those used last. */
  weightsPerNodeMax: 256,
  /** Runs of chunks in one message; who has more gaps tells of those that come first. */
  chunkRunsMax: 4_096,
  /** Holders that one answer names. */
  holdersMax: 32,
  addressesPerNodeMax: 16,
  linksPerReportMax: 256,
} as const;

export const count = z.number().int().min(0).max(Number.MAX_SAFE_INTEGER);
/** A hundred thousand times the fastest device there is: sums and products of such figures stay far from infinite. */
export const tokPerSecond = z.number().min(0).max(1e9);
export const tokenId = z
  .number()
  .int()
  .min(0)
  .max(2 ** 31 - 1);
export const hex = (bytes: number) => z.string().regex(new RegExp(`^[0-9a-f]{${bytes * 2}}$`));
export const text = z.string().max(WIRE_BOUNDS.textMax);
export const sha256 = hex(32);
export const replicaId = z.string().regex(ID_PATTERNS.replica);
export const leaseId = z.string().regex(ID_PATTERNS.lease);
export const attemptId = z.string().regex(ID_PATTERNS.attempt);
export const requestId = z.string().regex(ID_PATTERNS.request);
export const nodeId = z.string().regex(ID_PATTERNS.node);
export const modelId = z.string().regex(ID_PATTERNS.model);
export const variant = z.enum(["cpu", "cuda", "vulkan", "metal"]);
export const hostPortSchema = z.object({ host: z.string().min(1).max(253), port: z.number().int().min(1).max(65_535) });
