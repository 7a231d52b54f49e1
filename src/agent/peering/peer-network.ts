/**
 * The PeerNetwork port over carriers. It keeps at most one link in each direction with a node: the one that it opened, and the one that the
 * other opened (a new one takes the place of the old: the other end lost it). What comes in must greet within a bound, is admitted by its
 * credential, and belongs to the key that the carrier proved; a further connection belongs to a session by its secret, and by that same key.
 */

import { assert } from "../../domain/assert.ts";
import { FallowError } from "../../domain/fault.ts";
import { CARRIER_KINDS, type LinkQuality, type PeerTarget } from "../../domain/peer.ts";
import { type Refusal, refuse } from "../../domain/refusal.ts";
import type { Clock, Timer } from "../../ports/clock.ts";
import type { Crypto } from "../../ports/crypto.ts";
import type { Log } from "../../ports/log.ts";
import type { PeerCarrier, PeerConnection } from "../../ports/peer-carrier.ts";
import { PEER_CREDENTIAL_CHARS_MAX, type PeerLink, type PeerNetwork, type PeerServer } from "../../ports/peer-link.ts";
import type { Random } from "../../ports/random.ts";
import {
  PEER_PROTOCOL_VERSION,
  type PeerFrame,
  SESSION_ID_BYTES,
  SESSION_SECRET_BYTES,
} from "../../wire/peer-frames.ts";
import {
  CONNECTIONS_PER_LINK_MAX,
  GREETING_MS_MAX,
  GREETINGS_MAX,
  GREETINGS_OF_ADDRESS_MAX,
  LINKS_MAX,
} from "./link-bounds.ts";
import { LinkConnection } from "./link-connection.ts";
import { LinkOpener } from "./link-opener.ts";
import { wireRefusal } from "./serve-desk.ts";
import { type LinkParts, SessionLink } from "./session-link.ts";

export interface PeerNetworkPorts {
  readonly clock: Clock;
  readonly random: Random;
  readonly crypto: Crypto;
  readonly log: Log;
  readonly carriers: readonly PeerCarrier[];
}

export interface LinkedPeerNetwork extends PeerNetwork {
  /** What other nodes were cut or turned away for, counted. */
  breaches(): Readonly<Record<PeerBreach, number>>;
}

export type PeerBreach =
  | "frame"
  | "greeting"
  | "greeting-late"
  | "greetings-full"
  | "version"
  | "refused"
  | "session-unknown"
  | "attach-replayed"
  | "connections-full"
  | "links-full";

/** Peers whose last quality is remembered. */
const QUALITIES_MAX = 1_024;

export function openPeerNetwork(ports: PeerNetworkPorts): LinkedPeerNetwork {
  return new CarriedNetwork(ports);
}

interface Opened {
  readonly opener: LinkOpener;
  readonly link: Promise<SessionLink>;
  current: SessionLink | null;
}

