/** Tells the coordinator how this node is reached, and how good its ways to others are, as both change. */
import { fromHex } from "../../domain/hex.ts";
import { nodeIdOf } from "../../domain/node-id.ts";
import type { HostPort, PeerEndpoints } from "../../domain/peer.ts";
import type { Clock, Timer } from "../../ports/clock.ts";
import type { Crypto } from "../../ports/crypto.ts";
import type { PeerNetwork } from "../../ports/peer-link.ts";
import { WIRE_BOUNDS } from "../../wire/link-atoms.ts";
import type { Line } from "../session.ts";

export interface WayNewsPorts {
  readonly clock: Clock;
  readonly crypto: Crypto;
  readonly network: Pick<PeerNetwork, "qualities">;
  /** As this machine is reached now; `observedHost` is its address as the coordinator sees it. */
  endpoints(observedHost: string | null): PeerEndpoints;
}

/** Networks change when a laptop moves; ways are measured while they are used. */
const EVERY_MS = 10_000;

export class WayNews {
  readonly #ports: WayNewsPorts;
  #line: Line | null = null;
  #timer: Timer | null = null;
  #toldEndpoints = "";
  /** Of the newest measurement that was told. */
  readonly #toldAtMs = new Map<string, number>();

  constructor(ports: WayNewsPorts) {
    this.#ports = ports;
  }

  onLineUp(line: Line): void {
    this.onLineDown();
    // A grid without a peer network asks for none of it.
    if (line.welcome.peering === undefined) return;
    this.#line = line;
    this.#toldEndpoints = "";
    this.#toldAtMs.clear();
    this.#look();
  }

  onLineDown(): void {
    this.#timer?.cancel();
    this.#line = null;
  }

  #look(): void {
    const line = this.#line;
    if (line === null) return;
    this.#timer = this.#ports.clock.setTimer(EVERY_MS, () => this.#look());
    const { tcp, hasUdp } = this.#ports.endpoints(line.welcome.peering?.observedHost ?? null);
    const endpoints = { tcp: distinct(tcp).slice(0, WIRE_BOUNDS.addressesPerNodeMax), hasUdp };
    const text = JSON.stringify(endpoints);
    if (text !== this.#toldEndpoints) line.send({ type: "peer.endpoints", endpoints });
    this.#toldEndpoints = text;
    this.#tellLinks(line);
  }

  #tellLinks(line: Line): void {
    const { network, crypto } = this.#ports;
    const fresh = network
      .qualities()
      .filter(
        ({ peerKeyHex, quality }) =>
          quality.measuredAtMs > (this.#toldAtMs.get(peerKeyHex) ?? Number.NEGATIVE_INFINITY),
      );
    const links = fresh.slice(0, WIRE_BOUNDS.linksPerReportMax).flatMap(({ peerKeyHex, quality }) => {
      this.#toldAtMs.set(peerKeyHex, quality.measuredAtMs);
      const key = fromHex(peerKeyHex);
      if (key === null) return [];
      const { carrier, rttMs, lossShare, bytesPerSecond } = quality;
      return [{ nodeId: nodeIdOf(crypto.sha256(key)), carrier, rttMs, lossShare, bytesPerSecond }];
    });
    if (links.length > 0) line.send({ type: "peer.links", links });
  }
}

function distinct(addresses: readonly HostPort[]): HostPort[] {
  const seen = new Map(addresses.map((address) => [`${address.host} ${address.port}`, address]));
  return [...seen.values()].map(({ host, port }) => ({ host, port }));
}
