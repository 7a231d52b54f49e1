/**
 * One connection of a link: frames in and out, pings, and when it was last heard. It answers pings itself; all else goes to its owner, which
 * changes once, when the greeting is done. A wrong frame ends it with a named breach.
 */
import type { CarrierKind } from "../../domain/peer.ts";
import type { Clock } from "../../ports/clock.ts";
import type { PeerConnection } from "../../ports/peer-carrier.ts";
import type { ConnectionRole } from "../../wire/peer-frame-bytes.ts";
import { PeerFrameReader } from "../../wire/peer-frame-reader.ts";
import { type DataPart, type FrameKind, type PeerFrame, writeDataHead, writeFrame } from "../../wire/peer-frames.ts";
import { SILENT_MS, SILENT_ROUND_TRIPS, SMALL_FRAME_COST_BYTES, SMALL_UNREAD_BYTES_MAX } from "./link-bounds.ts";
import { RttMeter } from "./rtt-meter.ts";

export interface ConnectionOwner {
  /** Null, or what the other did wrong: the connection is cut then. */
  onFrame(connection: LinkConnection, frame: PeerFrame): string | null;
  onRoom(connection: LinkConnection): void;
  /** Once; `breach` says what the other did wrong, null when it did nothing. */
  onClosed(connection: LinkConnection, end: { readonly cause: string; readonly breach: string | null }): void;
}

/** Unanswered pings that are kept; older ones no longer count. */
const PINGS_OPEN_MAX = 256;

export class LinkConnection {
  readonly carrier: CarrierKind;
  readonly peerKeyHex: string;
  readonly remote: string;
  readonly rtt = new RttMeter();
  role: ConnectionRole = "message";
  /** Passed over: it has been silent, and what it owed was asked for elsewhere. */
  isSuspect = false;
  isClosed = false;
  /** About to end by our own wish: nothing more is given to it. */
  isClosing = false;
  /** Bytes of bulk that came. */
  receivedBytes = 0;
  sentBytes = 0;
  /** What the other end measured of its sending direction. */
  peerLossShare: number | null = null;
  readonly openedAtMs: number;
  readonly #connection: PeerConnection;
  readonly #clock: Clock;
  readonly #reader: PeerFrameReader;
  readonly #pings = new Map<number, number>();
  #owner: ConnectionOwner | null = null;
  #hasRoom = true;
  /** What small frames cost that were sent since the other end last read all there was. */
  #smallUnreadBytes = 0;
  #breach: string | null = null;
  #nextPing = 1;
  #heardAtMs: number;
  #pingedAtMs = Number.NEGATIVE_INFINITY;

  constructor(connection: PeerConnection, clock: Clock) {
    this.#connection = connection;
    this.#clock = clock;
    this.carrier = connection.carrier;
    this.peerKeyHex = connection.peerKeyHex;
    this.remote = connection.remote;
    this.#reader = new PeerFrameReader(() => false);
    this.openedAtMs = clock.monoMs();
    this.#heardAtMs = this.openedAtMs;
  }