class CarriedNetwork implements LinkedPeerNetwork {
  readonly #ports: PeerNetworkPorts;
  readonly #carriers: readonly PeerCarrier[];
  readonly #opened = new Map<string, Opened>();
  readonly #accepted = new Map<string, SessionLink>();
  readonly #bySession = new Map<string, SessionLink>();
  readonly #greetings = new Set<LinkConnection>();
  readonly #qualities = new Map<string, LinkQuality>();
  readonly #breaches: Record<PeerBreach, number> = {
    frame: 0,
    greeting: 0,
    "greeting-late": 0,
    "greetings-full": 0,
    version: 0,
    refused: 0,
    "session-unknown": 0,
    "attach-replayed": 0,
    "connections-full": 0,
    "links-full": 0,
  };
  #server: PeerServer | null = null;
  #isClosed = false;

  constructor(ports: PeerNetworkPorts) {
    this.#ports = ports;
    this.#carriers = [...ports.carriers].sort((a, b) => CARRIER_KINDS.indexOf(a.kind) - CARRIER_KINDS.indexOf(b.kind));
    for (const carrier of this.#carriers) carrier.onConnection((connection) => this.#onConnection(connection));
  }

  breaches(): Readonly<Record<PeerBreach, number>> {
    return { ...this.#breaches };
  }

  serve(handlers: PeerServer): void {
    assert(this.#server === null, "a network is served by one server");
    this.#server = handlers;
  }

  open(peerKeyHex: string): PeerLink | null {
    const [opened, accepted] = [this.#opened.get(peerKeyHex)?.current ?? null, this.#accepted.get(peerKeyHex) ?? null];
    return [opened, accepted].find((link) => link !== null && link.carrier() !== null) ?? opened ?? accepted;
  }

  async connect(target: PeerTarget, credential: string, signal: AbortSignal): Promise<PeerLink> {
    assert(
      credential.length <= PEER_CREDENTIAL_CHARS_MAX,
      `a credential has at most ${PEER_CREDENTIAL_CHARS_MAX} characters`,
    );
    if (this.#isClosed) throw new FallowError("peer-unreachable", "the network was closed");
    const known = this.#opened.get(target.publicKeyHex);
    if (known === undefined) {
      try {
        return await this.#openLink(target, credential, signal);
      } catch (fault) {
        // A node that nobody can dial may have dialled this one.
        const accepted = this.#accepted.get(target.publicKeyHex);
        if (accepted === undefined || signal.aborted || !isUnreachable(fault)) throw fault;
        await accepted.present(credential, signal);
        return accepted;
      }
    }
    known.opener.retarget(target);
    const link = await known.link;
    if (link.carrier() === null) return this.#renew(known, { target, credential, signal });
    await link.present(credential, signal);
    return link;
  }

  qualities(): readonly { readonly peerKeyHex: string; readonly quality: LinkQuality }[] {
    for (const link of this.#links()) this.#note(link);
    return [...this.#qualities]
      .map(([peerKeyHex, quality]) => ({ peerKeyHex, quality }))
      .sort((a, b) => (a.peerKeyHex < b.peerKeyHex ? -1 : 1));
  }

  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    for (const { opener, current } of [...this.#opened.values()]) {
      if (current === null) opener.stop();
      else current.close("the node stops");
    }
    for (const link of [...this.#accepted.values()]) link.close("the node stops");
    for (const connection of [...this.#greetings]) connection.destroy();
    await Promise.all(this.#carriers.map((carrier) => carrier.close()));
  }

  // ---------------------------------------------------------------- links that this node opens

  async #openLink(target: PeerTarget, credential: string, signal: AbortSignal): Promise<SessionLink> {
    const key = target.publicKeyHex;
    const { clock, log } = this.#ports;
    if (this.#opened.size >= LINKS_MAX) {
      throw new FallowError("peer-overloaded", `${LINKS_MAX} links are open; close one before opening another`);
    }
    const opener: LinkOpener = new LinkOpener({
      clock,
      log,
      carriers: this.#carriers,
      target,
      begin: ({ id, secret }) => this.#begin({ key, id, secret, opener }),
    });
    const opened: Opened = { opener, link: opener.open(credential, signal), current: null };
    this.#opened.set(key, opened);
    try {
      opened.current = await opened.link;
      if (opened.current.isEnded || this.#isClosed)
        throw new FallowError("peer-unreachable", `the link to ${target.nodeId} ended at once`);
      return opened.current;
    } catch (fault) {
      if (this.#opened.get(key) === opened) this.#opened.delete(key);
      opened.current?.close("nobody waits for it");
      throw fault;
    }
  }

  /** Nothing of the link answers, and its next dial may be seconds away: a new one takes its place as soon as the node answers. */
  async #renew(
    lost: Opened,
    to: { readonly target: PeerTarget; readonly credential: string; readonly signal: AbortSignal },
  ): Promise<SessionLink> {
    const key = to.target.publicKeyHex;
    try {
      const link = await this.#openLink(to.target, to.credential, to.signal);
      lost.current?.close("a new link took its place");
      return link;
    } catch (fault) {
      if (lost.current?.isEnded === false) {
        if (this.#opened.has(key)) lost.current.close("a new link takes its place");
        else this.#opened.set(key, lost);
      }
      throw fault;
    }
  }

  // ---------------------------------------------------------------- links that others open

  #onConnection(connection: PeerConnection): void {
    if (this.#isClosed) {
      connection.destroy();
      return;
    }
    const address = addressOf(connection);
    const ofAddress = [...this.#greetings].filter((waiting) => addressOf(waiting) === address).length;
    if (this.#greetings.size >= GREETINGS_MAX || ofAddress >= GREETINGS_OF_ADDRESS_MAX) {
      this.#breaches["greetings-full"]++;
      connection.destroy();
      return;
    }
    const waiting = new LinkConnection(connection, this.#ports.clock);
    this.#greetings.add(waiting);
    const timer = this.#ports.clock.setTimer(GREETING_MS_MAX, () => {
      this.#breaches["greeting-late"]++;
      waiting.destroy();
    });
    waiting.begin(
      {
        onFrame: (_, frame) => {
          this.#greeted(waiting, timer);
          return this.#onGreeting(waiting, frame);
        },
        onRoom: () => undefined,
        onClosed: (_, { breach }) => {
          if (breach !== null) this.#breaches.greeting++;
          this.#greeted(waiting, timer);
        },
      },
      ["hello", "attach"],
    );
  }

  #greeted(connection: LinkConnection, timer: Timer): void {
    timer.cancel();
    this.#greetings.delete(connection);
  }

  #onGreeting(connection: LinkConnection, frame: PeerFrame): string | null {
    if (frame.kind !== "hello" && frame.kind !== "attach") return `a ${frame.kind} frame as a greeting`;
    if (frame.version !== PEER_PROTOCOL_VERSION) {
      const message = `version ${frame.version} of the peer protocol is not spoken here, ${PEER_PROTOCOL_VERSION} is`;
      this.#turnAway(connection, "version", refuse("invalid-request", message).reason);
    } else {
      connection.role = frame.role;
      if (frame.kind === "hello") this.#onHello(connection, frame.credential);
      else this.#onAttach(connection, frame);
    }
    return null;
  }

  #onHello(connection: LinkConnection, credential: string): void {
    const key = connection.peerKeyHex;
    const before = this.#accepted.get(key);
    if (before === undefined && this.#accepted.size >= LINKS_MAX) {
      const { reason } = refuse("queue-full", `${LINKS_MAX} links are open here`, { retryAfterMs: GREETING_MS_MAX });
      this.#turnAway(connection, "links-full", reason);
      return;
    }
    const admitted =
      this.#server?.admit(credential.slice(0, PEER_CREDENTIAL_CHARS_MAX), key) ??
      refuse("not-found", "this node serves nothing");
    if (!admitted.ok) {
      this.#turnAway(connection, "refused", admitted.reason);
      return;
    }
    before?.close("the other end opened a new link");
    const id = this.#ports.random.bytes(SESSION_ID_BYTES);
    const secret = this.#ports.random.bytes(SESSION_SECRET_BYTES);
    const link = this.#begin({ key, id, secret, opener: null });
    link.grantRights(admitted.expiresAtMs);
    this.#accepted.set(key, link);
    this.#bySession.set(nameOf(id), link);
    connection.send({ kind: "accepted", sessionId: id, secret });
    link.adopt(connection);
  }

  #onAttach(connection: LinkConnection, frame: Extract<PeerFrame, { kind: "attach" }>): void {
    const link = this.#bySession.get(nameOf(frame.sessionId));
    const isOwn = link?.peerKeyHex === connection.peerKeyHex && this.#ports.crypto.isEqual(link.secret, frame.secret);
    if (link === undefined || !isOwn) {
      this.#turnAway(connection, "session-unknown", refuse("not-found", "this session is not known here").reason);
      return;
    }
    if (!link.numbers.take(frame.number)) {
      const message = `connection ${frame.number} of the session has been attached before`;
      this.#turnAway(connection, "attach-replayed", refuse("invalid-request", message).reason);
      return;
    }
    // One that the other end lost without a word stays here for a while, and makes room.
    if (link.connections.size >= CONNECTIONS_PER_LINK_MAX) {
      for (const one of [...link.connections].filter(({ isSuspect }) => isSuspect)) one.destroy();
    }
    if (link.connections.size >= CONNECTIONS_PER_LINK_MAX) {
      const message = `a session has at most ${CONNECTIONS_PER_LINK_MAX} connections`;
      this.#turnAway(connection, "connections-full", refuse("queue-full", message).reason);
      return;
    }
    connection.send({ kind: "attached" });
    link.adopt(connection);
  }

  #turnAway(connection: LinkConnection, why: PeerBreach, reason: Refusal): void {
    this.#breaches[why]++;
    connection.send({ kind: "refused", id: 0, refusal: wireRefusal(reason) });
    connection.close();
  }

  // ---------------------------------------------------------------- both

  #begin(session: {
    readonly key: string;
    readonly id: Uint8Array;
    readonly secret: Uint8Array;
    readonly opener: LinkParts["opener"];
  }): SessionLink {
    const { clock, log } = this.#ports;
    return new SessionLink({
      clock,
      log,
      peerKeyHex: session.key,
      sessionId: session.id,
      secret: session.secret,
      server: () => this.#server,
      opener: session.opener,
      onEnd: (link, reason) => this.#onEnd(link, reason),
      onBreach: (link, what) => {
        this.#breaches.frame++;
        log.warn({ peerKeyHex: link.peerKeyHex, breach: what }, "a peer broke the protocol");
      },
    });
  }

  #onEnd(link: SessionLink, reason: string): void {
    const { peerKeyHex } = link;
    this.#ports.log.debug({ peerKeyHex, reason }, "link ended");
    if (this.#opened.get(peerKeyHex)?.current === link) this.#opened.delete(peerKeyHex);
    if (this.#accepted.get(peerKeyHex) === link) this.#accepted.delete(peerKeyHex);
    this.#bySession.delete(nameOf(link.sessionId));
  }

  *#links(): Iterable<SessionLink> {
    for (const { current } of this.#opened.values()) if (current !== null) yield current;
    yield* this.#accepted.values();
  }

  #note(link: SessionLink): void {
    const quality = link.quality();
    if (quality === null) return;
    this.#qualities.delete(link.peerKeyHex);
    this.#qualities.set(link.peerKeyHex, quality);
    const [oldest] = this.#qualities.keys();
    if (this.#qualities.size > QUALITIES_MAX && oldest !== undefined) this.#qualities.delete(oldest);
  }
}

function isUnreachable(fault: unknown): boolean {
  return fault instanceof FallowError && (fault.code === "peer-unreachable" || fault.code === "peer-identity-mismatch");
}

/** Without the port, which is new for each connection. */
function addressOf({ remote }: { readonly remote: string }): string {
  return remote.replace(/:\d+$/, "");
}

function nameOf(bytes: Uint8Array): string {
  return String.fromCharCode(...bytes);
}
