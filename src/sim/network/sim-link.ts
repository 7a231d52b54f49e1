/**
 * An ordered, reliable link over the packet network: what TCP makes of bad packets, small enough to read.
 *
 * The two ends live in the kernels of their hosts, so a frozen process still acknowledges and its link stays open with
 * nobody behind it; what was acknowledged waits in a receive buffer of bounded size, after which the sender's own queue
 * grows and `bufferedBytes` shows it. A killed process resets its links at once; a machine that lost its power says
 * nothing, and the other end finds out when nobody acknowledges, or when the machine is back and does not know the link.
 *
 * | packet   | carries                             | answered by                                    |
 * | -------- | ----------------------------------- | ---------------------------------------------- |
 * | frame    | position, text                      | ack, also when it came twice or too early      |
 * | ack      | next position wanted, window        | -                                              |
 * | end      | position, close code, reason        | ack; the link is closed at both ends after it  |
 * | reset    | -                                   | -; the other end closes with 1006              |
 */
import { assert } from "../../domain/assert.ts";
import type { Link, LinkCloseCode, LinkHandlers } from "../../ports/link.ts";
import { LINK_FRAME_BYTES_MAX } from "../../ports/link.ts";
import type { Host } from "../time/host.ts";
import type { Scheduled } from "../time/timeline.ts";
import type { PacketNetwork } from "./packet-network.ts";

/** Received and not yet read by the process: a usual socket buffer. */
export const RECEIVE_BUFFER_BYTES_MAX = 262_144;
export const RETRANSMIT_FIRST_MS = 200;
export const RETRANSMIT_MAX_MS = 3_200;
/** After so long without any sign of the other end, the link is cut. */
export const GIVE_UP_MS = 15_000;
/** How long an end that closed waits for the other one's acknowledgement. */
export const CLOSE_WAIT_MS = 1_000;
/** The code that WebSocket gives to a connection that ended without a close frame. */
export const ABNORMAL_CLOSE = 1006;
const PACKET_HEADER_BYTES = 60;

interface Piece {
  readonly position: number;
  readonly bytes: number;
  readonly content: { readonly frame: string } | { readonly code: number; readonly reason: string };
}

export interface LinkTap {
  /** A process gave a frame to its link. */
  onSent(frame: { from: string; to: string; text: string; link: SimLink }): void;
  /** A frame reaches the process at `to`. */
  onFrame(frame: { from: string; to: string; text: string; link: SimLink }): void;
  onClosed(at: { host: string; peer: string; code: number; link: SimLink }): void;
}

export interface SimLinkOptions {
  readonly host: Host;
  readonly peerName: string;
  readonly network: Pick<PacketNetwork, "send">;
  readonly channelBinding: string;
  readonly tap: LinkTap;
  /** Names the connection: the same at both ends. */
  readonly connection: number;
}

type Phase = "open" | "closing" | "closed" | "vanished";

export class SimLink implements Link {
  readonly remote: string;
  readonly channelBinding: string;
  readonly connection: number;
  readonly #options: SimLinkOptions;
  #peer: SimLink | null = null;
  #phase: Phase = "open";
  #handlers: LinkHandlers | null = null;
  #isCloseTold = false;
  /** The other end's close frame is in the buffer: what its kernel says afterwards does not matter. */
  #isPeerDone = false;

  #queue: Piece[] = [];
  #queueBytes = 0;
  #unacked: Piece[] = [];
  #unackedBytes = 0;
  #sentPosition = 0;
  #peerWindowBytes = RECEIVE_BUFFER_BYTES_MAX;
  #retransmit: Scheduled | null = null;
  #retransmitMs = RETRANSMIT_FIRST_MS;
  #lastSignMs: number;

  #wantedPosition = 0;
  readonly #early = new Map<number, Piece>();
  /** Acknowledged and not read: nobody listens, or the process is frozen. */
  #unread: Piece[] = [];
  #inboxBytes = 0;
  #isHeld = false;

  constructor(options: SimLinkOptions) {
    this.#options = options;
    this.remote = options.peerName;
    this.channelBinding = options.channelBinding;
    this.connection = options.connection;
    this.#lastSignMs = options.host.timeline.nowMs;
  }

