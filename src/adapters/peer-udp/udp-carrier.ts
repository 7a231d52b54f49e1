/**
 * The UDP carrier: hyperdht finds the other node by its key on the grid's bootstrap nodes, which then pass the messages of hole punching
 * between the two until their datagrams meet. Every connection is encrypted (Noise) and proves the Ed25519 identity of both nodes.
 *
 * | this NAT \ other   | open or same LAN | keeps the port | random port                   |
 * | ------------------ | ---------------- | -------------- | ----------------------------- |
 * | keeps the port     | direct           | direct         | by chance, 3 to 10 s           |
 * | random port        | direct           | by chance      | never: the relay's task        |
 *
 * Punching by chance costs some thousand datagrams; the library allows one in 20 s for a node, and who asks before is told at once.
 */
import type HyperDht from "hyperdht";
import type { DhtServer, SecretStream } from "hyperdht";
import { assert } from "../../domain/assert.ts";
import { describeFault, FallowError } from "../../domain/fault.ts";
import type { HostPort, PeerEndpoints, PeerTarget } from "../../domain/peer.ts";
import type { KeyPair } from "../../ports/crypto.ts";
import type { PeerCarrier, PeerConnection } from "../../ports/peer-carrier.ts";
import { DialPauses } from "./dial-pauses.ts";
import { loadHyperDht, openGridDht } from "./grid-dht.ts";
import { HandshakeGate } from "./handshake-gate.ts";
import { UdpConnection } from "./udp-connection.ts";

export interface UdpCarrierOptions {
  /** The node's identity: the same on every carrier. */
  readonly keyPair: KeyPair;
  /** The grid's own; never empty. */
  readonly bootstrap: readonly HostPort[];
  /** The node's one port: UDP of the number that TCP has. 0, or when it is taken: any. */
  readonly port: number;
  readonly bindHost: string;
  /** Keys that may connect at all; without it every key, within bounds, and what they may do is the session's to check. */
  readonly admits?: (publicKeyHex: string) => boolean;
}

/** A punch by chance takes 3 to 10 s (docs/peer-network.md); with one lost attempt it is over before anybody gives up on the link. */
const DIAL_MS_MAX = 15_000;
/** All together; each holds at most two windows of 4 MiB, and mostly far less. */
const CONNECTIONS_MAX = 256;
const CONNECTIONS_PER_PEER_MAX = 16;

/** Rejects with a `FallowError`: `peer-bootstrap-missing`, `peer-bootstrap-wrong`, `peer-udp-unavailable`. */
export async function openUdpCarrier(options: UdpCarrierOptions): Promise<UdpCarrier> {
  return new UdpCarrier(await loadHyperDht(), options);
}

export class UdpCarrier implements PeerCarrier {
  readonly kind = "udp";
  /** Resolves when other nodes can find this one, or when no bootstrap node answered; it goes on trying then. */
  readonly listening: Promise<void>;
  readonly #dht: HyperDht;
  readonly #server: DhtServer;
  readonly #connections = new Set<PeerConnection>();
  readonly #gate = new HandshakeGate();
  readonly #pauses = new DialPauses();
  #accept: ((connection: PeerConnection) => void) | null = null;
  #early: PeerConnection[] = [];
  #closing: Promise<void> | null = null;

