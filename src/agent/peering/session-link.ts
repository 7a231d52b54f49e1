/**
 * A link: one session between two nodes over whatever connections it has at the time. Both ends are alike but for two things: the end that
 * opened it dials (link-opener.ts), and has shown a credential; each end may show one, and only who did may fetch.
 *
 *   state       has                       goes to
 *   connected   a connection that answers cut, when the last one ends or falls silent; ended
 *   cut         none                      connected, when one attaches; ended after `UNREACHABLE_MS`
 *   ended       none                      nothing: `closed` says why
 *
 * Messages go over all message connections (three where packets are lost), bulk over bulk connections, and either over a spare or the other's when
 * its own are missing: a connection's role steers the sender, and binds nobody.
 */

import { assert } from "../../domain/assert.ts";
import { FallowError } from "../../domain/fault.ts";
import type { CarrierKind, LinkQuality } from "../../domain/peer.ts";
import { type Refusal, refuse } from "../../domain/refusal.ts";
import type { Clock, Timer } from "../../ports/clock.ts";
import type { Log } from "../../ports/log.ts";
import {
  PEER_REQUEST_BYTES_MAX,
  type PeerFetchOptions,
  type PeerLink,
  type PeerServer,
} from "../../ports/peer-link.ts";
import type { FrameKind, PeerFrame } from "../../wire/peer-frames.ts";
import { AttachNumbers } from "./attach-numbers.ts";
import { GOVERNOR_START, govern } from "./bulk-governor.ts";
import { ACK_MS, BUSY_TICK_MS, IDLE_TICK_MS, UNREACHABLE_MS } from "./link-bounds.ts";
import type { ConnectionOwner, LinkConnection } from "./link-connection.ts";
import { bulkWays, lossOf, messageWays, qualityOf } from "./link-state.ts";
import { watchConnections } from "./link-watch.ts";
import { MessageLane } from "./message-lane.ts";
import { PresentDesk } from "./present-desk.ts";
import { PullDesk } from "./pull-desk.ts";
import { RateMeter } from "./rate-meter.ts";
import { ServeDesk, wireRefusal } from "./serve-desk.ts";

export interface LinkParts {
  readonly clock: Clock;
  readonly log: Log;
  readonly peerKeyHex: string;
  readonly sessionId: Uint8Array;
  readonly secret: Uint8Array;
  /** Null: this node serves nobody. */
  server(): PeerServer | null;
  /** Looks after the connections; null at the end that did not open the link. */
  readonly opener: LinkKeeper | null;
  onEnd(link: SessionLink, reason: string): void;
  onBreach(link: SessionLink, what: string): void;
}

/** What the opening end does with each look. */
export interface LinkKeeper {
  keep(link: SessionLink, look: KeeperLook): void;
  stop(): void;
}

export interface KeeperLook {
  readonly nowMs: number;
  readonly isBusy: boolean;
  readonly isBulkWanted: boolean;
  readonly isConnectionBound: boolean;
  readonly bytesPerSecond: number;
  /** Of bulk, both ways, since the last look. */
  readonly movedBytes: Readonly<Record<CarrierKind, number>>;
}

/** All others may come once a connection is greeted. */
const GREETING_KINDS: ReadonlySet<FrameKind> = new Set(["hello", "attach", "accepted", "attached"]);
/** After a message the pings stay quick for so long. */
const MESSAGE_BUSY_MS = 2_000;
/** A look that comes so late means that this machine stood still. */
const STALL_MS = 700;

export class SessionLink implements PeerLink, ConnectionOwner {
  readonly peerKeyHex: string;
  readonly sessionId: Uint8Array;
  readonly secret: Uint8Array;
  readonly closed: Promise<string>;
  readonly connections = new Set<LinkConnection>();
  readonly numbers = new AttachNumbers();
  readonly #parts: LinkParts;
  readonly #lane: MessageLane;
  readonly #pulls: PullDesk;
  readonly #serves: ServeDesk;
  readonly #received = new RateMeter();
  readonly #moved = new RateMeter();
  readonly #presents: PresentDesk;
  #governor = GOVERNOR_START;
  /** Until when the other may fetch here, by the wall clock; 0: it has shown nothing. */
  #rightsUntilMs = 0;
  #timer: Timer | null = null;
  #tickMs = IDLE_TICK_MS;
  #lookedAtMs: number;
  #cutAtMs: number | null = null;
  #messagedAtMs = Number.NEGATIVE_INFINITY;
  #endReason: string | null = null;
  #resolveClosed: (reason: string) => void = () => undefined;

