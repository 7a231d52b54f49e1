/** Links between nodes in a lab: one end in each host, asked as the baseline is, so that the two can stand side by side. */
import { fileURLToPath } from "node:url";
import { z } from "zod";
import { runClient, startServer } from "./netlab-pair.ts";
import type { PathLab } from "./netlab-scenarios.ts";

const PROGRAM = fileURLToPath(new URL("peer-link-process.ts", import.meta.url));

export const peerLinkQuestionSchema = z.strictObject({
  address: z.ipv4(),
  port: z.number(),
  keyHex: z.string(),
  seconds: z.number().positive(),
  isBulk: z.boolean(),
  isEchoing: z.boolean(),
});
export type PeerLinkQuestion = z.infer<typeof peerLinkQuestionSchema>;

const readySchema = z.object({ port: z.number(), keyHex: z.string() });
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
});
export type PeerLinkMeasured = z.infer<typeof measuredSchema>;

export async function measurePeerLink(
  lab: PathLab,
  asked: { readonly seconds: number; readonly isBulk: boolean; readonly isEchoing: boolean },
): Promise<PeerLinkMeasured> {
  const server = await startServer({ host: lab.server, file: PROGRAM, args: ["serve"] });
  try {
    const { port, keyHex } = readySchema.parse(server.ready);
    const question: PeerLinkQuestion = { address: lab.server.address, port, keyHex, ...asked };
    return measuredSchema.parse(
      await runClient({ host: lab.client, file: PROGRAM, args: ["ask", JSON.stringify(question)] }),
    );
  } finally {
    await server.stop();
  }
}
