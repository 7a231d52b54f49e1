/** What `fallow up` and its agent process say to each other over Node's IPC channel. Both sides are this program. */
import { z } from "zod";
import { LOG_LEVELS } from "../adapters/log-pino/pino-log.ts";
import { ENGINE_WISHES } from "../agent/devices/choose-variant.ts";
import { attachedWishSchema } from "./attached-flags.ts";
import { gpuSplitSchema } from "./gpu-split-flags.ts";

export const agentOrderSchema = z.discriminatedUnion("kind", [
  z.object({
    kind: z.literal("start"),
    home: z.string(),
    enginesFolder: z.string(),
    engine: z.enum(ENGINE_WISHES),
    url: z.string(),
    certificateSha256: z.string().nullable(),
    joinToken: z.string().nullable(),
    name: z.string().nullable(),
    region: z.string().nullable(),
    priceMicroUsdPerHour: z.number().int().min(0).nullable(),
    memoryBytesMax: z.number().int().min(1).nullable(),
    transfers: z.object({
      uploadMbit: z.union([z.number(), z.literal("none")]).exactOptional(),
      downloadMbit: z.union([z.number(), z.literal("none")]).exactOptional(),
      quietHours: z.string().exactOptional(),
      quietMbit: z.number().exactOptional(),
    }),
    peers: z
      .object({
        host: z.string(),
        port: z.number().int().min(0).max(65_535),
        forwarded: z.object({ host: z.string(), port: z.number().int() }).nullable(),
        hasUdp: z.boolean(),
        hasRelay: z.boolean(),
        hasLan: z.boolean(),
      })
      .nullable(),
    threads: z.number().int().min(1).nullable(),
    attached: attachedWishSchema.nullable(),
    gpuSplit: gpuSplitSchema.nullable(),
    speculates: z.boolean(),
    logLevel: z.enum(LOG_LEVELS),
  }),
  z.object({ kind: z.literal("stop") }),
]);
export type AgentOrder = z.infer<typeof agentOrderSchema>;

export const agentNewsSchema = z.discriminatedUnion("kind", [
  z.object({ kind: z.literal("step"), text: z.string() }),
  /** A step that should stay on the screen. */
  z.object({ kind: z.literal("note"), text: z.string() }),
  z.object({ kind: z.literal("online"), nodeId: z.string() }),
  /** It will not work without a person: refused by the grid, home in use, library missing. */
  z.object({ kind: z.literal("failed"), code: z.string(), message: z.string(), fix: z.string().nullable() }),
]);
export type AgentNews = z.infer<typeof agentNewsSchema>;
