/**
 * What a path gives to programs that everybody knows: one TCP connection of Node, and `curl` over TLS from a server of Node.
 * Small messages are 8 KiB there and back on a TCP connection of their own, idle and while the bulk runs in the other.
 */
import { fileURLToPath } from "node:url";
import { z } from "zod";
import { startCongestionCheck } from "../../test/netlab/lab-host.ts";
import type { Congestion } from "../../test/netlab/lab-plan.ts";
import type { LabCounters } from "../../test/netlab/netlab.ts";
import { runClient, startServer } from "./netlab-pair.ts";
import { type PathLab, type Scenario, startPathLab } from "./netlab-scenarios.ts";

const PROGRAM = fileURLToPath(new URL("netlab-baseline-process.ts", import.meta.url));
/** What curl ends with when its time is over, as it is meant to be. */
const CURL_TIMED_OUT = 28;
const BITS_PER_BYTE = 8;
const BITS_PER_MBIT = 1e6;

export const baselineQuestionSchema = z.strictObject({
  address: z.ipv4(),
  sourcePort: z.number(),
  echoPort: z.number(),
  seconds: z.number().positive(),
  isBulk: z.boolean(),
  isEchoing: z.boolean(),
});
export type BaselineQuestion = z.infer<typeof baselineQuestionSchema>;

const portsSchema = z.object({ httpsPort: z.number(), sourcePort: z.number(), echoPort: z.number() });
const spreadSchema = z.object({
  count: z.number(),
  min: z.number(),
  p50: z.number(),
  p99: z.number(),
  max: z.number(),
});
const measuredSchema = z.object({ mbitPerS: z.number().nullable(), echoMs: spreadSchema.nullable() });
const curlSchema = z.object({ speed_download: z.number(), size_download: z.number() });

export interface Baseline {
  readonly scenario: string;
  /** What governed every connection of both ends, as the kernel said while they ran. */
  readonly congestion: Congestion;
  readonly tcpMbitPerS: number;
  readonly curlTlsMbitPerS: number;
  readonly echoIdleMs: z.infer<typeof spreadSchema>;
  readonly echoUnderBulkMs: z.infer<typeof spreadSchema>;
  /** Of the bulk that ran beside the small messages. */
  readonly tcpBesideEchoMbitPerS: number;
  readonly late: LabCounters["late"];
  readonly overrunPackets: number;
}

/** One row of the table, in a lab of its own. Each of its four measurements takes `seconds`. */
export async function measureBaseline(asked: {
  readonly scenario: Scenario;
  readonly congestion: Congestion;
  readonly seconds: number;
}): Promise<Baseline> {
  const lab = await startPathLab(asked.scenario, asked.congestion);
  try {
    return await measureIn(lab, asked);
  } finally {
    await lab.stop();
  }
}

/** The same in a lab that is up, so that other carriers can be measured in the same one. */
export async function measureIn(
  lab: PathLab,
  asked: { readonly scenario: Scenario; readonly congestion: Congestion; readonly seconds: number },
): Promise<Baseline> {
  const server = await startServer({ host: lab.server, file: PROGRAM, args: ["serve"] });
  const checks = [lab.server, lab.client].map(startCongestionCheck);
  try {
    const { address } = lab.server;
    const { httpsPort, sourcePort, echoPort } = portsSchema.parse(server.ready);
    const ask = async (what: { isBulk: boolean; isEchoing: boolean }) => {
      const question: BaselineQuestion = { address, sourcePort, echoPort, seconds: asked.seconds, ...what };
      const args = ["ask", JSON.stringify(question)];
      return measuredSchema.parse(await runClient({ host: lab.client, file: PROGRAM, args }));
    };
    const alone = await ask({ isBulk: true, isEchoing: false });
    const idle = await ask({ isBulk: false, isEchoing: true });
    const both = await ask({ isBulk: true, isEchoing: true });
    const curlTlsMbitPerS = await curl(lab, { url: `https://${address}:${httpsPort}/`, seconds: asked.seconds });
    const sightings = await Promise.all(checks.map((check) => check.stop()));
    if (sightings.includes(0))
      throw new Error("no connection was seen while they ran, so nobody knows what governed them");
    const { late, overrunPackets } = await lab.counters();
    return {
      scenario: asked.scenario.name,
      congestion: asked.congestion,
      tcpMbitPerS: present(alone.mbitPerS),
      curlTlsMbitPerS,
      echoIdleMs: present(idle.echoMs),
      echoUnderBulkMs: present(both.echoMs),
      tcpBesideEchoMbitPerS: present(both.mbitPerS),
      late,
      overrunPackets,
    };
  } finally {
    await Promise.allSettled(checks.map((check) => check.stop()));
    await server.stop();
  }
}

async function curl({ client }: PathLab, { url, seconds }: { url: string; seconds: number }): Promise<number> {
  const options = ["-k", "-s", "-o", "/dev/null", "-w", "%{json}", "--max-time", String(seconds)];
  const { code, stdout, stderr } = await client.run("curl", [...options, url]);
  if (code !== CURL_TIMED_OUT) throw new Error(`curl ended with ${code}: ${stderr}`);
  const { speed_download: bytesPerS } = curlSchema.parse(JSON.parse(stdout));
  return Number(((bytesPerS * BITS_PER_BYTE) / BITS_PER_MBIT).toFixed(2));
}

function present<T>(value: T | null): T {
  if (value === null) throw new Error("the measurement that was asked for is missing");
  return value;
}
