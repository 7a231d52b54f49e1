/**
 * The last resort: a connection through the coordinator, for two nodes that cannot reach each other. The coordinator offers it to both, each
 * opens a WebSocket to it, and inside that pipe the two speak TLS 1.3 with certificates of their own keys: the coordinator sees ciphertext, and
 * a node that it would put in the other's place shows another key.
 */
import type { Duplex } from "node:stream";
import { connect as connectTls, type SecureContext, TLSSocket } from "node:tls";
import { assert } from "../../domain/assert.ts";
import { describeFault, FallowError } from "../../domain/fault.ts";
import type { PeerEndpoints, PeerTarget } from "../../domain/peer.ts";
import type { KeyPair } from "../../ports/crypto.ts";
import type { PeerCarrier, PeerConnection } from "../../ports/peer-carrier.ts";
import type { RelayLine, RelayOffer } from "../../ports/relay.ts";
import { certifiedKeyHex, identityCertificate } from "../peer-tcp/identity-certificate.ts";
import { TlsConnection } from "../peer-tcp/tls-connection.ts";
import { secureContextOf } from "../peer-tcp/tls-ends.ts";
import { openRelaySocket } from "./relay-socket.ts";

/** Ask, two upgrades, two handshakes, all through the coordinator: ten round trips of a bad link. */
const DIAL_MS_MAX = 12_000;
/** Of an end that another node asked for: that node gives up by then. */
const ACCEPT_MS_MAX = 12_000;
/** Ends being opened for others at once; the coordinator offers few, and this holds if it does not. */
const ACCEPTING_MAX = 32;
const CONNECTIONS_MAX = 128;
/** For the other end to read what is queued when a connection closes; longer than on a direct way, since the relay is slower. */
const CLOSE_MS_MAX = 5_000;
const ALPN = "fallow-peer-relay/1";

export class RelayCarrier implements PeerCarrier {
  readonly kind = "relay";
  readonly #line: RelayLine;
  readonly #context: SecureContext;
  readonly #connections = new Set<PeerConnection>();
  readonly #closing = new AbortController();
  #accept: ((connection: PeerConnection) => void) | null = null;
  #early: PeerConnection[] = [];
  #accepting = 0;

  constructor(keyPair: KeyPair, line: RelayLine) {
    this.#line = line;
    this.#context = secureContextOf(identityCertificate(keyPair));
    line.onOffer((offer) => void this.#met(offer));
  }

  async dial(target: PeerTarget, signal: AbortSignal): Promise<PeerConnection> {
    const whole = AbortSignal.any([signal, this.#closing.signal, AbortSignal.timeout(DIAL_MS_MAX)]);
    try {
      if (this.#connections.size >= CONNECTIONS_MAX) throw new Error(`${CONNECTIONS_MAX} relayed connections are open`);
      const offer = await this.#line.ask(target.nodeId, whole);
      const pipe = await this.#pipe(offer, whole);
      const socket = connectTls({
        socket: pipe,
        secureContext: this.#context,
        rejectUnauthorized: false,
        ALPNProtocols: [ALPN],
      });
      const peerKeyHex = await provedKey(socket, pipe, { event: "secureConnect", signal: whole });
      if (peerKeyHex === target.publicKeyHex) return this.#kept(socket, { peerKeyHex, relayId: offer.relayId });
      socket.destroy();
      throw new FallowError("peer-identity-mismatch", `the relay leads to another node than ${target.nodeId}`);
    } catch (cause) {
      if (cause instanceof FallowError && cause.code === "peer-identity-mismatch") throw cause;
      const why = describeFault(cause);
      throw new FallowError("peer-unreachable", `${target.nodeId} cannot be reached through the relay: ${why}`, {
        data: { nodeId: target.nodeId, carrier: "relay", why },
        cause,
      });
    }
  }

  onConnection(accept: (connection: PeerConnection) => void): void {
    assert(this.#accept === null, "connections are accepted by one");
    this.#accept = accept;
    for (const connection of this.#early.splice(0)) accept(connection);
  }

  /** Nobody needs an address of it. */
  endpoints(): PeerEndpoints {
    return { tcp: [], hasUdp: false };
  }

  async close(): Promise<void> {
    this.#closing.abort(new Error("the carrier was closed"));
    for (const connection of this.#connections) connection.destroy();
  }

  async #met(offer: RelayOffer): Promise<void> {
    if (this.#closing.signal.aborted || this.#accepting >= ACCEPTING_MAX) return;
    if (this.#connections.size >= CONNECTIONS_MAX) return;
    this.#accepting++;
    const signal = AbortSignal.any([this.#closing.signal, AbortSignal.timeout(ACCEPT_MS_MAX)]);
    try {
      const pipe = await this.#pipe(offer, signal);
      const socket = new TLSSocket(pipe, {
        isServer: true,
        secureContext: this.#context,
        requestCert: true,
        rejectUnauthorized: false,
        ALPNProtocols: [ALPN],
      });
      const peerKeyHex = await provedKey(socket, pipe, { event: "secure", signal });
      const connection = this.#kept(socket, { peerKeyHex, relayId: offer.relayId });
      if (this.#accept === null) this.#early.push(connection);
      else this.#accept(connection);
    } catch {
      // The node that asked is told by its own end; it is its connection that failed.
    } finally {
      this.#accepting--;
    }
  }

  #pipe({ relayId }: RelayOffer, signal: AbortSignal): Promise<Duplex> {
    const session = this.#line.session();
    if (session === null) throw new FallowError("peer-unreachable", "there is no link to the coordinator");
    return openRelaySocket({ ...session, relayId }, signal);
  }

  #kept(socket: TLSSocket, about: { readonly peerKeyHex: string; readonly relayId: string }): PeerConnection {
    const connection = new TlsConnection(socket, {
      carrier: "relay",
      peerKeyHex: about.peerKeyHex,
      remote: `relay ${about.relayId}`,
      closeMsMax: CLOSE_MS_MAX,
      // Two TCP connections and the coordinator lie between: nothing of the whole way is measured here.
      measure: null,
    });
    this.#connections.add(connection);
    socket.once("close", () => this.#connections.delete(connection));
    return connection;
  }
}

function provedKey(
  socket: TLSSocket,
  pipe: Duplex,
  { event, signal }: { readonly event: "secure" | "secureConnect"; readonly signal: AbortSignal },
): Promise<string> {
  return new Promise((resolve, reject) => {
    const settle = () => {
      signal.removeEventListener("abort", onAbort);
      socket.off("error", refuse);
      socket.off("close", onClose);
      socket.off(event, onSecure);
    };
    const refuse = (cause: unknown) => {
      settle();
      // What still fails on the way out has been told already.
      socket.on("error", () => undefined);
      socket.destroy();
      pipe.destroy();
      reject(cause instanceof Error ? cause : new Error(String(cause)));
    };
    const onAbort = () => refuse(signal.reason);
    const onClose = () => refuse(new Error("the other end closed the connection during the handshake"));
    const onSecure = () => {
      const keyHex = certifiedKeyHex(socket.getPeerX509Certificate());
      if (keyHex === null || socket.alpnProtocol !== ALPN) {
        refuse(new Error(`the other end showed no Ed25519 certificate, or does not speak ${ALPN}`));
        return;
      }
      settle();
      resolve(keyHex);
    };
    socket.once("error", refuse);
    socket.once("close", onClose);
    socket.once(event, onSecure);
    pipe.once("close", () => socket.destroy());
    if (signal.aborted) onAbort();
    else signal.addEventListener("abort", onAbort, { once: true });
  });
}
