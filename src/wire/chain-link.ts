/**
 * The agent link's messages about chains. A stage is loaded like any replica (`replica.load` with `stage`); when all stages are ready `chain.set` tells
 * each of them who is in the chain in this epoch, and they link up: each dials the next, the last one dials the first. The first and the last stage get
 * the same `attempt.start`, each under its own replica id: the first feeds the tokens in, the last samples, streams and signs. `attempt.cancel` goes to
 * both.
 */
import { z } from "zod";
import { CHAIN_STAGES_MAX, WIRE_FORMATS } from "../domain/chain.ts";
import { FINGERPRINT_POSITIONS_MAX, SKETCH_BUCKETS } from "../domain/state-fingerprint.ts";
import { count, hex, modelId, nodeId, replicaId, sha256, text } from "./link-atoms.ts";
import { peerEndpointsSchema } from "./weights-link.ts";

const layers = { first: z.number().int().min(0).max(4_096), count: z.number().int().min(1).max(4_096) };
const ms = z.number().min(0).max(86_400_000);

// ---------------------------------------------------------------- coordinator -> agent

/** In `replica.load`: which layers, and how hidden states travel. */
export const stageOrderSchema = z.object({
  ...layers,
  /** Of the whole model. */
  layerCount: z.number().int().min(1).max(4_096),
  wire: z.enum(WIRE_FORMATS),
  /** First stage only: a small model with the same tokens that drafts; without it the prompt's own repetitions do. */
  draft: z.object({ modelId, weightsSha256: sha256, fileBytes: count }).optional(),
});
export type StageOrder = z.infer<typeof stageOrderSchema>;

/** Who is in the chain from now on. Sent to every stage; one with an older epoch than the stage knows is ignored. */
export const chainSetSchema = z.object({
  type: z.literal("chain.set"),
  /** The receiver's own stage. */
  replicaId,
  /** 32 hex, random: names the chain to its stages over all its epochs. */
  chainId: hex(16),
  /** Grows with every change; at most 2^32 - 1. */
  chainEpoch: count.max(2 ** 32 - 1),
  /** In order; the layers follow each other without gap. */
  stages: z
    .array(z.object({ replicaId, nodeId, publicKey: hex(32), endpoints: peerEndpointsSchema, ...layers }))
    .min(2)
    .max(CHAIN_STAGES_MAX),
  /**
   * Planned moves: this stage takes the keys and values of live sequences from the stage that leaves, before the others link to it. It is sent the new
   * epoch alone, while the others go on in the old one; once its `chain.state` says `hasTakenOver` they are sent it too.
   */
  takeOver: z.object({ replicaId, nodeId, publicKey: hex(32), endpoints: peerEndpointsSchema }).optional(),
  /** To the stage that leaves, in its own epoch, before the other is told to take over: who may fetch its keys and values. Changes nothing else. */
  handOver: z.object({ publicKey: hex(32) }).optional(),
  /**
   * To the first stage, also again in an epoch that it knows, where it changes nothing else: what the slowest stage takes for a decode of single tokens,
   * and all together.
   */
  times: z.object({ slowestMs: ms, sumMs: ms }).optional(),
});
export type ChainSet = z.infer<typeof chainSetSchema>;

/** What did the stage receive at the beginning of this sequence? It answers with `chain.fingerprint`, once. */
export const fingerprintAskSchema = z.object({
  type: z.literal("chain.fingerprint.ask"),
  replicaId,
  chainId: hex(16),
  sequence: hex(8),
});
export type FingerprintAsk = z.infer<typeof fingerprintAskSchema>;

/** How far is each sequence that runs on the stage? Asked when answers of its chain stand still; it answers with `chain.progress`, once. */
export const progressAskSchema = z.object({
  type: z.literal("chain.progress.ask"),
  replicaId,
  chainId: hex(16),
  chainEpoch: count,
});
export type ProgressAsk = z.infer<typeof progressAskSchema>;

/** Answers that a chain was asked for at once, and a bound on the names in one message. */
export const SEQUENCES_TOLD_MAX = 512;

/** These answers are over, whoever holds something of them: keys and values and what was kept to be sent again may go. */
export const sequencesOverSchema = z.object({
  type: z.literal("chain.over"),
  replicaId,
  sequences: z.array(hex(8)).min(1).max(SEQUENCES_TOLD_MAX),
});
export type SequencesOver = z.infer<typeof sequencesOverSchema>;

