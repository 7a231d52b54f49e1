/** Two nodes on the internet and their coordinator in the lab, with a link over all real carriers whose ways can be cut one by one, without a word to anybody. */
import type { ChildProcess } from "node:child_process";
import { z } from "zod";
import type { Congestion } from "../netlab/lab-plan.ts";
import type { LinkSpec } from "../netlab/link-shape.ts";
import { type Netlab, startNetlab } from "../netlab/netlab.ts";
import { type Dialled, dialledSchema, NAT_PROCESS, onlineSchema, readySchema, talk } from "./nat-grid.ts";

const COORDINATOR_DELAY_MS = 5;
const COORDINATOR_ADDRESS = "203.0.113.1";
const COORDINATOR_PORT = 443;
const LIFE_MS = 5 * 60_000;

const markSchema = z.object({ event: z.literal("mark"), received: z.number(), carrier: z.string().nullable() });

export interface CarrierLab extends AsyncDisposable {
  /** Node b fetches from node a; `onMark` is called when so many bytes came, with what carries the messages then, and awaited by nobody but the next. */
  fetch(
    bytes: number,
    marks: readonly { readonly bytes: number; onMark(carrier: string | null): Promise<void> }[],
  ): Promise<Dialled>;
  /** From here on no packet of it passes between the nodes; the relay's way is each node's to the coordinator. */
  drop(carrier: "tcp" | "udp"): Promise<void>;
  /** Connections are reset, and new ones refused. */
  reset(): Promise<void>;
  heal(): Promise<void>;
}

export async function startCarrierLab(way: LinkSpec, congestion?: Congestion): Promise<CarrierLab> {
  const lab = await startNetlab<"coordinator" | "a" | "b">({
    hosts: { coordinator: {}, a: {}, b: {} },
    links: { coordinator: { delayMs: COORDINATOR_DELAY_MS, rateMbit: 1_000 }, a: {}, b: way },
    lifeMs: LIFE_MS,
    ...(congestion === undefined ? {} : { congestion }),
  });
  const children: ChildProcess[] = [];
  const stop = async () => {
    for (const child of children) child.kill("SIGKILL");
    await lab.stop();
  };
  try {
    const start = (host: "coordinator" | "a" | "b", role: string, settings: unknown) => {
      const child = lab.host(host).spawn(process.execPath, [NAT_PROCESS, role, JSON.stringify(settings)]);
      children.push(child);
      return talk(child, host);
    };
    const coordinator = start("coordinator", "coordinator", {
      host: COORDINATOR_ADDRESS,
      port: COORDINATOR_PORT,
      hasUdp: true,
    });
    const { event: _event, ...settings } = readySchema.parse(await coordinator.next());
    const [a, b] = [
      start("a", "node", { ...settings, name: "a", hasLink: true }),
      start("b", "node", { ...settings, name: "b", hasLink: true }),
    ];
    const [served] = [onlineSchema.parse(await a.next()), onlineSchema.parse(await b.next())];
    return {
      fetch: async (bytes, marks) => {
        const { nodeId, publicKeyHex, tcp } = served;
        const at = marks.map((mark) => mark.bytes);
        b.tell({ carrier: "link", nodeId, publicKeyHex, tcp, bulkBytes: bytes, marks: at });
        for (const { onMark } of marks) {
          const line = await b.next();
          const mark = markSchema.safeParse(line);
          // It ended before.
          if (!mark.success) return dialledSchema.parse(line);
          await onMark(mark.data.carrier);
        }
        return dialledSchema.parse(await b.next());
      },
      ...cutters(lab),
      [Symbol.asyncDispose]: stop,
    };
  } catch (thrown) {
    await stop();
    throw thrown;
  }
}

/** Rules in node b's namespace, for what goes to and comes from node a. */
function cutters(lab: Netlab<"coordinator" | "a" | "b", never>): Pick<CarrierLab, "drop" | "reset" | "heal"> {
  const host = lab.host("b");
  const other = lab.host("a").address;
  const nft = async (rules: string): Promise<void> => {
    const { code, stderr } = await host.run("nft", [rules]);
    if (code !== 0) throw new Error(`nft said ${stderr}`);
  };
  const chains = "chain in { type filter hook input priority 0; }; chain out { type filter hook output priority 0; };";
  const both = async (carrier: "tcp" | "udp", verdict: string): Promise<void> => {
    await nft(`table ip cuts { ${chains} }`);
    await nft(`add rule ip cuts in ip saddr ${other} meta l4proto ${carrier} ${verdict}`);
    await nft(`add rule ip cuts out ip daddr ${other} meta l4proto ${carrier} ${verdict}`);
  };
  return {
    drop: (carrier) => both(carrier, "drop"),
    reset: () => both("tcp", "reject with tcp reset"),
    heal: () => nft("delete table ip cuts"),
  };
}