  constructor(parts: LinkParts) {
    this.#parts = parts;
    this.peerKeyHex = parts.peerKeyHex;
    this.sessionId = parts.sessionId;
    this.secret = parts.secret;
    this.#presents = new PresentDesk(parts.clock);
    this.#lookedAtMs = parts.clock.monoMs();
    this.closed = new Promise((resolve) => {
      this.#resolveClosed = resolve;
    });
    this.#lane = new MessageLane({
      transmit: (seq, bytes) => this.#transmit(seq, bytes),
      acknowledge: (seq) => messageWays(this.connections)[0]?.send({ kind: "ack", seq }),
      deliver: (bytes) => this.#parts.server()?.onMessage(bytes, this),
      later: (fire) => void parts.clock.setTimer(ACK_MS, fire),
    });
    this.#pulls = new PullDesk({
      sources: () => bulkWays(this.connections),
      windowBytes: () => this.#governor.windowBytes,
      onDemand: () => this.#hurry(),
    });
    this.#serves = new ServeDesk({
      clock: parts.clock,
      refusal: () => this.#fetchRefusal(),
      onFetch: (request) => this.#onFetch(request),
      onFault: (fault) =>
        parts.log.warn({ peerKeyHex: this.peerKeyHex, fault: String(fault) }, "bytes for a peer could not be read"),
    });
    this.#schedule();
  }

  // ---------------------------------------------------------------- the port

  carrier(): CarrierKind | null {
    return messageWays(this.connections)[0]?.carrier ?? null;
  }

  quality(): LinkQuality | null {
    const wallMs = this.#parts.clock.wallMs();
    return qualityOf(this.connections, { bytesPerSecond: this.#received.highestPerSecond(), wallMs });
  }

  async present(credential: string, signal: AbortSignal): Promise<void> {
    this.#assertOpen();
    const [way] = messageWays(this.connections);
    if (way === undefined) throw this.#unreachable("no connection at the time");
    await this.#presents.present((id) => way.send({ kind: "present", id, credential }), signal);
  }

  fetch(request: Uint8Array, options: PeerFetchOptions): AsyncIterable<Uint8Array> {
    assert(
      request.length <= PEER_REQUEST_BYTES_MAX,
      `a request of ${request.length} bytes is at most ${PEER_REQUEST_BYTES_MAX}`,
    );
    return this.#pulls.fetch(request, options);
  }

  async send(message: Uint8Array): Promise<void> {
    this.#assertOpen();
    await this.#lane.send(message);
  }

  close(reason: string): void {
    if (this.#endReason !== null) return;
    for (const connection of messageWays(this.connections)) connection.send({ kind: "goodbye", reason });
    this.end(reason, { isPolite: true });
  }

  // ---------------------------------------------------------------- connections

  get isEnded(): boolean {
    return this.#endReason !== null;
  }

  /** Until when the other may fetch here; a later credential only adds. */
  grantRights(untilMs: number): void {
    this.#rightsUntilMs = Math.max(this.#rightsUntilMs, untilMs);
  }

  /** Takes a greeted connection. */
  adopt(connection: LinkConnection): void {
    if (this.isEnded) {
      connection.destroy();
      return;
    }
    connection.handOver(this, (kind) => !GREETING_KINDS.has(kind));
    this.connections.add(connection);
    this.#cutAtMs = null;
    connection.ping(0);
    if (connection.role === "message") this.#lane.resend();
    this.#pulls.pump();
  }

  onFrame(connection: LinkConnection, frame: PeerFrame): string | null {
    if (this.isEnded) return null;
    switch (frame.kind) {
      case "message":
        this.#messagedAtMs = this.#parts.clock.monoMs();
        return this.#lane.onMessage(frame.seq, frame.bytes);
      case "ack":
        return this.#lane.onAck(frame.seq);
      case "ask":
        this.#hurry();
        return this.#serves.onAsk(connection, frame);
      case "data":
        return this.#pulls.onData(connection, frame);
      case "fail":
        return this.#pulls.onFail(connection, frame.stream, frame.refusal);
      case "stop":
        return this.#serves.onStop(connection, frame.stream);
      case "stopped":
        return this.#pulls.onStopped(connection, frame.stream);
      case "present":
        return this.#onPresent(connection, frame.id, frame.credential);
      case "presented":
        return this.#presents.onPresented(frame.id);
      case "refused":
        return this.#presents.onRefused(frame.id, frame.refusal);
      case "goodbye":
        this.end(frame.reason, { isPolite: true });
        return null;
      default:
        return `a ${frame.kind} frame inside a session`;
    }
  }

  onRoom(connection: LinkConnection): void {
    this.#serves.onRoom(connection);
  }

  onClosed(
    connection: LinkConnection,
    { cause, breach }: { readonly cause: string; readonly breach: string | null },
  ): void {
    this.connections.delete(connection);
    this.#parts.log.debug(
      { peerKeyHex: this.peerKeyHex, carrier: connection.carrier, cause },
      "connection of a link ended",
    );
    if (breach !== null) {
      this.#parts.onBreach(this, breach);
      this.#pulls.fail(new FallowError("peer-breach", `the other node broke the protocol: ${breach}`));
      this.end(`breach: ${breach}`, { isPolite: false });
    }
    this.#serves.onClosed(connection);
    this.#pulls.onClosed(connection);
    if (this.isEnded) return;
    this.#lane.resend();
    this.#look();
  }

  end(reason: string, { isPolite }: { readonly isPolite: boolean }): void {
    if (this.#endReason !== null) return;
    this.#endReason = reason;
    this.#timer?.cancel();
    this.#parts.opener?.stop();
    const failure = this.#unreachable(reason);
    this.#lane.fail(failure);
    this.#pulls.fail(failure);
    this.#serves.close();
    this.#presents.fail(failure);
    for (const connection of [...this.connections]) {
      if (isPolite) connection.close();
      else connection.destroy();
    }
    this.#resolveClosed(reason);
    this.#parts.onEnd(this, reason);
  }

  // ---------------------------------------------------------------- what goes where

  #transmit(seq: number, bytes: Uint8Array): void {
    this.#messagedAtMs = this.#parts.clock.monoMs();
    for (const connection of messageWays(this.connections)) connection.send({ kind: "message", seq, bytes });
    this.#hurry();
  }

  #onFetch(request: Uint8Array) {
    const server = this.#parts.server();
    const nobody = refuse("not-found", "this node serves nothing");
    return server === null ? Promise.resolve(nobody) : server.onFetch(request, this.peerKeyHex);
  }

  #fetchRefusal(): Refusal | null {
    if (this.#rightsUntilMs === 0) return refuse("insufficient-scope", "present a credential before fetching").reason;
    if (this.#parts.clock.wallMs() < this.#rightsUntilMs) return null;
    const message = `the right to fetch here ended at ${this.#rightsUntilMs}; present a new credential`;
    return refuse("insufficient-scope", message).reason;
  }

  #onPresent(connection: LinkConnection, id: number, credential: string): string | null {
    if (!this.#presents.mayCome()) return "more credentials than a link takes";
    const admitted =
      this.#parts.server()?.admit(credential, this.peerKeyHex) ?? refuse("not-found", "this node serves nothing");
    if (admitted.ok) {
      this.grantRights(admitted.expiresAtMs);
      connection.send({ kind: "presented", id });
    } else connection.send({ kind: "refused", id, refusal: wireRefusal(admitted.reason) });
    return null;
  }

  // ---------------------------------------------------------------- looking after itself

  get #isBusy(): boolean {
    const sinceMessageMs = this.#parts.clock.monoMs() - this.#messagedAtMs;
    return this.#pulls.isBusy || this.#serves.isBusy || this.#lane.hasUnacked || sinceMessageMs < MESSAGE_BUSY_MS;
  }

  /** Something began to move: the looks come often from here on. */
  #hurry(): void {
    if (this.#tickMs === BUSY_TICK_MS || this.isEnded) return;
    this.#timer?.cancel();
    this.#tickMs = BUSY_TICK_MS;
    this.#schedule();
    for (const connection of this.connections) connection.ping(BUSY_TICK_MS);
  }

  #schedule(): void {
    this.#timer = this.#parts.clock.setTimer(this.#tickMs, () => {
      this.#look();
      if (!this.isEnded) this.#schedule();
    });
  }

  #look(): void {
    const nowMs = this.#parts.clock.monoMs();
    const passedMs = Math.max(1, nowMs - this.#lookedAtMs);
    if (passedMs < BUSY_TICK_MS / 2 && this.connections.size > 0) return;
    this.#lookedAtMs = nowMs;
    const isStalled = passedMs > this.#tickMs + STALL_MS;
    const isBusy = this.#isBusy;
    const suspects = [...this.connections].filter(({ isSuspect }) => isSuspect);
    const passedOver = watchConnections(this.connections, { isBusy, isStalled });
    for (const connection of passedOver) this.#pulls.passOver(connection);
    // What was sent while the only connection was passed over went nowhere, and all that follows waits for it.
    const isHeardAgain = suspects.some(({ isSuspect, isClosed }) => !isSuspect && !isClosed);
    if (passedOver.length > 0 || isHeardAgain) this.#lane.resend();
    const movedBytes = this.#count(nowMs);
    const demand = this.#pulls.look(passedMs);
    this.#governNow(nowMs, demand.isWindowUsed);
    this.#lookAtCut(nowMs);
    if (this.isEnded) return;
    const isConnectionBound = demand.isConnectionBound || (this.#serves.isBusy && !this.#pulls.isBusy);
    const isBulkWanted = this.#pulls.isBusy || this.#serves.isBusy;
    const bytesPerSecond = this.#moved.perSecond(nowMs);
    this.#parts.opener?.keep(this, { nowMs, isBusy, isBulkWanted, isConnectionBound, bytesPerSecond, movedBytes });
    this.#tickMs = isBusy ? BUSY_TICK_MS : IDLE_TICK_MS;
  }

  #count(nowMs: number): Readonly<Record<CarrierKind, number>> {
    let received = 0;
    let sent = 0;
    const moved: Record<CarrierKind, number> = { tcp: 0, udp: 0, relay: 0 };
    for (const connection of this.connections) {
      moved[connection.carrier] += connection.receivedBytes + connection.sentBytes;
      received += connection.receivedBytes;
      sent += connection.sentBytes;
      connection.receivedBytes = 0;
      connection.sentBytes = 0;
    }
    this.#received.add(received, nowMs);
    this.#moved.add(received + sent, nowMs);
    return moved;
  }

  #governNow(nowMs: number, isWindowUsed: boolean): void {
    const [way] = messageWays(this.connections);
    const recentRttMs = way?.recentRttMs() ?? null;
    const baseRttMs = way?.rtt.baseMs() ?? null;
    const isMessaging = nowMs - this.#messagedAtMs < MESSAGE_BUSY_MS;
    this.#governor = govern(this.#governor, { nowMs, recentRttMs, baseRttMs, isMessaging, isWindowUsed });
  }

  #lookAtCut(nowMs: number): void {
    if (this.connections.size > 0) {
      this.#cutAtMs = null;
      return;
    }
    this.#cutAtMs ??= nowMs;
    if (nowMs - this.#cutAtMs > UNREACHABLE_MS) this.end(`no connection for ${UNREACHABLE_MS} ms`, { isPolite: false });
  }

  lossShare(): number | null {
    return lossOf(this.connections);
  }

  #unreachable(reason: string): FallowError {
    return new FallowError("peer-unreachable", `the link to ${this.peerKeyHex.slice(0, 16)} is gone: ${reason}`, {
      data: { peerKeyHex: this.peerKeyHex },
    });
  }

  #assertOpen(): void {
    if (this.#endReason !== null) throw this.#unreachable(this.#endReason);
  }
}