// ---------------------------------------------------------------- agent -> coordinator

/** How a stage is; at each change of `isLinked`, and once a second while it works. Times are smoothed milliseconds; null: not measured. */
export const chainStateSchema = z.object({
  type: z.literal("chain.state"),
  replicaId,
  chainId: hex(16),
  chainEpoch: count,
  /** It reaches the next stage (the last: the first one) and hears the one before. */
  isLinked: z.boolean(),
  /** Only after a `takeOver`: what could be had of it is here. */
  hasTakenOver: z.boolean().optional(),
  /** Round trip to the next stage; of the last stage to the first. */
  nextRttMs: ms.nullable(),
  /** A decode of single tokens, its mean number of sequences, and one position of a prompt. */
  singleMs: ms.nullable(),
  singlesMean: z.number().min(0).max(256).nullable(),
  promptMsPerPosition: ms.nullable(),
  /** First stage only: from a token's departure until the next one is back. */
  loopMs: ms.nullable(),
  /** First stage only: drafts sent and drafts that came true. */
  drafted: count,
  accepted: count,
  /** Bytes of activations sent, and positions in them. */
  bytesSent: count,
  positionsSent: count,
});
export type ChainStateReport = z.infer<typeof chainStateSchema>;

export const CHAIN_TROUBLES = [
  /** No sign of life from the accused within the bound, or no way to it. */
  "stage-silent",
  "stage-unreachable",
  /** What it sent cannot be: NaN, wrong width, a position that it was not at, another epoch's frame, a frame again, no frame at all. */
  "stage-breach",
  /** Its activations are not those that this model gives. */
  "stage-garbage",
  /** The reporter's own engine is gone. */
  "engine-lost",
  "stage-slow",
] as const;

export const chainTroubleSchema = z.object({
  type: z.literal("chain.trouble"),
  replicaId,
  chainId: hex(16),
  chainEpoch: count,
  kind: z.enum(CHAIN_TROUBLES),
  /** The stage to blame, in the reporter's eyes; it may be the reporter. */
  accused: replicaId,
  /** Stable code of what was seen, e.g. `activations-broken`, `frame-replayed`. */
  code: z.string().min(1).max(64),
  message: text,
});
export type ChainTrouble = z.infer<typeof chainTroubleSchema>;

export const progressSchema = z.object({
  type: z.literal("chain.progress"),
  replicaId,
  chainId: hex(16),
  chainEpoch: count,
  /** It has something to send, and the next stage takes nothing more. */
  isHeldUp: z.boolean(),
  /** Positions that its engine decoded since it was loaded, of all sequences. */
  decoded: count,
  /** Those that run. */
  sequences: z
    .array(
      z.object({
        sequence: hex(8),
        /** Positions that came to it, from the first on; of the first stage: whose tokens it knows. */
        arrived: count,
        /** Positions that went on from it; of the last stage: whose tokens it knows, those that it drew included. */
        passed: count,
        /** It asked the stage before for positions, and they did not come. */
        isLacking: z.boolean(),
      }),
    )
    .max(SEQUENCES_TOLD_MAX),
});
export type ProgressReport = z.infer<typeof progressSchema>;

/** Sums of at most as many elements as a hidden state has, over its root mean square. */
const SKETCH_MAX = 1_024;

export const fingerprintSchema = z.object({
  type: z.literal("chain.fingerprint"),
  replicaId,
  chainId: hex(16),
  sequence: hex(8),
  /** `StateFingerprint`; null: the stage knows nothing of the sequence. */
  fingerprint: z
    .object({
      rms: z.array(z.number().min(0).max(3.5e38)).min(1).max(FINGERPRINT_POSITIONS_MAX),
      sketch: z
        .array(z.number().min(-SKETCH_MAX).max(SKETCH_MAX))
        .min(SKETCH_BUCKETS)
        .max(FINGERPRINT_POSITIONS_MAX * SKETCH_BUCKETS),
    })
    .refine(({ rms, sketch }) => sketch.length === rms.length * SKETCH_BUCKETS, "a sketch for each position")
    .nullable(),
});
export type FingerprintReport = z.infer<typeof fingerprintSchema>;
