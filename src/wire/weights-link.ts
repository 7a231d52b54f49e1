/**
 * The agent link's messages about weights and the network between nodes: what lies where, who fetches what from whom, how nodes reach each
 * other. Everything here is a hint until checked: chunks by their digests, peers by their keys, rights by the grid's signature.
 */
import { z } from "zod";
import { CHUNKS_MAX } from "../domain/weights.ts";
import { signedGrantSchema } from "./fetch-grant.ts";
import { count, hex, hostPortSchema, nodeId, sha256, text, WIRE_BOUNDS } from "./link-atoms.ts";

// ---------------------------------------------------------------- agent -> coordinator

/** All files of weights on the node, and those it brings in ahead of need; sent when asked for in `welcome`, at once and at each change. */
export const weightsStateSchema = z.object({
  type: z.literal("weights.state"),
  weights: z
    .array(z.object({ weightsSha256: sha256, fileBytes: count, state: z.enum(["cached", "staging"]) }))
    .max(WIRE_BOUNDS.weightsPerNodeMax),
  /** Models that are here in part, with what is here of them; they count as holdings of nothing but their chunks (`weights.have`). */
  parts: z
    .array(z.object({ weightsSha256: sha256, fileBytes: count, storedBytes: count }))
    .max(WIRE_BOUNDS.weightsPerNodeMax)
    .optional(),
  /** What it may still store; null when the node has not measured it. */
  freeBytes: count.nullable(),
});
export type WeightsState = z.infer<typeof weightsStateSchema>;

/** Chunks as `[from, count]`, ascending and apart (`domain/chunk-set.ts`). */
export const chunkRunsSchema = z
  .array(z.tuple([count.max(CHUNKS_MAX), z.number().int().min(1).max(CHUNKS_MAX)]))
  .max(WIRE_BOUNDS.chunkRunsMax);
export const peerEndpointsSchema = z.object({
  tcp: z.array(hostPortSchema).max(WIRE_BOUNDS.addressesPerNodeMax),
  hasUdp: z.boolean(),
});
/** A stage's share of a model (`domain/weights.ts`); absent for the whole. */
export const layerShareSchema = z.object({
  first: z.number().int().min(0).max(4_096),
  count: z.number().int().min(1).max(4_096),
  hasEmbedding: z.boolean(),
  hasOutput: z.boolean(),
});

/** How other nodes reach this one; sent when online and at each change. Only who sends it is named to others. */
export const peerEndpointsMessageSchema = z.object({
  type: z.literal("peer.endpoints"),
  endpoints: peerEndpointsSchema,
});

/** Which chunks of a model this node has and serves: all of them as runs, at once and as they come (at most twice a second for each model). */
export const weightsHaveSchema = z.object({
  type: z.literal("weights.have"),
  weightsSha256: sha256,
  runs: chunkRunsSchema,
  /** Uploads that run now and how many it takes at once: the least busy is asked first. 0 at once while the owner is at the machine. */
  uploads: count,
  uploadsMax: count,
});

/** Asks who has the chunks, and for grants to fetch them there. Answered by `weights.holders`, and again when holders change until `weights.done`. */
export const weightsWantSchema = z.object({
  type: z.literal("weights.want"),
  weightsSha256: sha256,
  need: chunkRunsSchema,
  /** Brought in ahead of need: served after all that somebody waits for. */
  isIdle: z.boolean(),
});
export const weightsDoneSchema = z.object({ type: z.literal("weights.done"), weightsSha256: sha256 });

/**
 * Asks for chunks to take from the source. The coordinator gives each chunk to one node only, and none that a holder could give, so that the
 * source sends a model about once however many start together. Answered by `weights.claimed`.
 */
export const weightsClaimSchema = z.object({
  type: z.literal("weights.claim"),
  weightsSha256: sha256,
  need: chunkRunsSchema,
  chunksMax: z.number().int().min(1).max(256),
  /** Holders that this node cannot get them from, tried and failed. */
  unreachable: z.array(nodeId).max(WIRE_BOUNDS.holdersMax),
});

/** Another node broke the rules; what it sent was thrown away. */
export const peerReportSchema = z.object({
  type: z.literal("peer.report"),
  nodeId,
  weightsSha256: sha256.nullable(),
  code: z.enum(["bad-chunk", "wrong-length", "too-slow", "breach", "unreachable"]),
  detail: text,
});

/** What this node measured of its ways to others since the last report. */
export const peerLinksSchema = z.object({
  type: z.literal("peer.links"),
  links: z
    .array(
      z.object({
        nodeId,
        carrier: z.enum(["tcp", "udp", "relay"]),
        rttMs: z.number().min(0).max(600_000).nullable(),
        lossShare: z.number().min(0).max(1).nullable(),
        bytesPerSecond: z.number().min(0).max(1e12).nullable(),
      }),
    )
    .max(WIRE_BOUNDS.linksPerReportMax),
});

/** Asks for a relayed connection to another node: the coordinator offers it to both ends (`relay.offer`), or answers `relay.refused`. */
export const relayAskSchema = z.object({ type: z.literal("relay.ask"), nodeId, askId: hex(8) });

// ---------------------------------------------------------------- coordinator -> agent

/**
 * Bring a file of weights in ahead of need: it takes free room only, yields to every `replica.load` and to the owner, and ends with the
 * link. What came of it is told in `weights.state`; a copy that was cut short goes on from there when it is ordered again.
 */
export const weightsStageSchema = z.object({
  type: z.literal("weights.stage"),
  weightsSha256: sha256,
  /** Of the whole model. */
  fileBytes: count,
  layers: layerShareSchema.optional(),
});
export type WeightsStage = z.infer<typeof weightsStageSchema>;

export const weightsHoldersSchema = z.object({
  type: z.literal("weights.holders"),
  weightsSha256: sha256,
  /** The nearest and least busy first; those that were granted before come without a grant while it lasts. */
  holders: z
    .array(
      z.object({
        nodeId,
        publicKey: hex(32),
        endpoints: peerEndpointsSchema,
        runs: chunkRunsSchema,
        grant: signedGrantSchema.nullable(),
      }),
    )
    .max(WIRE_BOUNDS.holdersMax),
});

export const weightsClaimedSchema = z.object({
  type: z.literal("weights.claimed"),
  weightsSha256: sha256,
  /** Empty: holders have them, or others bring them; ask again after `retryAfterMs`. */
  runs: chunkRunsSchema,
  /** Given to others when they have not come by then. */
  ttlMs: count,
  retryAfterMs: count,
});

/** Connect to `RELAY_PATH` + relayId with the session's bearer: the other end does the same, and bytes go through. */
export const relayOfferSchema = z.object({
  type: z.literal("relay.offer"),
  relayId: hex(16),
  /** Of the node that asked; null on the offer to the other. */
  askId: hex(8).nullable(),
  nodeId,
  publicKey: hex(32),
});
export const relayRefusedSchema = z.object({
  type: z.literal("relay.refused"),
  askId: hex(8),
  code: z.string().max(64),
  message: text,
});
