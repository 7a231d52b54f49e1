/**
 * Finds other nodes of the local network by multicast DNS (RFC 6762), with no configuration. One socket for each IPv4 interface, so that each
 * network is told the address that it can use; a neighbour's address is the one that its packet came from, never one that it names.
 *
 * Packets from beyond the machine's own networks are dropped, and every answer goes to the multicast group: nobody can have this program
 * send anything to a third party. IPv6-only networks are not served.
 */
import { randomBytes } from "node:crypto";
import type { RemoteInfo } from "node:dgram";
import { BlockList, isIPv4 } from "node:net";
import { networkInterfaces } from "node:os";
import type { ResponsePacket } from "multicast-dns";
import makeMdns, { type MulticastDNS, type QueryPacket } from "multicast-dns";
import type { LanAnnouncement, LanDiscovery, LanNeighbour } from "../../ports/lan-discovery.ts";
import { gridDigest, type LanSelf, recordsOf, SERVICE, type Told, toldBy } from "./lan-records.ts";

export interface MdnsOptions {
  /** 5353 on a real network. */
  readonly port?: number;
  /** Which interfaces; all that are up and not loopback when it is left out. */
  readonly addresses?: () => readonly LanInterface[];
  /** Something did not work on an interface; discovery goes on with the others. */
  readonly onWarning?: (what: string) => void;
}

export interface LanInterface {
  readonly address: string;
  readonly prefixBits: number;
}

/** Machines with containers have dozens of bridges; the first ones by address are used. */
const INTERFACES_MAX = 8;
const NEIGHBOURS_MAX = 256;
/** A network cable, a new Wi-Fi: looked for so often. */
const LOOK_MS = 15_000;
/** Asked at the start and then so often: answers are kept by nobody for longer than two minutes. */
const ASK_MS = 60_000;
/** RFC 6762 section 6: a record is not multicast again within a second. */
const ANSWER_GAP_MS = 1_000;
/** A neighbour that says the same again is told of again only after this. */
const REPEAT_MS = 30_000;
const QUESTIONS_MAX = 16;
const STOP_MS_MAX = 1_000;

export class MdnsDiscovery implements LanDiscovery {
  readonly #options: MdnsOptions;

  constructor(options: MdnsOptions = {}) {
    this.#options = options;
  }

  async start(self: LanAnnouncement, onFound: (found: LanNeighbour) => void): Promise<{ stop(): Promise<void> }> {
    return this.#open({ announcement: self, instance: randomBytes(8).toString("hex") }, self.gridId, onFound);
  }

  /** Asks who is there and tells nothing of this machine. */
  async listen(onFound: (found: LanNeighbour) => void): Promise<{ stop(): Promise<void> }> {
    return this.#open(null, null, onFound);
  }

  #open(self: LanSelf | null, gridId: string | null, onFound: (found: LanNeighbour) => void): Search {
    const search = new Search({ ...this.#options, self, gridId, onFound });
    search.look();
    return search;
  }
}

interface SearchOptions extends MdnsOptions {
  readonly self: LanSelf | null;
  readonly gridId: string | null;
  readonly onFound: (found: LanNeighbour) => void;
}

interface Socket {
  readonly mdns: MulticastDNS;
  answeredMs: number;
}

class Search {
  readonly #options: SearchOptions;
  readonly #sockets = new Map<string, Socket>();
  readonly #found = new Map<string, { readonly text: string; readonly atMs: number }>();
  readonly #timers: readonly NodeJS.Timeout[];
  readonly #self: LanSelf | null;
  #networks = new BlockList();
  #stopping: Promise<void> | null = null;

