/**
 * Connections between nodes over TCP with TLS 1.3: one listening port, both ends proved by their Ed25519 keys. For nodes of one LAN, with a
 * public address or a forwarded port. Strangers can reach the port, so everything before the proof is bounded: how many come in a second,
 * how many are in a handshake, how long it may take.
 */
import { createServer, isIP, type Server, type Socket } from "node:net";
import { networkInterfaces } from "node:os";
import type { SecureContext } from "node:tls";
import { describeFault, FallowError } from "../../domain/fault.ts";
import type { HostPort, PeerEndpoints, PeerTarget } from "../../domain/peer.ts";
import type { KeyPair } from "../../ports/crypto.ts";
import type { PeerCarrier, PeerConnection } from "../../ports/peer-carrier.ts";
import { addressOrder, isPrivateAddress, name } from "./address-order.ts";
import { AddressPauses } from "./address-pauses.ts";
import { identityCertificate } from "./identity-certificate.ts";
import { TcpPath } from "./tcp-path.ts";
import { TlsConnection } from "./tls-connection.ts";
import { acceptTls, dialTls, type Proved, secureContextOf } from "./tls-ends.ts";

export interface TcpCarrierOptions {
  readonly keyPair: KeyPair;
  /** `0.0.0.0` or `::` for all addresses of the machine. */
  readonly host: string;
  /** 0 takes a free one. */
  readonly port: number;
  /** Further addresses under which others reach the port (a forwarded one), the likeliest first. */
  readonly announce?: readonly HostPort[];
}

export interface TcpCarrier extends PeerCarrier {
  readonly port: number;
  /** What strangers and peers were turned away for. */
  refused(): Readonly<Record<TcpRefusal, number>>;
}

export type TcpRefusal = "rate" | "handshakes" | "connections" | "connections-of-peer" | "handshake-failed";

/** How long the other end may take to read what is queued before a closed connection is cut. */
const CLOSE_MS_MAX = 3_000;
/** New connections in a second: more than a node's peers open together, far less than a flood. From one address fewer, or it keeps others out. */
const ACCEPTS_PER_SECOND_MAX = 100;
const ACCEPTS_PER_SECOND_OF_ADDRESS_MAX = 64;
/** Each holds some 50 KB and lasts at most `HANDSHAKE_MS_MAX`; a node opens 20 at once. */
const HANDSHAKES_MAX = 128;
const HANDSHAKES_OF_ADDRESS_MAX = 48;
const CONNECTIONS_MAX = 1_024;
/** Both directions' links with all their bulk connections, and those that just end. */
const CONNECTIONS_PER_PEER_MAX = 64;
/** RFC 8305: the next address is tried after so long without an answer. */
const STAGGER_MS = 250;
/** An address that was silent for so long when another answered counts as one that failed: who answers late on purpose hides none. */
const SILENT_MS = 1_000;
/** Of a whole dial: a lost SYN is sent again after 1 and 3 s. */
const DIAL_MS_MAX = 8_000;
/** Addresses that answered, of the peers met last. */
const KNOWN_ADDRESSES_MAX = 256;

/** Listens at once. Rejects with `peer-port-unusable` when the port cannot be had. */
export async function openTcpCarrier(options: TcpCarrierOptions): Promise<TcpCarrier> {
  const carrier = new TlsCarrier(options);
  await carrier.start();
  return carrier;
}

