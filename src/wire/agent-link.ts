/**
 * The protocol between an agent and the coordinator: JSON text frames over one Link, version 1.
 *
 * | step | from        | message                                                                                        |
 * | ---- | ----------- | ---------------------------------------------------------------------------------------------- |
 * | 1    | coordinator | `challenge`: versions spoken, grid, nonce                                                       |
 * | 2    | agent       | `hello`: version chosen, public key, signature over (grid, nonce, channel binding), token, hardware |
 * | 3    | coordinator | `welcome`, or `refused` and the link closes                                                     |
 * | 4    | both        | `heartbeat` each second, `heartbeat.ack`; replica orders and states; attempts and their chunks   |
 *
 * Each side parses what it gets with the other side's union; a frame that does not parse closes the link (`protocolError`)
 * after counting it. The channel binding in the signature ties the proof of identity to this TLS connection, so that a
 * machine in the middle cannot pass it on. Integers are milliseconds, bytes or counts; digests and keys are lower-case hex.
 */
import { z } from "zod";
import { NODE_PRICE_MICRO_USD_PER_HOUR_MAX } from "../domain/node-price.ts";
import { REGION_PATTERN } from "../domain/region.ts";
import { attachedServerSchema, lacksSchema } from "./attached-server.ts";
import {
  chainSetSchema,
  chainStateSchema,
  chainTroubleSchema,
  fingerprintAskSchema,
  fingerprintSchema,
  progressAskSchema,
  progressSchema,
  sequencesOverSchema,
  stageOrderSchema,
} from "./chain-link.ts";
import {
  attemptId,
  count,
  hex,
  hostPortSchema,
  leaseId,
  modelId,
  nodeId,
  replicaId,
  requestId,
  sha256,
  text,
  tokenId,
  tokPerSecond,
  variant,
  WIRE_BOUNDS,
} from "./link-atoms.ts";
import {
  peerEndpointsMessageSchema,
  peerLinksSchema,
  peerReportSchema,
  relayAskSchema,
  relayOfferSchema,
  relayRefusedSchema,
  weightsClaimedSchema,
  weightsClaimSchema,
  weightsDoneSchema,
  weightsHaveSchema,
  weightsHoldersSchema,
  weightsStageSchema,
  weightsStateSchema,
  weightsWantSchema,
} from "./weights-link.ts";

export const LINK_PROTOCOL_VERSION = 1;
export const LINK_PROTOCOL_VERSIONS: readonly number[] = [LINK_PROTOCOL_VERSION];
/** Path of the WebSocket endpoint on the coordinator. */
export const LINK_PATH = "/grid/v1/link";
/**
 * Weights for agents, with the bearer of their session; followed by the SHA-256 of the weights and `/manifest` (signed, JSON), `/digests` (32 bytes
 * for each chunk) or `/files/{index}` (one byte range).
 */
export const WEIGHTS_PATH = "/grid/v1/weights/";
/** Path of a relayed connection's WebSocket, followed by its relay id. */
export const RELAY_PATH = "/grid/v1/relay/";

export { WIRE_BOUNDS } from "./link-atoms.ts";
export { type WeightsStage, type WeightsState, weightsStateSchema } from "./weights-link.ts";

export const deviceSchema = z.object({
  deviceId: z.string().min(1).max(64),
  kind: z.enum(["cpu", "gpu"]),
  variant,
  name: text,
  memoryBytes: count,
  memoryFreeBytes: count,
  reserveBytes: count,
});

export const nodeCapabilitiesSchema = z.object({
  platform: text,
  cpuModel: text,
  cpuCores: z.number().int().min(1).max(4_096),
  memoryBytes: count,
  diskFreeBytes: count,
  devices: z.array(deviceSchema).max(WIRE_BOUNDS.devicesPerNodeMax),
  engineVariant: variant,
  engineVersion: text,
  referenceSpeed: z
    .object({ prefillTokPerSecond: tokPerSecond, decodeTokPerSecond: tokPerSecond, measuredAtMs: count })
    .nullable(),
  /** It runs stages of chains (`wire/chain-link.ts`). */
  servesStages: z.boolean().optional(),
  /** A server of the owner's that serves as an engine. */
  attached: attachedServerSchema.optional(),
});

