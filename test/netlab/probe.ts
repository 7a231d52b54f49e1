/** Asking a lab what its network does: a probe server in one host, questions from another. */
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { z } from "zod";
import type { LabHost } from "./lab-host.ts";

export const ECHO_PORT = 7_000;
export const SOURCE_PORT = 7_001;
export const UDP_PORTS = [7_002, 7_003] as const;
export const HTTPS_PORT = 443;

const PROGRAM = fileURLToPath(new URL("probe-process.ts", import.meta.url));
const ipv4 = z.ipv4();
const port = z.number().int();
const target = z.strictObject({ address: ipv4, port });

export const probeSchema = z.discriminatedUnion("kind", [
  /** Sends `count` rounds of one packet to each target from one socket; `replyPort` asks for the reply from another port. */
  z.strictObject({
    kind: z.literal("udp"),
    to: z.array(target),
    count: z.number().default(1),
    intervalMs: z.number().default(0),
    waitMs: z.number().default(1_000),
    localPort: port.default(0),
    replyPort: port.optional(),
  }),
  /** Connects, then sends a byte and waits for it, `count` times. */
  z.strictObject({
    kind: z.literal("tcp"),
    address: ipv4,
    port: port.default(ECHO_PORT),
    count: z.number().default(0),
    waitMs: z.number().default(1_000),
  }),
  z.strictObject({ kind: z.literal("download"), address: ipv4, bytes: z.number(), waitMs: z.number().default(10_000) }),
]);
export type Probe = z.input<typeof probeSchema>;

const replySchema = z.object({ number: z.number(), rttMs: z.number(), seenAddress: z.string(), seenPort: z.number() });
const answerSchema = z.discriminatedUnion("kind", [
  z.object({ kind: z.literal("udp"), replies: z.array(replySchema) }),
  z.object({ kind: z.literal("tcp"), isOpen: z.boolean(), rttsMs: z.array(z.number()) }),
  z.object({ kind: z.literal("download"), bytes: z.number(), mbit: z.number().nullable() }),
]);
export type ProbeAnswer = z.infer<typeof answerSchema>;

/** Starts the server in a host; it ends with the lab, or when it is killed. */
export async function startProbe(host: LabHost): Promise<ChildProcess> {
  const child = host.spawn(process.execPath, [PROGRAM, "serve"], { stdio: ["ignore", "pipe", "inherit"] });
  if (child.stdout === null) throw new Error("the probe's output is a pipe");
  const ready = once(child.stdout, "data");
  const ended = once(child, "exit").then(([code]) => Promise.reject(new Error(`the probe ended with ${code}`)));
  ended.catch(() => undefined); // it ends with the lab, long after it was ready
  await Promise.race([ready, ended]);
  return child;
}

export async function ask<const Kind extends Probe["kind"]>(
  host: LabHost,
  probe: Probe & { readonly kind: Kind },
): Promise<ProbeAnswer & { kind: Kind }> {
  const { code, stdout, stderr } = await host.node(PROGRAM, ["ask", JSON.stringify(probe)]);
  if (code !== 0) throw new Error(`the probe ${JSON.stringify(probe)} in ${host.name} ended with ${code}: ${stderr}`);
  const answer = answerSchema.parse(JSON.parse(stdout));
  if (!isOf(answer, probe.kind)) throw new Error(`the probe was asked ${probe.kind} and answered ${answer.kind}`);
  return answer;
}

function isOf<Kind extends string>(answer: ProbeAnswer, kind: Kind): answer is ProbeAnswer & { kind: Kind } {
  return answer.kind === kind;
}
