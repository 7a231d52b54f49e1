/**
 * A node's ways to others: TCP on one port, UDP through the grid's bootstrap nodes and the relay once the grid says that it has them, and
 * neighbours on the local network, whose addresses are tried first for the keys that they claim and have to prove.
 */
import { isIP } from "node:net";
import { MdnsDiscovery } from "../../adapters/lan-mdns/mdns-discovery.ts";
import { RelayCarrier } from "../../adapters/peer-relay/relay-carrier.ts";
import { openTcpCarrier } from "../../adapters/peer-tcp/tcp-carrier.ts";
import { openUdpCarrier } from "../../adapters/peer-udp/udp-carrier.ts";
import { isLoopback } from "../../adapters/tls-identity/loopback.ts";
import type { NewsDuty } from "../../agent/peer-duties.ts";
import { openPeerNetwork } from "../../agent/peering/peer-network.ts";
import { RelayAsks } from "../../agent/peering/relay-asks.ts";
import { WayNews } from "../../agent/peering/way-news.ts";
import type { Line } from "../../agent/session.ts";
import { describeFault } from "../../domain/fault.ts";
import { toHex } from "../../domain/hex.ts";
import type { HostPort, PeerEndpoints } from "../../domain/peer.ts";
import type { Clock } from "../../ports/clock.ts";
import type { Crypto, KeyPair } from "../../ports/crypto.ts";
import type { LinkTarget } from "../../ports/link.ts";
import type { Log } from "../../ports/log.ts";
import type { PeerNetwork } from "../../ports/peer-link.ts";
import type { Random } from "../../ports/random.ts";
import { LateCarrier } from "./late-carrier.ts";

export interface PeerWaysOptions {
  /** Address to listen on; loopback for a node that only this machine reaches. */
  readonly host: string;
  /** 0 takes a free one. */
  readonly port: number;
  /** Under which others reach it from outside, when a router forwards a port. */
  readonly forwarded: HostPort | null;
  readonly hasUdp: boolean;
  readonly hasRelay: boolean;
  readonly hasLan: boolean;
}

export interface PeerWays {
  readonly network: PeerNetwork;
  readonly relay: RelayAsks | null;
  /** What the coordinator is told, and what starts when the grid is known. */
  readonly news: NewsDuty;
  /** Of TCP. */
  readonly port: number;
  /** May be called twice. */
  close(): Promise<void>;
}

interface PeerWaysPorts {
  readonly clock: Clock;
  readonly random: Random;
  readonly crypto: Crypto;
  readonly log: Log;
  readonly keyPair: KeyPair;
  readonly target: LinkTarget;
}

/** Neighbours whose addresses are remembered. */
const NEIGHBOURS_MAX = 1_024;

/** Rejects `peer-port-unusable`. */
export async function openPeerWays(options: PeerWaysOptions, ports: PeerWaysPorts): Promise<PeerWays> {
  const { keyPair, log, crypto, clock } = ports;
  const { host, port, forwarded } = options;
  const tcp = await openTcpCarrier({ keyPair, host, port, announce: forwarded === null ? [] : [forwarded] });
  const udp = new LateCarrier("udp");
  const relay = options.hasRelay ? new RelayAsks(ports.target, ports) : null;
  const carriers = [tcp, udp, ...(relay === null ? [] : [new RelayCarrier(keyPair, relay)])];
  const carried = openPeerNetwork({ ...ports, carriers });
  const neighbours = new Neighbours();
  const network = neighbours.nearer(carried);
  const ways = new WayNews({
    clock,
    crypto,
    network,
    endpoints: (observedHost) => endpointsOf(tcp.endpoints(), { observedHost, port: tcp.port, udp }),
  });
  const starting = new GridStart({ ...options, port: tcp.port }, { keyPair, log, udp, neighbours });
  return {
    network,
    relay,
    port: tcp.port,
    news: {
      onLineUp: (line) => {
        starting.onLineUp(line);
        ways.onLineUp(line);
      },
      onLineDown: () => ways.onLineDown(),
    },
    close: async () => {
      ways.onLineDown();
      await Promise.all([starting.stop(), network.close()]);
    },
  };
}