// ---------------------------------------------------------------- agent -> coordinator

export const replicaReportSchema = z.object({
  replicaId,
  state: z.enum(["loading", "ready", "draining", "failed", "gone"]),
  /** 0 to 1 while loading. */
  progress: z.number().min(0).max(1),
  slots: count,
  slotsBusy: count,
  queued: count,
  contextTokens: count,
  numericClass: text.nullable(),
  memoryBytes: count,
  /** What it runs and where, so that a coordinator that restarted can adopt it; without these it is unloaded. */
  weightsSha256: sha256.optional(),
  deviceId: z.string().min(1).max(64).optional(),
  /** It is a stage of a chain, or a spare one. */
  stage: z.object({ first: count, count: z.number().int().min(1).max(4_096) }).optional(),
  /** What its engine cannot do; absent: nothing is lacking. */
  lacks: lacksSchema.optional(),
  /** Its engine stops background work by itself while others run; absent: the coordinator has to take it away. */
  holdsBack: z.literal(true).exactOptional(),
  /** Cause of `failed`, or of the restart while `loading`. */
  failure: z.object({ code: text, message: text }).nullable(),
});
export type ReplicaReport = z.infer<typeof replicaReportSchema>;

export const helloSchema = z.object({
  type: z.literal("hello"),
  protocolVersion: z.number().int(),
  publicKey: hex(32),
  /** Ed25519 over `linkProofBytes`. */
  signature: hex(64),
  /** Secret part of a join code; only the first time. */
  joinToken: z.string().min(16).max(128).nullable(),
  name: z.string().min(1).max(128),
  /** Where the node stands, as its operator names it; rules on regions compare it letter by letter. */
  region: z.string().regex(REGION_PATTERN).optional(),
  /** What its operator wants for an hour of the machine while it serves; absent when he names nothing. */
  priceMicroUsdPerHour: z.number().int().min(0).max(NODE_PRICE_MICRO_USD_PER_HOUR_MAX).optional(),
  agentVersion: text,
  capabilities: nodeCapabilitiesSchema,
  /** Replicas that the agent already runs (it reconnected). */
  replicas: z.array(replicaReportSchema).max(WIRE_BOUNDS.replicasPerNodeMax),
});

const heartbeatSchema = z.object({
  type: z.literal("heartbeat"),
  seq: count,
  sentAtMs: count,
  /** The owner wants his machine: no new work, running attempts move. */
  isYielding: z.boolean(),
  memoryFreeBytes: count,
  replicas: z.array(replicaReportSchema).max(WIRE_BOUNDS.replicasPerNodeMax),
  /** Time from the previous heartbeat to its acknowledgement, as the node measured it. */
  rttMs: z.number().min(0).max(600_000).nullable().optional(),
  /** The node is about to leave: no new work, running attempts finish. */
  isLeaving: z.boolean().optional(),
});

const replicaStateSchema = z.object({ type: z.literal("replica.state"), replica: replicaReportSchema });

const sampledTokenSchema = z.object({
  tokenId,
  logprob: z.number().max(0).nullable(),
  top: z.array(z.object({ tokenId, logprob: z.number().max(0) })).max(20),
});

/** One attempt's part of a chunk frame: `seq` counts 0, 1, 2 … within the lease, without gaps. */
export const chunkSchema = z.object({
  leaseId,
  epoch: count,
  seq: count,
  tokenIds: z.array(tokenId).min(1).max(WIRE_BOUNDS.tokensPerChunkMax),
  /** Present only when logprobs were asked: one entry per token. */
  details: z.array(sampledTokenSchema).max(WIRE_BOUNDS.tokensPerChunkMax).nullable(),
});
export type Chunk = z.infer<typeof chunkSchema>;

const attemptChunksSchema = z.object({
  type: z.literal("attempt.chunks"),
  chunks: z.array(chunkSchema).min(1).max(WIRE_BOUNDS.chunksPerFrameMax),
});