  static pair(near: SimLinkOptions, far: SimLinkOptions): { near: SimLink; far: SimLink } {
    const ends = { near: new SimLink(near), far: new SimLink(far) };
    ends.near.#peer = ends.far;
    ends.far.#peer = ends.near;
    return ends;
  }

  /** Nothing goes in or out any more. */
  get isOver(): boolean {
    return this.#phase === "closed" || this.#phase === "vanished";
  }

  get hostName(): string {
    return this.#options.host.name;
  }

  listen(handlers: LinkHandlers): void {
    assert(this.#handlers === null, "a link is listened to once");
    this.#handlers = handlers;
    this.#readAll();
  }

  /** The process reads nothing until `go`: what comes fills the receive buffer and holds the sender up. */
  hold(): void {
    this.#isHeld = true;
  }

  go(): void {
    if (!this.#isHeld) return;
    this.#isHeld = false;
    this.#readAll();
  }

  send(frame: string): void {
    if (this.#phase !== "open") return;
    const bytes = Buffer.byteLength(frame);
    assert(bytes <= LINK_FRAME_BYTES_MAX, `a frame of ${bytes} bytes is at most ${LINK_FRAME_BYTES_MAX}`);
    const { host, peerName, tap } = this.#options;
    tap.onSent({ from: host.name, to: peerName, text: frame, link: this });
    this.#enqueue({ frame }, bytes);
  }

  bufferedBytes(): number {
    return this.#queueBytes;
  }

  close(code: LinkCloseCode, reason: string): void {
    if (this.#phase !== "open") return;
    this.#enqueue({ code, reason }, reason.length);
    this.#phase = "closing";
    this.#options.host.after(CLOSE_WAIT_MS, () => this.#finish(code, reason));
  }

  destroy(): void {
    this.#reset("destroyed");
  }

  /** The process was killed: its kernel resets what it had open. Nobody is told at this end. */
  kill(): void {
    this.#isCloseTold = true;
    this.#reset("killed");
  }

  /** The machine lost its power: no packet leaves any more. */
  vanish(): void {
    this.#isCloseTold = true;
    this.#phase = "vanished";
    this.#stop();
  }

  #reset(why: string): void {
    if (this.#phase === "closed" || this.#phase === "vanished") return;
    const peer = this.#peer;
    this.#packet(0, () => peer?.gotReset());
    this.#finish(ABNORMAL_CLOSE, why);
  }

  /** A reset packet of the other end arrived. */
  gotReset(): void {
    if (!this.#isPeerDone) this.#finish(ABNORMAL_CLOSE, "reset by the other end");
  }

  #finish(code: number, reason: string): void {
    if (this.#phase === "closed" || this.#phase === "vanished") return;
    this.#phase = "closed";
    this.#stop();
    if (this.#isCloseTold) return;
    this.#isCloseTold = true;
    const { host, peerName, tap } = this.#options;
    host.after(0, () => {
      tap.onClosed({ host: host.name, peer: peerName, code, link: this });
      this.#handlers?.onClose(code, reason);
    });
  }

  #stop(): void {
    this.#retransmit?.cancel();
    this.#retransmit = null;
    this.#queue = [];
    this.#queueBytes = 0;
    this.#unacked = [];
    this.#unackedBytes = 0;
    this.#early.clear();
  }

  #enqueue(content: Piece["content"], bytes: number): void {
    this.#queue.push({ position: this.#sentPosition++, bytes: bytes + PACKET_HEADER_BYTES, content });
    this.#queueBytes += bytes + PACKET_HEADER_BYTES;
    this.#pump();
  }

  #pump(): void {
    for (let piece = this.#queue[0]; piece !== undefined; piece = this.#queue[0]) {
      if (this.#unacked.length > 0 && this.#unackedBytes + piece.bytes > this.#peerWindowBytes) break;
      // Patience begins with the first piece that waits for an answer.
      if (this.#unacked.length === 0) this.#lastSignMs = this.#options.host.timeline.nowMs;
      this.#queue.shift();
      this.#queueBytes -= piece.bytes;
      this.#unacked.push(piece);
      this.#unackedBytes += piece.bytes;
      this.#put(piece);
    }
    if (this.#unacked.length > 0) this.#arm();
  }

  #put(piece: Piece): void {
    const peer = this.#peer;
    assert(peer !== null, "a link has two ends");
    this.#packet(piece.bytes, () => peer.#receive(piece));
  }

  #packet(bytes: number, arrive: () => void): void {
    const { host, peerName, network } = this.#options;
    network.send({ from: host.name, to: peerName, bytes, arrive });
  }

  #arm(): void {
    if (this.#retransmit !== null) return;
    const fire = () => {
      this.#retransmit = null;
      if (this.#unacked.length === 0) return;
      if (this.#options.host.timeline.nowMs - this.#lastSignMs > GIVE_UP_MS) {
        this.#finish(ABNORMAL_CLOSE, "nobody acknowledges");
        return;
      }
      this.#retransmitMs = Math.min(this.#retransmitMs * 2, RETRANSMIT_MAX_MS);
      for (const piece of this.#unacked.slice(0, 8)) this.#put(piece);
      this.#arm();
    };
    this.#retransmit = this.#options.host.timeline.after(this.#retransmitMs, fire, { isQuiet: true });
  }

  #receive(piece: Piece): void {
    if (this.#phase === "vanished" || this.#phase === "closed") {
      const peer = this.#peer;
      // A machine that is off answers nothing; one that runs does not know the link and says so.
      if (this.#phase === "closed" || this.#options.host.isPowered) {
        this.#packet(0, () => peer?.gotReset());
      }
      return;
    }
    const isFull = this.#inboxBytes > 0 && this.#inboxBytes + piece.bytes > RECEIVE_BUFFER_BYTES_MAX;
    if (piece.position >= this.#wantedPosition && !isFull) this.#early.set(piece.position, piece);
    for (let next = this.#early.get(this.#wantedPosition); next !== undefined; ) {
      this.#early.delete(this.#wantedPosition);
      this.#wantedPosition += 1;
      this.#inboxBytes += next.bytes;
      if ("code" in next.content) this.#isPeerDone = true;
      this.#unread.push(next);
      if (this.#handlers !== null) this.#readSoon();
      next = this.#early.get(this.#wantedPosition);
    }
    this.#acknowledge();
  }

  #acknowledge(): void {
    const peer = this.#peer;
    const wanted = this.#wantedPosition;
    const windowBytes = Math.max(0, RECEIVE_BUFFER_BYTES_MAX - this.#inboxBytes);
    this.#packet(PACKET_HEADER_BYTES, () => peer?.gotAcknowledgement(wanted, windowBytes));
  }

  gotAcknowledgement(wanted: number, windowBytes: number): void {
    if (this.#phase === "closed" || this.#phase === "vanished") return;
    this.#lastSignMs = this.#options.host.timeline.nowMs;
    this.#peerWindowBytes = windowBytes;
    let isProgress = false;
    for (let piece = this.#unacked[0]; piece !== undefined && piece.position < wanted; piece = this.#unacked[0]) {
      this.#unacked.shift();
      this.#unackedBytes -= piece.bytes;
      isProgress = true;
      if ("code" in piece.content) {
        this.#finish(piece.content.code, piece.content.reason);
        return;
      }
    }
    if (isProgress) {
      this.#retransmitMs = RETRANSMIT_FIRST_MS;
      this.#retransmit?.cancel();
      this.#retransmit = null;
    }
    this.#pump();
  }

  #readAll(): void {
    for (let pieces = this.#unread.length; pieces > 0; pieces--) this.#readSoon();
  }

  /** Gives the oldest piece to the process, which reads it when it runs. */
  #readSoon(): void {
    const { host, peerName, tap } = this.#options;
    host.after(0, () => {
      const piece = this.#isHeld ? undefined : this.#unread.shift();
      if (piece === undefined) return;
      const wasFull = this.#inboxBytes * 2 > RECEIVE_BUFFER_BYTES_MAX;
      this.#inboxBytes -= piece.bytes;
      if (this.#isCloseTold) return;
      if ("code" in piece.content) {
        this.#finish(piece.content.code, piece.content.reason);
        return;
      }
      if (wasFull && this.#inboxBytes * 2 <= RECEIVE_BUFFER_BYTES_MAX) this.#acknowledge();
      tap.onFrame({ from: peerName, to: host.name, text: piece.content.frame, link: this });
      this.#handlers?.onFrame(piece.content.frame);
    });
  }
}
