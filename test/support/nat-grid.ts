/** A grid in the lab: a coordinator on the internet, and two nodes, each behind a NAT of its own. */
import type { ChildProcess } from "node:child_process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { z } from "zod";
import type { NatSpec } from "../netlab/nat-rules.ts";
import { type Netlab, startNetlab } from "../netlab/netlab.ts";

/** The process of a coordinator or a node. */
export const NAT_PROCESS = fileURLToPath(new URL("nat-process.ts", import.meta.url));
/** One way, of each NAT's line and of the coordinator's: 40 ms between the nodes, 25 ms to the coordinator. */
const NODE_DELAY_MS = 10;
const COORDINATOR_DELAY_MS = 2.5;
/** A start takes a second or two; this many with other suites on the same cores. */
const ANSWER_MS_MAX = 60_000;
const COORDINATOR_ADDRESS = "203.0.113.1";
const PORT = 443;

export const readySchema = z.object({
  event: z.literal("ready"),
  url: z.string(),
  certificateSha256: z.string().nullable(),
  gridId: z.string(),
  joinToken: z.string(),
  bootstrap: z.array(z.object({ host: z.string(), port: z.number() })),
});
export const onlineSchema = z.object({
  event: z.literal("online"),
  nodeId: z.string(),
  publicKeyHex: z.string(),
  hasUdp: z.boolean(),
  tcp: z.array(z.object({ host: z.string(), port: z.number() })),
});
export const dialledSchema = z.discriminatedUnion("ok", [
  z.object({
    event: z.literal("dialled"),
    ok: z.literal(true),
    carrier: z.string(),
    openMs: z.number(),
    firstByteMs: z.number(),
    bytesPerSecond: z.number().nullable(),
    remote: z.string(),
    peerKeyHex: z.string(),
    /** Of a link: the longest time without a byte after each mark. */
    pausesMs: z.array(z.number()).optional(),
  }),
  z.object({ event: z.literal("dialled"), ok: z.literal(false), carrier: z.string(), ms: z.number(), why: z.string() }),
]);
export type Dialled = z.infer<typeof dialledSchema>;

export interface NatGrid extends AsyncDisposable {
  readonly lab: Netlab<"coordinator" | "a" | "b", "na" | "nb">;
  readonly a: z.infer<typeof onlineSchema>;
  readonly b: z.infer<typeof onlineSchema>;
  /** Node b dials node a. */
  dial(carrier: "udp" | "relay" | "link", bulkBytes: number): Promise<Dialled>;
}

/** `prepare` is done before a process of the grid starts. */
export async function startNatGrid(
  nats: { readonly a: Omit<NatSpec, "lan">; readonly b: Omit<NatSpec, "lan"> },
  {
    prepare,
    hasLink = false,
  }: {
    readonly prepare?: (lab: NatGrid["lab"]) => Promise<void>;
    /** Nodes have links over all carriers; without it, the carriers one by one. */
    readonly hasLink?: boolean;
  } = {},
): Promise<NatGrid> {
  const lab = await startNetlab<"coordinator" | "a" | "b", "na" | "nb">({
    hosts: { coordinator: {}, a: { lan: "home-a" }, b: { lan: "home-b" } },
    nats: { na: { lan: "home-a", ...nats.a }, nb: { lan: "home-b", ...nats.b } },
    links: {
      coordinator: { delayMs: COORDINATOR_DELAY_MS, rateMbit: 1_000 },
      na: { delayMs: NODE_DELAY_MS, rateMbit: 100 },
      nb: { delayMs: NODE_DELAY_MS, rateMbit: 100 },
    },
    lifeMs: 5 * 60_000,
  });
  const children: ChildProcess[] = [];
  const stop = async () => {
    for (const child of children) child.kill("SIGKILL");
    await lab.stop();
  };
  try {
    await prepare?.(lab);
    const start = (host: "coordinator" | "a" | "b", role: string, settings: unknown) => {
      const child = lab.host(host).spawn(process.execPath, [NAT_PROCESS, role, JSON.stringify(settings)]);
      children.push(child);
      return talk(child, host);
    };
    const coordinator = start("coordinator", "coordinator", { host: COORDINATOR_ADDRESS, port: PORT, hasUdp: true });
    const ready = readySchema.parse(await coordinator.next());
    const node = (name: "a" | "b") => {
      const { event: _event, ...settings } = ready;
      return start(name, "node", { ...settings, name, hasLink });
    };
    const talks = { a: node("a"), b: node("b") };
    const [a, b] = await Promise.all([talks.a.next(), talks.b.next()]);
    const nodes = { a: onlineSchema.parse(a), b: onlineSchema.parse(b) };
    return {
      lab,
      ...nodes,
      dial: async (carrier, bulkBytes) => {
        const { nodeId, publicKeyHex, tcp } = nodes.a;
        const host = lab.host("a").publicAddress;
        const outside = host === null ? [] : tcp.slice(0, 1).map(({ port }) => ({ host, port }));
        talks.b.tell({ carrier, nodeId, publicKeyHex, tcp: [...tcp, ...outside], bulkBytes });
        return dialledSchema.parse(await talks.b.next());
      },
      [Symbol.asyncDispose]: stop,
    };
  } catch (thrown) {
    await stop();
    throw thrown;
  }
}

export interface Talk {
  next(): Promise<unknown>;
  tell(order: unknown): void;
}

/** With a process that takes and gives lines of JSON. */
export function talk(child: ChildProcess, name: string): Talk {
  const { stdin, stdout } = child;
  if (stdin === null || stdout === null) throw new Error(`${name} has no pipes`);
  let stderr = "";
  child.stderr?.setEncoding("utf8").on("data", (text: string) => {
    stderr = (stderr + text).slice(-4_000);
  });
  const lines = createInterface({ input: stdout })[Symbol.asyncIterator]();
  return {
    next: async () => {
      const late = AbortSignal.timeout(ANSWER_MS_MAX);
      const line = await Promise.race([
        lines.next(),
        new Promise<never>((_, reject) => {
          late.addEventListener("abort", () => reject(new Error(`${name} does not answer: ${stderr}`)), { once: true });
        }),
      ]);
      if (line.done === true) throw new Error(`${name} ended: ${stderr}`);
      return JSON.parse(line.value);
    },
    tell: (order) => void stdin.write(`${JSON.stringify(order)}\n`),
  };
}