/** `embedded` ends an embedding, after its `attempt.embedding`. */
export const STOP_REASONS = ["stop-token", "stop-string", "length", "grammar-end", "cancelled", "embedded"] as const;

const attemptEndSchema = z.object({
  type: z.literal("attempt.end"),
  leaseId,
  epoch: count,
  /** The next `seq`: how many chunks came before. */
  seq: count,
  reason: z.enum(STOP_REASONS),
  promptTokens: count,
  cachedTokens: count,
  outputTokens: count,
  /** The node's signed statement (wire/receipt.ts) as canonical JSON, and its Ed25519 signature. */
  statementJson: z.string().max(8_192),
  signature: hex(64),
});
export type AttemptEnd = z.infer<typeof attemptEndSchema>;

const attemptEmbeddingSchema = z.object({
  type: z.literal("attempt.embedding"),
  leaseId,
  epoch: count,
  /** Little-endian f32 as base64, one string per input, in order. */
  vectors: z.array(z.string().max(262_144)).min(1).max(2_048),
});

const attemptFailedSchema = z.object({
  type: z.literal("attempt.failed"),
  leaseId,
  epoch: count,
  code: z.string().min(1).max(64),
  message: text,
});

const goodbyeSchema = z.object({ type: z.literal("goodbye"), reason: text });

export const agentMessageSchema = z.discriminatedUnion("type", [
  helloSchema,
  heartbeatSchema,
  replicaStateSchema,
  attemptChunksSchema,
  attemptEndSchema,
  attemptEmbeddingSchema,
  attemptFailedSchema,
  weightsStateSchema,
  peerEndpointsMessageSchema,
  weightsHaveSchema,
  weightsWantSchema,
  weightsDoneSchema,
  weightsClaimSchema,
  peerReportSchema,
  peerLinksSchema,
  relayAskSchema,
  chainStateSchema,
  chainTroubleSchema,
  fingerprintSchema,
  progressSchema,
  goodbyeSchema,
]);
export type AgentMessage = z.infer<typeof agentMessageSchema>;
export type Hello = z.infer<typeof helloSchema>;
export type Heartbeat = z.infer<typeof heartbeatSchema>;

// ---------------------------------------------------------------- coordinator -> agent

const challengeSchema = z.object({
  type: z.literal("challenge"),
  protocolVersions: z.array(z.number().int()).min(1).max(16),
  gridId: z.string().min(1).max(64),
  nonce: hex(32),
});

const welcomeSchema = z.object({
  type: z.literal("welcome"),
  nodeId,
  /** Durable count of coordinator starts: leases of other boots are dead. */
  boot: count,
  heartbeatMs: z.number().int().min(50).max(60_000),
  /** Bearer for `WEIGHTS_PATH` during this session. */
  sessionToken: z.string().min(16).max(128),
  coordinatorTimeMs: count,
  /** The coordinator reads `weights.state`; only who sends it is given `weights.stage`. */
  wantsWeightsState: z.boolean().optional(),
  /** What the grid signs manifests and grants with; Ed25519. */
  gridPublicKey: hex(32).optional(),
  /** How nodes reach each other; absent where the grid has no peer network, and weights come from the coordinator alone. */
  peering: z
    .object({
      /** UDP nodes of this grid for hole punching, never of a public network; empty when there are none. */
      bootstrap: z.array(hostPortSchema).max(8),
      hasRelay: z.boolean(),
      /** The node's address as the coordinator sees it. */
      observedHost: z.string().max(253).nullable(),
    })
    .optional(),
});

const refusedSchema = z.object({
  type: z.literal("refused"),
  code: z.string().max(64),
  message: text,
  canRetry: z.boolean(),
  /** Not before so long; only when trying again may help. */
  retryAfterMs: count.optional(),
});

const heartbeatAckSchema = z.object({ type: z.literal("heartbeat.ack"), seq: count, coordinatorTimeMs: count });

const replicaLoadSchema = z.object({
  type: z.literal("replica.load"),
  replicaId,
  modelId,
  weightsSha256: sha256,
  fileBytes: count,
  contextTokens: z.number().int().min(8).max(WIRE_BOUNDS.tokensPerPromptMax),
  sequencesMax: z.number().int().min(1).max(256),
  deviceId: z.string().min(1).max(64),
  /** Only a stage of the model: it joins a chain by `chain.set`. */
  stage: stageOrderSchema.optional(),
});