  constructor(library: typeof HyperDht, options: UdpCarrierOptions) {
    const keyPair = library.keyPair(Buffer.from(options.keyPair.seed));
    assert(keyPair.publicKey.equals(options.keyPair.publicKey), "one seed gives one identity on every carrier");
    this.#dht = openGridDht(library, {
      bootstrap: options.bootstrap,
      keyPair,
      // The library speaks IPv4 only.
      host: options.bindHost === "::" ? "0.0.0.0" : options.bindHost,
      port: [options.port, options.port + 1],
      // A node that is reachable would else become part of the network after 20 minutes.
      ephemeral: true,
    });
    this.#server = this.#dht.createServer({
      firewall: (key) => key.equals(keyPair.publicKey) || !this.#admits(key.toString("hex"), options),
    });
    this.#server.on("connection", (stream: SecretStream) => this.#met(stream));
    this.listening = this.#server.listen(keyPair).then(
      () => undefined,
      () => undefined,
    );
  }

  async dial(target: PeerTarget, signal: AbortSignal): Promise<PeerConnection> {
    const { publicKeyHex } = target;
    const fail = (why: string, cause?: unknown) =>
      new FallowError("peer-unreachable", `${target.nodeId} cannot be reached over UDP: ${why}`, {
        data: { nodeId: target.nodeId, carrier: "udp", why },
        cause,
      });
    if (this.#closing !== null) throw fail("this carrier is closed");
    if (!target.endpoints.hasUdp) throw fail("it takes no part in hole punching");
    if (this.#connections.size >= CONNECTIONS_MAX) throw fail(`${CONNECTIONS_MAX} connections are open`);
    const pause = this.#pauses.reason(publicKeyHex, performance.now());
    if (pause !== null) throw fail(pause);
    const stream = this.#dht.connect(Buffer.from(publicKeyHex, "hex"));
    try {
      await opened(stream, AbortSignal.any([signal, AbortSignal.timeout(DIAL_MS_MAX)]));
    } catch (thrown) {
      const code = codeOf(thrown);
      if (!signal.aborted && code !== null) this.#pauses.note(publicKeyHex, code, performance.now());
      const isLate = thrown instanceof Error && thrown.name === "TimeoutError" && !signal.aborted;
      throw fail(code ?? (isLate ? `not within ${DIAL_MS_MAX} ms` : describeFault(thrown)), thrown);
    }
    if (stream.remotePublicKey.toString("hex") !== publicKeyHex) {
      stream.destroy();
      throw new FallowError("peer-identity-mismatch", `another node than ${target.nodeId} answers over UDP`);
    }
    return this.#kept(stream);
  }

  onConnection(accept: (connection: PeerConnection) => void): void {
    assert(this.#accept === null, "connections are accepted by one");
    this.#accept = accept;
    for (const connection of this.#early.splice(0)) accept(connection);
  }

  endpoints(): PeerEndpoints {
    return { tcp: [], hasUdp: this.#closing === null && this.#server.relayAddresses.length > 0 };
  }

  /** The bound UDP port; null before it is. */
  port(): number | null {
    return this.#dht.localAddress()?.port ?? null;
  }

  /** Of the network that it is part of: the grid's own. */
  knownNodes(): readonly HostPort[] {
    return this.#dht.toArray();
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    for (const connection of this.#connections) connection.destroy();
    // Telling the bootstrap nodes that it leaves would wait for those that are gone; what they keep of it ends by itself. Without being closed the
    // server would go on announcing, for ever where no bootstrap node ever answered, and keep the process.
    const closed = this.#server.close().catch(() => undefined);
    await this.#dht.destroy({ force: true });
    void closed;
  }

  #admits(keyHex: string, options: UdpCarrierOptions): boolean {
    if (this.#closing !== null) return false;
    if (options.admits?.(keyHex) === false) return false;
    if (this.#connections.size >= CONNECTIONS_MAX) return false;
    let ofPeer = 0;
    for (const connection of this.#connections) if (connection.peerKeyHex === keyHex) ofPeer++;
    return ofPeer < CONNECTIONS_PER_PEER_MAX && this.#gate.admits(keyHex, performance.now());
  }

  #met(stream: SecretStream): void {
    opened(stream, AbortSignal.timeout(DIAL_MS_MAX)).then(
      () => {
        if (this.#closing !== null || this.#connections.size >= CONNECTIONS_MAX) return stream.destroy();
        const connection = this.#kept(stream);
        if (this.#accept === null) this.#early.push(connection);
        else this.#accept(connection);
      },
      // Whoever did not finish the handshake is destroyed and told nothing.
      () => undefined,
    );
  }

  #kept(stream: SecretStream): UdpConnection {
    const connection = new UdpConnection(stream);
    this.#connections.add(connection);
    stream.once("close", () => this.#connections.delete(connection));
    return connection;
  }
}

function opened(stream: SecretStream, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const settle = () => {
      signal.removeEventListener("abort", onAbort);
      stream.off("open", onOpen);
      stream.off("close", onClose);
    };
    let cause: unknown = new Error("the other end closed the connection during the set-up");
    const onOpen = () => {
      settle();
      resolve();
    };
    const onClose = () => {
      settle();
      reject(cause);
    };
    const onAbort = () => {
      cause = signal.reason;
      stream.destroy();
    };
    // Stays: an error without a listener would end the process.
    stream.on("error", (error: Error) => {
      if (!signal.aborted) cause = error;
    });
    stream.once("open", onOpen);
    stream.once("close", onClose);
    if (signal.aborted) onAbort();
    else signal.addEventListener("abort", onAbort, { once: true });
  });
}

function codeOf(thrown: unknown): string | null {
  return thrown instanceof Error && "code" in thrown && typeof thrown.code === "string" ? thrown.code : null;
}