  constructor(options: SearchOptions) {
    this.#options = options;
    this.#self = options.self;
    this.#timers = [setInterval(() => this.look(), LOOK_MS), setInterval(() => this.#ask(), ASK_MS)];
    for (const timer of this.#timers) timer.unref();
  }

  /** Opens what is new, closes what is gone. */
  look(): void {
    const interfaces = (this.#options.addresses ?? machineInterfaces)().slice(0, INTERFACES_MAX);
    const networks = new BlockList();
    for (const { address, prefixBits } of interfaces) networks.addSubnet(address, prefixBits, "ipv4");
    this.#networks = networks;
    for (const [address, { mdns }] of this.#sockets) {
      if (interfaces.some((one) => one.address === address)) continue;
      this.#sockets.delete(address);
      mdns.destroy();
    }
    for (const { address } of interfaces) if (!this.#sockets.has(address)) this.#listen(address);
  }

  stop(): Promise<void> {
    this.#stopping ??= this.#stop();
    return this.#stopping;
  }

  async #stop(): Promise<void> {
    for (const timer of this.#timers) clearInterval(timer);
    const closed = [...this.#sockets].map(
      ([address, { mdns }]) =>
        new Promise<void>((resolve) => {
          const done = () => mdns.destroy(() => resolve());
          const late = setTimeout(done, STOP_MS_MAX);
          const end = () => {
            clearTimeout(late);
            done();
          };
          if (this.#self === null) end();
          else mdns.respond({ answers: recordsOf(this.#self, address, true) }, end);
        }),
    );
    this.#sockets.clear();
    await Promise.all(closed);
  }

  #listen(address: string): void {
    const port = this.#options.port;
    const mdns = makeMdns({ interface: address, bind: "0.0.0.0", ...(port === undefined ? {} : { port }) });
    const socket = { mdns, answeredMs: Number.NEGATIVE_INFINITY };
    this.#sockets.set(address, socket);
    const warn = (error: Error) => this.#options.onWarning?.(`${address}: ${error.message}`);
    // Packets that cannot be read come as warnings too: they are anybody's.
    mdns.on("warning", () => undefined);
    mdns.on("error", (error) => {
      warn(error);
      this.#sockets.delete(address);
      mdns.destroy();
    });
    mdns.on("ready", () => {
      this.#answer(address, socket, false);
      this.#ask(mdns);
    });
    mdns.on("query", (query, from) => {
      if (this.#isLocal(from) && asksForUs(query)) this.#answer(address, socket, true);
    });
    mdns.on("response", (response, from) => {
      if (this.#isLocal(from)) this.#take(response, from.address);
    });
  }

  #ask(only?: MulticastDNS): void {
    const asked = only === undefined ? [...this.#sockets.values()].map(({ mdns }) => mdns) : [only];
    for (const mdns of asked) mdns.query({ questions: [{ name: SERVICE, type: "PTR" }] });
  }

  #answer(address: string, socket: Socket, isBounded: boolean): void {
    const nowMs = performance.now();
    if (this.#self === null || (isBounded && nowMs - socket.answeredMs < ANSWER_GAP_MS)) return;
    socket.answeredMs = nowMs;
    socket.mdns.respond({ answers: recordsOf(this.#self, address, false) });
  }

  #isLocal({ address }: RemoteInfo): boolean {
    return this.#stopping === null && isIPv4(address) && this.#networks.check(address, "ipv4");
  }

  #take(response: ResponsePacket, host: string): void {
    for (const told of toldBy([...(response.answers ?? []), ...(response.additionals ?? [])])) {
      if (told.instance !== this.#self?.instance) this.#tell(told, host);
    }
  }

  #tell({ instance, gridDigest: digest, ...told }: Told, host: string): void {
    const { gridId, onFound } = this.#options;
    const nowMs = performance.now();
    const id = `${instance} ${host}`;
    const text = JSON.stringify([digest, told]);
    const before = this.#found.get(id);
    if (before?.text === text && nowMs - before.atMs < REPEAT_MS) return;
    this.#found.delete(id);
    this.#found.set(id, { text, atMs: nowMs });
    const [oldest] = this.#found.keys();
    if (this.#found.size > NEIGHBOURS_MAX && oldest !== undefined) this.#found.delete(oldest);
    const isOurs = gridId !== null && gridDigest(gridId) === digest;
    onFound({ ...told, gridId: isOurs ? gridId : digest, addresses: [{ host, port: told.port }] });
  }
}

function asksForUs({ questions }: QueryPacket): boolean {
  const types: readonly string[] = ["PTR", "ANY"];
  return (questions ?? []).slice(0, QUESTIONS_MAX).some(({ name, type }) => name === SERVICE && types.includes(type));
}

function machineInterfaces(): readonly LanInterface[] {
  return Object.values(networkInterfaces())
    .flatMap((addresses) => addresses ?? [])
    .filter(({ internal, family }) => !internal && family === "IPv4")
    .map(({ address, cidr }) => ({ address, prefixBits: Number(cidr?.split("/")[1] ?? 32) }))
    .sort((one, other) => (one.address < other.address ? -1 : 1));
}