class TlsCarrier implements TcpCarrier {
  readonly kind = "tcp";
  readonly #options: TcpCarrierOptions;
  readonly #context: SecureContext;
  readonly #server: Server;
  readonly #open = new Set<Socket>();
  readonly #countByKey = new Map<string, number>();
  readonly #knownAddress = new Map<string, HostPort>();
  readonly #pauses = new AddressPauses(performance.now());
  readonly #refused: Record<TcpRefusal, number> = {
    rate: 0,
    handshakes: 0,
    connections: 0,
    "connections-of-peer": 0,
    "handshake-failed": 0,
  };
  readonly #closing = new AbortController();
  #accept: ((connection: PeerConnection) => void) | null = null;
  #handshakes = 0;
  #second = 0;
  #acceptsInSecond = 0;
  /** By address, in this second. */
  readonly #acceptsFrom = new Map<string, number>();
  /** By address, of the handshakes that run. */
  readonly #handshakesFrom = new Map<string, number>();

  constructor(options: TcpCarrierOptions) {
    this.#options = options;
    this.#context = secureContextOf(identityCertificate(options.keyPair));
    this.#server = createServer({ noDelay: true }, (socket) => this.#onSocket(socket));
  }

  start(): Promise<void> {
    const { host, port } = this.#options;
    return new Promise((resolve, reject) => {
      this.#server.once("error", (cause) =>
        reject(
          new FallowError("peer-port-unusable", `${name({ host, port })} cannot be listened on; name another port`, {
            data: { host, port },
            cause,
          }),
        ),
      );
      this.#server.listen({ host, port }, resolve);
    });
  }

  get port(): number {
    const address = this.#server.address();
    return typeof address === "object" && address !== null ? address.port : this.#options.port;
  }

  refused(): Readonly<Record<TcpRefusal, number>> {
    return { ...this.#refused };
  }

  onConnection(accept: (connection: PeerConnection) => void): void {
    this.#accept = accept;
  }

  endpoints(): PeerEndpoints {
    const { host, announce } = this.#options;
    const own = host === "0.0.0.0" || host === "::" ? machineAddresses(host === "::") : [host];
    const { port } = this;
    return { tcp: [...(announce ?? []), ...own.map((one) => ({ host: one, port }))], hasUdp: false };
  }

  async dial(target: PeerTarget, signal: AbortSignal): Promise<PeerConnection> {
    const known = this.#knownAddress.get(target.publicKeyHex) ?? null;
    const named = addressOrder(target.endpoints.tcp, known);
    const knownName = known === null ? null : name(known);
    const addresses = named.filter((one) => name(one) === knownName || this.#mayDial(one));
    const whole = AbortSignal.any([signal, this.#closing.signal, AbortSignal.timeout(DIAL_MS_MAX)]);
    const failures: { readonly address: HostPort; readonly cause: unknown }[] = [];
    const winner = await this.#race({ target, addresses, signal: whole, failures });
    // A dial that was given up says nothing of the addresses.
    if (!signal.aborted && !this.#closing.signal.aborted) {
      for (const { address } of failures) this.#pauses.failed(name(address), performance.now());
    }
    if (winner !== null) {
      this.#pauses.answered(name(winner.address));
      this.#remember(target.publicKeyHex, winner.address);
      return this.#adopt(winner.proved);
    }
    const tried = failures.map(({ address, cause }) => `${name(address)} (${describeFault(cause)})`).join(", ");
    const data = { publicKeyHex: target.publicKeyHex, addresses: addresses.map(name) };
    if (failures.some(({ cause }) => cause instanceof FallowError && cause.code === "peer-identity-mismatch")) {
      throw new FallowError("peer-identity-mismatch", `${target.nodeId} is not at its addresses: ${tried}`, { data });
    }
    const resting = `all of its ${named.length} addresses failed a moment ago`;
    const nothing = named.length === 0 ? "it named no address" : addresses.length === 0 ? resting : "no answer in time";
    const why = tried === "" ? nothing : tried;
    throw new FallowError("peer-unreachable", `${target.nodeId} cannot be reached over TCP: ${why}`, { data });
  }

  async close(): Promise<void> {
    if (this.#closing.signal.aborted) return;
    this.#closing.abort(new Error("the carrier was closed"));
    const ended = new Promise<void>((resolve) => {
      this.#server.close(() => resolve());
    });
    for (const socket of this.#open) socket.destroy();
    await ended;
  }

  #mayDial(address: HostPort): boolean {
    return this.#pauses.mayDial(name(address), performance.now());
  }

  /** The first address that answers with the right key; the next one is tried when the last failed, or is slow. */
  #race(race: {
    readonly target: PeerTarget;
    readonly addresses: readonly HostPort[];
    readonly signal: AbortSignal;
    readonly failures: { readonly address: HostPort; readonly cause: unknown }[];
  }): Promise<{ readonly address: HostPort; readonly proved: Proved } | null> {
    const { target, addresses, failures } = race;
    const losers = new AbortController();
    const signal = AbortSignal.any([race.signal, losers.signal]);
    return new Promise((resolve) => {
      let next = 0;
      const running = new Map<HostPort, number>();
      let timer: NodeJS.Timeout | undefined;
      let isOver = false;
      const finish = (winner: { readonly address: HostPort; readonly proved: Proved } | null) => {
        isOver = true;
        clearTimeout(timer);
        const cause = new Error("silent until another answered");
        for (const [address, sinceMs] of running) {
          if (performance.now() - sinceMs >= SILENT_MS) failures.push({ address, cause });
        }
        resolve(winner);
        losers.abort(new Error("another address answered first"));
      };
      const startNext = () => {
        clearTimeout(timer);
        const address = addresses[next];
        if (address === undefined || signal.aborted) {
          if (running.size === 0) finish(null);
          return;
        }
        next++;
        running.set(address, performance.now());
        timer = setTimeout(startNext, STAGGER_MS);
        this.#dialOne(target, address, signal).then(
          (proved) => {
            running.delete(address);
            if (isOver) return proved.socket.destroy();
            finish({ address, proved });
          },
          (cause: unknown) => {
            running.delete(address);
            if (isOver) return;
            failures.push({ address, cause });
            startNext();
          },
        );
      };
      startNext();
    });
  }

  async #dialOne(target: PeerTarget, address: HostPort, signal: AbortSignal): Promise<Proved> {
    const proved = await dialTls(address, this.#context, signal);
    if (proved.peerKeyHex === target.publicKeyHex) return proved;
    proved.socket.destroy();
    throw new FallowError(
      "peer-identity-mismatch",
      `${name(address)} proved the key ${proved.peerKeyHex}, not ${target.publicKeyHex}`,
    );
  }

  #onSocket(transport: Socket): void {
    const from = addressOf(transport);
    const why = this.#whyNotNow(from);
    if (why !== null) {
      this.#refused[why]++;
      transport.destroy();
      return;
    }
    this.#countHandshake(from, 1);
    this.#open.add(transport);
    transport.once("close", () => this.#open.delete(transport));
    acceptTls(transport, this.#context).then(
      (proved) => {
        this.#countHandshake(from, -1);
        this.#onProved(proved);
      },
      () => {
        this.#countHandshake(from, -1);
        this.#refused["handshake-failed"]++;
      },
    );
  }

  #onProved(proved: Proved): void {
    if ((this.#countByKey.get(proved.peerKeyHex) ?? 0) >= CONNECTIONS_PER_PEER_MAX) {
      this.#refused["connections-of-peer"]++;
      proved.socket.destroy();
    } else if (this.#accept === null) proved.socket.destroy();
    else this.#accept(this.#adopt(proved));
  }

  #whyNotNow(from: string): TcpRefusal | null {
    const second = Math.floor(performance.now() / 1_000);
    if (second !== this.#second) {
      this.#second = second;
      this.#acceptsInSecond = 0;
      this.#acceptsFrom.clear();
    }
    const ofAddress = this.#acceptsFrom.get(from) ?? 0;
    if (ofAddress >= ACCEPTS_PER_SECOND_OF_ADDRESS_MAX || this.#acceptsInSecond >= ACCEPTS_PER_SECOND_MAX)
      return "rate";
    this.#acceptsInSecond++;
    this.#acceptsFrom.set(from, ofAddress + 1);
    const handshakesOfAddress = this.#handshakesFrom.get(from) ?? 0;
    if (handshakesOfAddress >= HANDSHAKES_OF_ADDRESS_MAX || this.#handshakes >= HANDSHAKES_MAX) return "handshakes";
    return this.#open.size >= CONNECTIONS_MAX ? "connections" : null;
  }

  #countHandshake(from: string, change: 1 | -1): void {
    this.#handshakes += change;
    const count = (this.#handshakesFrom.get(from) ?? 0) + change;
    if (count > 0) this.#handshakesFrom.set(from, count);
    else this.#handshakesFrom.delete(from);
  }

  #adopt(proved: Proved): PeerConnection {
    const { socket, transport, peerKeyHex } = proved;
    this.#open.add(transport);
    this.#countByKey.set(peerKeyHex, (this.#countByKey.get(peerKeyHex) ?? 0) + 1);
    socket.once("close", () => {
      this.#open.delete(transport);
      const left = (this.#countByKey.get(peerKeyHex) ?? 1) - 1;
      if (left > 0) this.#countByKey.set(peerKeyHex, left);
      else this.#countByKey.delete(peerKeyHex);
    });
    const path = new TcpPath(transport);
    return new TlsConnection(socket, {
      carrier: "tcp",
      peerKeyHex,
      remote: `${transport.remoteAddress ?? "unknown"}:${transport.remotePort ?? 0}`,
      closeMsMax: CLOSE_MS_MAX,
      measure: () => path.measured(),
    });
  }

  #remember(keyHex: string, address: HostPort): void {
    this.#knownAddress.delete(keyHex);
    this.#knownAddress.set(keyHex, address);
    const [oldest] = this.#knownAddress.keys();
    if (this.#knownAddress.size > KNOWN_ADDRESSES_MAX && oldest !== undefined) this.#knownAddress.delete(oldest);
  }
}

/** Who counts as one: an address of IPv4, and the /64 of IPv6 that a machine mostly has to itself. */
function addressOf({ remoteAddress = "" }: Socket): string {
  return remoteAddress.includes(".") ? remoteAddress : remoteAddress.split(":").slice(0, 4).join(":");
}

/** Addresses that others may reach, those of the local network first; link-local IPv6 ones name an interface and are of no use elsewhere. */
function machineAddresses(hasIpv6: boolean): readonly string[] {
  const found = Object.values(networkInterfaces())
    .flatMap((addresses) => addresses ?? [])
    .filter(({ internal, address, family }) => !internal && isIP(address) !== 0 && (hasIpv6 || family === "IPv4"))
    .map(({ address }) => address)
    .filter((address) => !address.toLowerCase().startsWith("fe80:"));
  return [...found.filter(isPrivateAddress), ...found.filter((address) => !isPrivateAddress(address))];
}