  /** Starts to read; only frames of these kinds may come until `handOver`. */
  begin(owner: ConnectionOwner, kinds: readonly FrameKind[]): void {
    this.#owner = owner;
    this.#reader.take((kind) => kinds.includes(kind));
    this.#connection.listen({
      onBytes: (bytes) => this.#onBytes(bytes),
      onDrain: () => {
        this.#hasRoom = true;
        this.#smallUnreadBytes = 0;
        if (!this.isClosed) this.#owner?.onRoom(this);
      },
      onClose: (cause) => this.#end(cause),
    });
  }

  handOver(owner: ConnectionOwner, isTaken: (kind: FrameKind) => boolean): void {
    this.#owner = owner;
    this.#reader.take(isTaken);
  }

  /** Small frames are not held back by `hasRoom`; messages have a window of their own, and all others are counted here. */
  send(frame: Exclude<PeerFrame, DataPart>): void {
    if (this.isClosed || this.#breach !== null) return;
    const bytes = writeFrame(frame);
    if (this.#connection.bufferedBytes() === 0) this.#smallUnreadBytes = 0;
    if (frame.kind !== "message") this.#smallUnreadBytes += bytes.length + SMALL_FRAME_COST_BYTES;
    if (this.#smallUnreadBytes > SMALL_UNREAD_BYTES_MAX) {
      this.breach(`it asks for answers and reads none: ${SMALL_UNREAD_BYTES_MAX} bytes wait for it`);
    } else this.#hasRoom = this.#connection.write(bytes);
  }

  sendData(part: { readonly stream: number; readonly offset: number; readonly bytes: Uint8Array }): void {
    if (this.isClosed) return;
    this.#connection.write(writeDataHead({ ...part, length: part.bytes.length }));
    this.#hasRoom = this.#connection.write(part.bytes);
    this.sentBytes += part.bytes.length;
  }

  /** False: bulk waits for `onRoom`. */
  get hasRoom(): boolean {
    return this.#hasRoom;
  }

  bufferedBytes(): number {
    return this.#connection.bufferedBytes();
  }

  lossShare(): number | null {
    return this.#connection.measured().lossShare;
  }

  /**
   * The round trip of late. Pings wait when either machine is busy, and the kernel's own measurement does not; a queue in the network shows
   * in both, so the lesser tells of the queue.
   */
  recentRttMs(): number | null {
    const pingMs = this.rtt.recentMs();
    const kernelMs = this.#connection.measured().rttMs;
    return pingMs === null || kernelMs === null ? pingMs : Math.min(pingMs, kernelMs);
  }

  /** What the way takes when nothing waits: on busy machines no ping shows it, and the kernel's own measurement does. */
  baseRttMs(): number | null {
    const pingMs = this.rtt.baseMs();
    const kernelMs = this.#connection.measured().rttLeastMs ?? null;
    return pingMs === null || kernelMs === null ? pingMs : Math.min(pingMs, kernelMs);
  }

  /** Sends a ping when the last one is at least so old. */
  ping(everyMs: number): void {
    const nowMs = this.#clock.monoMs();
    if (this.isClosed || nowMs - this.#pingedAtMs < everyMs) return;
    const id = this.#nextPing;
    this.#nextPing = (this.#nextPing + 1) % 2 ** 32;
    this.#pingedAtMs = nowMs;
    this.#pings.set(id, nowMs);
    const [oldest] = this.#pings.keys();
    if (this.#pings.size > PINGS_OPEN_MAX && oldest !== undefined) this.#pings.delete(oldest);
    this.send({ kind: "ping", id, lossShare: this.lossShare() });
  }

  unheardMs(): number {
    return this.#clock.monoMs() - this.#heardAtMs;
  }

  /** How long an answer has been owed without anything coming. */
  silentMs(): number {
    const [first] = this.#pings.values();
    return first === undefined ? 0 : this.#clock.monoMs() - Math.max(first, this.#heardAtMs);
  }

  /** From when on its silence counts: a long way is silent for longer. */
  silentBoundMs(): number {
    return Math.max(SILENT_MS, SILENT_ROUND_TRIPS * (this.rtt.quantileMs(0.5) ?? 0));
  }

  /** This machine stood still, so nobody was silent. */
  forgiveSilence(): void {
    this.#heardAtMs = this.#clock.monoMs();
  }

  /** After what is queued. */
  close(): void {
    this.isClosing = true;
    this.#connection.close();
  }

  destroy(): void {
    this.#connection.destroy();
  }

  breach(what: string): void {
    this.#breach ??= what;
    this.#connection.destroy();
  }

  #onBytes(bytes: Uint8Array): void {
    if (this.isClosed || this.#breach !== null) return;
    this.#heardAtMs = this.#clock.monoMs();
    const wrong = this.#reader.push(bytes, (frame) => this.#onFrame(frame));
    if (wrong !== null) this.breach(wrong);
  }

  #onFrame(frame: PeerFrame): boolean {
    if (frame.kind === "ping") {
      this.peerLossShare = frame.lossShare;
      this.send({ kind: "pong", id: frame.id });
      return true;
    }
    if (frame.kind === "pong") return this.#onPong(frame.id);
    if (frame.kind === "data") this.receivedBytes += frame.bytes.length;
    const wrong = this.#owner?.onFrame(this, frame) ?? null;
    if (wrong !== null) this.breach(wrong);
    return this.#breach === null && !this.isClosed;
  }

  #onPong(id: number): boolean {
    const sentAtMs = this.#pings.get(id);
    // One that fell out of the table is of no use, and none was sent under any other number.
    if (sentAtMs === undefined) return true;
    for (const open of this.#pings.keys()) {
      this.#pings.delete(open);
      if (open === id) break;
    }
    this.rtt.add(this.#clock.monoMs() - sentAtMs, this.#clock.monoMs());
    return true;
  }

  #end(cause: string): void {
    if (this.isClosed) return;
    this.isClosed = true;
    this.#owner?.onClosed(this, { cause: this.#breach ?? cause, breach: this.#breach });
  }
}
