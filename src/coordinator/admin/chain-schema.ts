/** What `GET /admin/v1/chains` answers: models that run in stages over several nodes, and how each stage and each way between them is. */
import { z } from "zod";
import { WIRE_FORMATS } from "../../domain/chain.ts";

const count = z.number().int().min(0);
/** Null: nobody measured it yet. */
const ms = z.number().nullable();

export const chainStageRowSchema = z.object({
  first: count,
  count,
  /** Who holds the place; null while it is lost. */
  replicaId: z.string().nullable(),
  nodeId: z.string().nullable(),
  nodeName: z.string().nullable(),
  deviceId: z.string().nullable(),
  memoryBytes: count.nullable(),
  /** Of the stage on its node; null while it is lost. */
  state: z.string().nullable(),
  isLinked: z.boolean(),
  /** Who is being loaded to take the place; null: nobody. */
  successor: z
    .object({ replicaId: z.string(), nodeId: z.string(), nodeName: z.string(), state: z.string() })
    .nullable(),
  /** A decode of single tokens, its mean number of sequences, and one position of a prompt. */
  singleMs: ms,
  singlesMean: z.number().nullable(),
  promptMsPerPosition: ms,
  /** Round trip to the next stage, of the last one to the first; and what carries it. */
  nextRttMs: ms,
  nextCarrier: z.enum(["tcp", "udp", "relay"]).nullable(),
  bytesSent: count,
  positionsSent: count,
});

export const chainRowSchema = z.object({
  chainId: z.string(),
  modelId: z.string(),
  weightsSha256: z.string(),
  state: z.enum(["loading", "linking", "serving", "broken"]),
  chainEpoch: count,
  wire: z.enum(WIRE_FORMATS),
  layerCount: count,
  contextTokens: count,
  sequencesMax: count,
  /** In the order of the layers. */
  stages: z.array(chainStageRowSchema),
  /** From a token's departure at the first stage until the next one is back. */
  loopMs: ms,
  /** Of one answer alone, without drafts; null before a loop was measured. */
  loneTokPerSecond: z.number().nullable(),
  drafted: count,
  accepted: count,
  repairs: count,
  /** From the newest break until it served again. */
  recoveryMs: ms,
  trouble: z.string().nullable(),
  /** Since that began. */
  troubleAgoMs: z.number().nullable().optional(),
  /** What keeps it from serving, as sentences. */
  missing: z.array(z.string()),
});

export const spareRowSchema = z.object({
  replicaId: z.string(),
  nodeId: z.string(),
  nodeName: z.string(),
  modelId: z.string(),
  first: count,
  count,
  state: z.string(),
});

export const chainListSchema = z.object({
  chains: z.array(chainRowSchema),
  spares: z.array(spareRowSchema),
  stats: z.object({
    repairs: count,
    repairsBySpare: count,
    moves: count,
    dissolved: count,
    troubles: count,
    garbage: count,
  }),
});
export type ChainList = Readonly<z.infer<typeof chainListSchema>>;
export type ChainRow = ChainList["chains"][number];
export type ChainStageRow = ChainRow["stages"][number];
