/** Links between nodes in a lab: one end in each host, asked as the baseline is, so that the two can stand side by side. */
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { z } from "zod";
import { runClient, startServer } from "./netlab-pair.ts";
import type { PathLab } from "./netlab-scenarios.ts";

const PROGRAM = fileURLToPath(new URL("peer-link-process.ts", import.meta.url));

const RSS_LOOK_MS = 250;
const BYTES_PER_PAGE = 4_096;

const hostPortSchema = z.object({ host: z.string(), port: z.number() });
export const peerLinkServerSchema = z.strictObject({ address: z.ipv4(), hasUdp: z.boolean() });
export type PeerLinkServer = z.infer<typeof peerLinkServerSchema>;

export const peerLinkQuestionSchema = z.strictObject({
  address: z.ipv4(),
  port: z.number(),
  keyHex: z.string(),
  clientSeedHex: z.string(),
  bootstrap: z.array(hostPortSchema),
  seconds: z.number().positive(),
  isBulk: z.boolean(),
  isEchoing: z.boolean(),
  /** One fetch by a reader of this pace, for so many seconds. */
  slowBytesPerS: z.number().positive().optional(),
  /** Bulk whose connections are all cut in the middle. */
  isCut: z.boolean().optional(),
});
export type PeerLinkQuestion = z.infer<typeof peerLinkQuestionSchema>;

const readySchema = z.object({
  port: z.number(),
  keyHex: z.string(),
  clientSeedHex: z.string(),
  bootstrap: z.array(hostPortSchema),
});
const spreadSchema = z.object({
  count: z.number(),
  min: z.number(),
  p50: z.number(),
  p99: z.number(),
  max: z.number(),
});
const measuredSchema = z.object({
  connectMs: z.number(),
  echoMs: spreadSchema.nullable(),
  mbitPerS: z.number().optional(),
  mbitBySecond: z.array(z.number()).optional(),
  quality: z.unknown(),
  rssMb: z.number(),
  rssBaseMb: z.number().optional(),
  bytes: z.number().optional(),
  cutCostMs: z.number().optional(),
  /** Of the serving end: when it was ready, and the most that was seen. */
  serverRssBaseMb: z.number().optional(),
  serverRssMb: z.number().optional(),
});
export type PeerLinkMeasured = z.infer<typeof measuredSchema>;

export async function measurePeerLink(
  lab: PathLab,
  asked: Omit<PeerLinkQuestion, "address" | keyof z.infer<typeof readySchema>>,
  { hasUdp }: { readonly hasUdp: boolean } = { hasUdp: true },
): Promise<PeerLinkMeasured> {
  const { address } = lab.server;
  const server = await startServer({
    host: lab.server,
    file: PROGRAM,
    args: ["serve", JSON.stringify({ address, hasUdp })],
  });
  try {
    const question: PeerLinkQuestion = { address, ...readySchema.parse(server.ready), ...asked };
    const serverRssBaseMb = residentMb(server.pid);
    let serverRssMb = serverRssBaseMb;
    const timer = setInterval(() => {
      serverRssMb = Math.max(serverRssMb, residentMb(server.pid));
    }, RSS_LOOK_MS);
    try {
      const limitMs = (asked.seconds + 60) * 1_000;
      const args = ["ask", JSON.stringify(question)];
      const measured = measuredSchema.parse(await runClient({ host: lab.client, file: PROGRAM, args }, limitMs));
      return { ...measured, serverRssBaseMb, serverRssMb };
    } finally {
      clearInterval(timer);
    }
  } finally {
    await server.stop();
  }
}

/** What a process holds; 0 when it is gone. */
function residentMb(pid: number): number {
  try {
    const pages = Number(readFileSync(`/proc/${pid}/statm`, "utf8").split(" ")[1]);
    return Number(((pages * BYTES_PER_PAGE) / 1e6).toFixed(1));
  } catch {
    return 0; // it ended between two looks
  }
}
