/**
 * The ways between nodes: the carriers below the real peer network, over the packet network. `tcp` goes straight from machine to machine; `relay`
 * goes through the coordinator's machine while its process runs, so that two nodes which are cut from each other may still meet there.
 *
 * A dial is a handshake of two packets. Nobody listening on a machine that runs means refused at once; a machine that is off, or a cut path, means
 * no answer and a timeout. What a process had open is reset when it is killed, and stays half open when the machine loses its power.
 */
import { FallowError } from "../../domain/fault.ts";
import type { CarrierKind, PeerEndpoints, PeerTarget } from "../../domain/peer.ts";
import type { PeerCarrier, PeerConnection } from "../../ports/peer-carrier.ts";
import type { Host } from "../time/host.ts";
import type { Scheduled } from "../time/timeline.ts";
import type { PacketNetwork } from "./packet-network.ts";
import { DIAL_TIMEOUT_MS } from "./sim-dialer.ts";
import { type LinkTap, SimLink } from "./sim-link.ts";
import { SimPeerConnection } from "./sim-peer-connection.ts";

const SYN_BYTES = 60;
/** The first try and its repetitions. */
const SYN_AT_MS = [0, 1_000, 3_000] as const;
/** Where all machines are, as their names count them: private addresses, which the coordinator names to others. */
const ADDRESS_HEAD = "10.0.0.";
/** Every machine listens on this one; nobody else is on it. */
const PEER_PORT = 8_421;

/** Carriers that are simulated. */
export type SimCarrierKind = Extract<CarrierKind, "tcp" | "relay">;

export interface SimPeersOptions {
  readonly network: PacketNetwork;
  /** Relays while it runs. */
  readonly coordinator: Host;
  readonly tap: LinkTap;
}

export class SimPeers {
  readonly #options: SimPeersOptions;
  readonly #listening = new Map<string, SimCarrier>();
  readonly #links = new Set<SimLink>();
  /** Directions in which the relay passes nothing on. */
  readonly #parted = new Set<string>();
  #connections = 0;

  constructor(options: SimPeersOptions) {
    this.#options = options;
  }

  /** A carrier of a process that begins: those of its former life are forgotten. */
  carrier(kind: SimCarrierKind, of: { readonly host: Host; readonly keyHex: string }): PeerCarrier {
    const carrier = new SimCarrier(this, kind, of);
    this.#listening.set(nameOf(kind, of.keyHex), carrier);
    return carrier;
  }

  find(kind: SimCarrierKind, keyHex: string): SimCarrier | null {
    return this.#listening.get(nameOf(kind, keyHex)) ?? null;
  }

