/**
 * The project's own network: hosts in network namespaces, an emulated internet between them, LANs, and home routers that
 * translate addresses. For tests and benches that need root and Linux; see docs/netlab.md.
 *
 *     const lab = await startNetlab({
 *       hosts: { coordinator: {}, a: { lan: "home" }, b: { lan: "home" } },
 *       nats: { router: { lan: "home", kind: "cone" } },
 *       links: { coordinator: { delayMs: 5 }, router: { delayMs: 15, rateMbit: 100, lossShare: 0.01 } },
 *     });
 *     const child = lab.host("a").spawn(process.execPath, ["agent.ts"]);
 *     await lab.link("router").cut();
 *     await lab.stop();
 *
 * Nothing of the machine is changed but the list of its namespaces. `stop()` ends every process in the lab. If its owner dies
 * first, the emulator does the same; if that one dies too, the next lab does.
 */
import { accessSync, constants } from "node:fs";
import { findTrafficTools, isCi } from "../../tools/test-tools.ts";
import { type EmulatorClient, startEmulator } from "./emulator-client.ts";
import type { EmulatorCounters } from "./emulator-messages.ts";
import { carryOut } from "./lab-building.ts";
import { type LabHost, labHost } from "./lab-host.ts";
import { type LabPlan, type LabSpec, type LinkPlan, planLab } from "./lab-plan.ts";
import { type LinkShape, type LinkSpec, reshape } from "./link-shape.ts";
import { commandIn, freshPrefix, namespacesWithPrefix, removeNamespaces, sweepDeadOwners } from "./namespaces.ts";

const LIFE_DEFAULT_MS = 10 * 60_000;
/** No lab lives longer, whatever it asks for. */
const LIFE_MAX_MS = 60 * 60_000;
const END_WAIT_MS = 15_000;

export interface LinkCounters {
  readonly up: EmulatorCounters["links"][string]["up"];
  readonly down: EmulatorCounters["links"][string]["down"];
}

export interface LabLink {
  readonly name: string;
  readonly shape: LinkShape;
  /** Changes what is named, at once. */
  set(asked: LinkSpec): Promise<void>;
  /** From this moment nothing passes, also not what is on its way. */
  cut(): Promise<void>;
  restore(): Promise<void>;
  counters(): Promise<LinkCounters>;
}

export interface LabCounters extends EmulatorCounters {
  /** Packets that the kernel dropped because the emulator did not read them in time. Above 0 the figures are the emulator's. */
  readonly overrunPackets: number;
}

export interface Netlab<Host extends string, Nat extends string> {
  /** What the names of its namespaces start with. */
  readonly prefix: string;
  readonly emulatorPid: number;
  host(name: NoInfer<Host>): LabHost;
  /** The link of a host or of a NAT. */
  link(name: NoInfer<Host | Nat>): LabLink;
  /** Keeps two links' owners from each other, and nobody else. A host behind a NAT goes by its NAT's name. */
  partition(one: NoInfer<Host | Nat>, other: NoInfer<Host | Nat>): Promise<void>;
  heal(one: NoInfer<Host | Nat>, other: NoInfer<Host | Nat>): Promise<void>;
  counters(): Promise<LabCounters>;
  /** Ends every process in the lab and removes it. May be called twice. */
  stop(): Promise<void>;
}

/** Why labs cannot be made here, or null. In CI nothing is left out: starting fails there instead. */
export function netlabAbsent(): string | null {
  if (isCi()) return null;
  if (process.platform !== "linux") return "a lab needs Linux";
  if (process.getuid?.() !== 0) return "a lab needs root";
  if (findTrafficTools() === null) return "ip, nft, tc or ss is missing (apt-get install iproute2 nftables)";
  try {
    accessSync("/dev/net/tun", constants.R_OK | constants.W_OK);
    return null;
  } catch {
    return "there is no /dev/net/tun";
  }
}

export async function startNetlab<const Host extends string, const Nat extends string = never>(
  spec: LabSpec<Host, Nat>,
): Promise<Netlab<Host, Nat>> {
  sweepDeadOwners();
  const prefix = freshPrefix();
  const plan = planLab(spec, prefix);
  const lifeMs = Math.min(spec.lifeMs ?? LIFE_DEFAULT_MS, LIFE_MAX_MS);
  const emulator = startEmulator({ prefix, lifeMs });
  try {
    await carryOut(plan, emulator);
  } catch (error) {
    await remove(emulator, prefix);
    throw error;
  }
  const hosts = new Map(plan.hosts.map((host) => [host.name, labHost(host, plan.ports.get(host.name))]));
  const links = new Map(plan.links.map((link) => [link.name, labLink(link, emulator)]));
  let stopping: Promise<void> | null = null;
  return {
    prefix,
    emulatorPid: emulator.pid,
    host: (name) => found(hosts.get(name), `host ${name}`),
    link: (name) => found(links.get(name), `link ${name}`),
    partition: async (one, other) => {
      await emulator.order({ op: "block", pair: [one, other], isBlocked: true });
    },
    heal: async (one, other) => {
      await emulator.order({ op: "block", pair: [one, other], isBlocked: false });
    },
    counters: async () => ({ ...(await countersOf(emulator)), overrunPackets: await overruns(plan) }),
    stop: () => {
      stopping ??= remove(emulator, prefix);
      return stopping;
    },
  };
}

function labLink({ name, shape }: LinkPlan, emulator: EmulatorClient): LabLink {
  let current = shape;
  return {
    name,
    get shape() {
      return current;
    },
    set: async (asked) => {
      current = reshape(current, asked);
      await emulator.order({ op: "shape", link: name, shape: current });
    },
    cut: async () => {
      await emulator.order({ op: "cut", link: name, isCut: true });
    },
    restore: async () => {
      await emulator.order({ op: "cut", link: name, isCut: false });
    },
    counters: async () => found((await countersOf(emulator)).links[name], `link ${name}`),
  };
}

async function countersOf(emulator: EmulatorClient): Promise<EmulatorCounters> {
  return found((await emulator.order({ op: "counters" })).counters, "counters");
}

async function overruns({ links }: LabPlan): Promise<number> {
  const dropped = await Promise.all(
    links.map(async ({ namespace }) => {
      const shown = await commandIn({ command: "ip", args: ["-n", namespace, "-s", "-o", "link", "show", "wan0"] });
      // "... TX: bytes packets errors dropped carrier collsns \ 1 2 3 4 5 6"
      const numbers = /TX:[a-z\s]*\\\s*([\d\s]+)/.exec(shown)?.[1] ?? "";
      return Number(numbers.trim().split(/\s+/)[3] ?? 0);
    }),
  );
  return dropped.reduce((sum, count) => sum + count, 0);
}

async function remove(emulator: EmulatorClient, prefix: string): Promise<void> {
  const isGone = emulator.order({ op: "close" }).then(
    () => emulator.ended,
    () => emulator.ended,
  );
  const timer = Promise.withResolvers<void>();
  const late = setTimeout(timer.resolve, END_WAIT_MS);
  await Promise.race([isGone, timer.promise]);
  clearTimeout(late);
  removeNamespaces(namespacesWithPrefix(prefix));
}

function found<T>(value: T | undefined, what: string): T {
  if (value === undefined) throw new Error(`the lab has no ${what}`);
  return value;
}