/** A port that nobody forwards is not reached at the address that the coordinator sees: that one comes last. */
function endpointsOf(
  own: PeerEndpoints,
  { observedHost, port, udp }: { observedHost: string | null; port: number; udp: LateCarrier },
): PeerEndpoints {
  const isUseful = observedHost !== null && isIP(observedHost) !== 0 && !isLoopback(observedHost);
  const isAlone = own.tcp.every(({ host }) => isLoopback(host));
  return {
    tcp: isUseful && !isAlone ? [...own.tcp, { host: observedHost, port }] : own.tcp,
    hasUdp: udp.endpoints().hasUdp,
  };
}

/** Addresses of the local network, by the key that was announced there. */
class Neighbours {
  readonly #addresses = new Map<string, readonly HostPort[]>();

  found(publicKeyHex: string, addresses: readonly HostPort[]): void {
    this.#addresses.delete(publicKeyHex);
    this.#addresses.set(publicKeyHex, addresses);
    const [oldest] = this.#addresses.keys();
    if (this.#addresses.size > NEIGHBOURS_MAX && oldest !== undefined) this.#addresses.delete(oldest);
  }

  /** The same network, which tries what was found here first. */
  nearer(inner: PeerNetwork): PeerNetwork {
    return {
      connect: (target, credential, signal) => {
        const near = this.#addresses.get(target.publicKeyHex) ?? [];
        const { tcp, hasUdp } = target.endpoints;
        const known = new Set(near.map(({ host, port }) => `${host} ${port}`));
        const others = tcp.filter(({ host, port }) => !known.has(`${host} ${port}`));
        return inner.connect({ ...target, endpoints: { tcp: [...near, ...others], hasUdp } }, credential, signal);
      },
      open: (peerKeyHex) => inner.open(peerKeyHex),
      serve: (handlers) => inner.serve(handlers),
      qualities: () => inner.qualities(),
      close: () => inner.close(),
    };
  }
}

/** What begins with the first welcome that names it, and then stays. */
class GridStart {
  readonly #options: PeerWaysOptions;
  readonly #parts: { keyPair: KeyPair; log: Log; udp: LateCarrier; neighbours: Neighbours };
  #discovery: Promise<{ stop(): Promise<void> }> | null = null;
  #isUdpAsked = false;
  #isStopped = false;

  constructor(
    options: PeerWaysOptions,
    parts: { keyPair: KeyPair; log: Log; udp: LateCarrier; neighbours: Neighbours },
  ) {
    this.#options = options;
    this.#parts = parts;
  }

  onLineUp({ gridId, welcome }: Line): void {
    const { peering } = welcome;
    if (peering === undefined || this.#isStopped) return;
    const { hasUdp, hasLan, host } = this.#options;
    if (hasUdp && peering.bootstrap.length > 0 && !this.#isUdpAsked) {
      this.#isUdpAsked = true;
      void this.#openUdp(peering.bootstrap);
    }
    if (hasLan && !isLoopback(host)) this.#discovery ??= this.#discover(gridId);
  }

  async stop(): Promise<void> {
    this.#isStopped = true;
    await (await this.#discovery)?.stop();
  }

  /** Never rejects. */
  async #openUdp(bootstrap: readonly HostPort[]): Promise<void> {
    const { keyPair, log, udp } = this.#parts;
    const { host: bindHost, port } = this.#options;
    try {
      await udp.open(await openUdpCarrier({ keyPair, bootstrap, port, bindHost }));
    } catch (thrown) {
      this.#isUdpAsked = false; // with the next line it may work
      log.warn({ cause: describeFault(thrown) }, "no hole punching");
    }
  }

  #discover(gridId: string): Promise<{ stop(): Promise<void> }> {
    const { keyPair, log, neighbours } = this.#parts;
    const own = toHex(keyPair.publicKey);
    const discovery = new MdnsDiscovery({
      onWarning: (what) => log.warn({ what }, "the local network is not searched"),
    });
    const self = { gridId, publicKeyHex: own, role: "agent" as const, port: this.#options.port };
    return discovery.start(self, (found) => {
      const isOther = found.gridId === gridId && found.publicKeyHex !== null && found.publicKeyHex !== own;
      if (isOther && found.publicKeyHex !== null) neighbours.found(found.publicKeyHex, found.addresses);
    });
  }
}