  /** The process at `hostName` ended: its kernel says so, unless the whole machine lost its power. */
  drop(hostName: string, options: { isPowerLoss: boolean }): void {
    for (const link of [...this.#links].filter((end) => end.hostName === hostName)) {
      if (options.isPowerLoss) link.vanish();
      else link.kill();
      this.#links.delete(link);
    }
  }

  /** Resets what a node has open with others, as a router does that forgets: returns how many ends it had. */
  cutLinks(hostName: string): number {
    const ends = [...this.#links].filter((end) => end.hostName === hostName && !end.isOver);
    for (const link of ends) link.destroy();
    return ends.length;
  }

  /** Whether the relay passes on what goes from one node to another. */
  part(from: string, to: string, isParted: boolean): void {
    if (isParted) this.#parted.add(`${from}>${to}`);
    else this.#parted.delete(`${from}>${to}`);
  }

  joinAll(): void {
    this.#parted.clear();
  }

  pair(kind: SimCarrierKind, near: Host, far: Host): { near: SimLink; far: SimLink } {
    for (const link of this.#links) if (link.isOver) this.#links.delete(link);
    const { tap } = this.#options;
    const common = { network: this.wayOf(kind), channelBinding: kind, tap, connection: ++this.#connections };
    const ends = SimLink.pair(
      { ...common, host: near, peerName: far.name },
      { ...common, host: far, peerName: near.name },
    );
    this.#links.add(ends.near).add(ends.far);
    return ends;
  }

  wayOf(kind: SimCarrierKind): Pick<PacketNetwork, "send"> {
    const { network, coordinator } = this.#options;
    if (kind === "tcp") return network;
    return {
      send: ({ from, to, bytes, arrive }) => {
        const passOn = () => {
          if (coordinator.state === "running" && !this.#parted.has(`${from}>${to}`))
            network.send({ from: coordinator.name, to, bytes, arrive });
        };
        network.send({ from, to: coordinator.name, bytes, arrive: passOn });
      },
    };
  }
}

class SimCarrier implements PeerCarrier {
  readonly kind: SimCarrierKind;
  readonly host: Host;
  readonly life: number;
  readonly #keyHex: string;
  readonly #peers: SimPeers;
  readonly #open = new Set<PeerConnection>();
  #accept: ((connection: PeerConnection) => void) | null = null;
  #isClosed = false;

  constructor(peers: SimPeers, kind: SimCarrierKind, of: { readonly host: Host; readonly keyHex: string }) {
    this.#peers = peers;
    this.kind = kind;
    this.host = of.host;
    this.life = of.host.life;
    this.#keyHex = of.keyHex;
  }

  get isListening(): boolean {
    return !this.#isClosed && this.#accept !== null && this.host.life === this.life && this.host.state !== "dead";
  }

  onConnection(accept: (connection: PeerConnection) => void): void {
    this.#accept = accept;
  }

  endpoints(): PeerEndpoints {
    const host = `${ADDRESS_HEAD}${1 + Number(this.host.name.replace(/\D/g, ""))}`;
    return { tcp: this.kind === "tcp" ? [{ host, port: PEER_PORT }] : [], hasUdp: false };
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    for (const connection of this.#open) connection.destroy();
  }

  dial(target: PeerTarget, signal: AbortSignal): Promise<PeerConnection> {
    const { host, kind } = this;
    const way = this.#peers.wayOf(kind);
    return new Promise((resolve, reject) => {
      const scheduled: Scheduled[] = [];
      let isOver = false;
      const end = (finish: () => void) => {
        if (isOver) return;
        isOver = true;
        signal.removeEventListener("abort", giveUp);
        for (const timer of scheduled) timer.cancel();
        finish();
      };
      const fail = (why: string) =>
        end(() => reject(new FallowError("peer-unreachable", `${target.nodeId} over ${kind}: ${why}`)));
      const giveUp = () => fail("the dial was given up");
      if (signal.aborted) return giveUp();
      signal.addEventListener("abort", giveUp, { once: true });
      const other = this.#peers.find(kind, target.publicKeyHex);
      if (other === null) return fail("nobody has this key");
      let made: { near: SimLink; far: SimLink } | null = null;
      const answer = (then: () => void) =>
        way.send({ from: other.host.name, to: host.name, bytes: SYN_BYTES, arrive: () => void host.after(0, then) });
      const knock = () => {
        if (!other.host.isPowered) return;
        if (!other.isListening) return answer(() => fail("connection refused"));
        if (made === null) {
          made = this.#peers.pair(kind, host, other.host);
          const { far } = made;
          other.host.after(0, () => other.#accepted(far, this.#keyHex));
        }
        const { near } = made;
        answer(() => end(() => resolve(this.#connection(near, target.publicKeyHex))));
      };
      for (const atMs of SYN_AT_MS) {
        const packet = { from: host.name, to: other.host.name, bytes: SYN_BYTES, arrive: knock };
        scheduled.push(host.after(atMs, () => way.send(packet)));
      }
      scheduled.push(host.after(DIAL_TIMEOUT_MS, () => fail(`no answer in ${DIAL_TIMEOUT_MS} ms`)));
    });
  }

  #accepted(link: SimLink, peerKeyHex: string): void {
    if (this.isListening) this.#accept?.(this.#connection(link, peerKeyHex));
    else link.destroy();
  }

  #connection(link: SimLink, peerKeyHex: string): PeerConnection {
    const { host, kind } = this;
    const connection = new SimPeerConnection({
      host,
      link,
      kind,
      peerKeyHex,
      onClose: () => this.#open.delete(connection),
    });
    this.#open.add(connection);
    return connection;
  }
}

function nameOf(kind: CarrierKind, keyHex: string): string {
  return `${kind} ${keyHex}`;
}