const replicaUnloadSchema = z.object({ type: z.literal("replica.unload"), replicaId, reason: text });

export const samplingSchema = z.object({
  temperature: z.number().min(0).max(2),
  topK: z.number().int().min(1).max(64),
  topP: z.number().gt(0).max(1),
  frequencyPenalty: z.number().min(-2).max(2),
  presencePenalty: z.number().min(-2).max(2),
  logitBias: z.array(z.tuple([tokenId, z.number().min(-100).max(100)])).max(300),
});

/** What a node needs to sign a statement that fits the receipt. */
const termsSchema = z.object({
  requestId,
  requestSha256: sha256,
  weightsSha256: sha256,
  tier: z.enum(["priority", "default", "flex"]),
  inputMicroUsdPerMtok: count,
  outputMicroUsdPerMtok: count,
});

const attemptStartSchema = z.object({
  type: z.literal("attempt.start"),
  leaseId,
  epoch: count,
  attemptId,
  replicaId,
  /** Time the attempt may take in all, from its arrival. */
  deadlineMs: count,
  terms: termsSchema,
  work: z.discriminatedUnion("kind", [
    z.object({
      kind: z.literal("generate"),
      tokenIds: z.array(tokenId).min(1).max(WIRE_BOUNDS.tokensPerPromptMax),
      generatedCount: count,
      tokensMax: z.number().int().min(1).max(WIRE_BOUNDS.tokensPerPromptMax),
      sampling: samplingSchema,
      seed: hex(32),
      choice: count,
      stopStrings: z.array(z.string().min(1).max(1_024)).max(16),
      grammar: z.string().max(262_144).nullable(),
      /** Cached prefixes are shared only within it. */
      cacheScope: hex(16),
      ignoreStopTokens: z.boolean(),
      topLogprobs: z.number().int().min(0).max(20).nullable(),
      /** It gives way to others inside the engine, where the replica says that its engine does that. */
      isBackground: z.boolean().exactOptional(),
    }),
    z.object({
      kind: z.literal("embed"),
      inputs: z.array(z.array(tokenId).min(1).max(WIRE_BOUNDS.tokensPerPromptMax)).min(1).max(2_048),
    }),
  ]),
});
export type AttemptStart = z.infer<typeof attemptStartSchema>;

/** Ends an attempt; the node answers with `attempt.end` (reason `cancelled`) unless it ended before. */
const attemptCancelSchema = z.object({ type: z.literal("attempt.cancel"), leaseId, epoch: count });

const nodeDrainSchema = z.object({ type: z.literal("node.drain"), isDraining: z.boolean() });

export const coordinatorMessageSchema = z.discriminatedUnion("type", [
  challengeSchema,
  welcomeSchema,
  refusedSchema,
  heartbeatAckSchema,
  replicaLoadSchema,
  replicaUnloadSchema,
  attemptStartSchema,
  attemptCancelSchema,
  weightsStageSchema,
  weightsHoldersSchema,
  weightsClaimedSchema,
  relayOfferSchema,
  relayRefusedSchema,
  chainSetSchema,
  fingerprintAskSchema,
  progressAskSchema,
  sequencesOverSchema,
  nodeDrainSchema,
]);
export type CoordinatorMessage = z.infer<typeof coordinatorMessageSchema>;
export type Challenge = z.infer<typeof challengeSchema>;
export type Welcome = z.infer<typeof welcomeSchema>;
export type Refused = z.infer<typeof refusedSchema>;
export type ReplicaLoad = z.infer<typeof replicaLoadSchema>;

/** The text whose UTF-8 bytes an agent signs in `hello`. Every field is hex or a checked id, so lines cannot be forged. */
export function linkProofText(proof: {
  gridId: string;
  nonce: string;
  publicKey: string;
  channelBinding: string;
}): string {
  return ["fallow-link-v1", proof.gridId, proof.nonce, proof.publicKey, proof.channelBinding].join("\n");
}
