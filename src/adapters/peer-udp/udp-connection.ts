/**
 * The PeerConnection port on one encrypted stream of hyperdht. The library takes in whatever arrives, however slowly it is read, so each
 * end tells the other how much of it was delivered, and at most `WINDOW_BYTES` are ever on their way or waiting.
 *
 * Frames (one write of the library is one message at the other end): 0 and bytes; 1 and a little-endian u32, the bytes delivered since the last.
 */
import type { SecretStream } from "hyperdht";
import { assert } from "../../domain/assert.ts";
import { CONNECTION_BUFFER_BYTES, type PeerConnection, type PeerConnectionHandlers } from "../../ports/peer-carrier.ts";

/** 220 Mbit/s over 150 ms; beyond that the carrier's own work on a processor is the limit. */
const WINDOW_BYTES = 4 * 1024 * 1024;
/** Credit is told four times a window, so that a sender never waits for it. */
const CREDIT_STEP_BYTES = WINDOW_BYTES / 4;
/** One frame: small enough that a short message behind it waits little, large enough that its header and its encryption do not count. */
const FRAME_BYTES_MAX = 32 * 1024;
/** The library sends a sign of life every 5 s. */
const SILENT_MS_MAX = 16_000;
/** After `close`, for what is queued. */
const CLOSE_MS_MAX = 5_000;
/** A share of fewer packets says nothing. */
const LOSS_PACKETS_MIN = 200;
const DATA = 0;
const CREDIT = 1;

export class UdpConnection implements PeerConnection {
  readonly carrier = "udp";
  readonly peerKeyHex: string;
  readonly remote: string;
  readonly #stream: SecretStream;
  #handlers: PeerConnectionHandlers | null = null;
  #isPaused = false;
  #isDelivering = false;
  /** Arrived and not delivered; at most a window. */
  readonly #held: Uint8Array[] = [];
  #heldBytes = 0;
  #uncreditedBytes = 0;
  readonly #queue: Uint8Array[] = [];
  #queuedBytes = 0;
  #creditBytes = WINDOW_BYTES;
  #isStreamFull = false;
  #wantsDrain = false;
  #isClosing = false;
  #closed: string | null = null;
  #lossFrom = { packets: 0, retransmits: 0 };
  #lossShare: number | null = null;

  /** The stream is open: its keys are proved. */
  constructor(stream: SecretStream) {
    this.#stream = stream;
    this.peerKeyHex = stream.remotePublicKey.toString("hex");
    this.remote = `${stream.rawStream?.remoteHost ?? "unknown"}:${stream.rawStream?.remotePort ?? 0}`;
    stream.setTimeout(SILENT_MS_MAX);
    stream.on("data", (message: Buffer) => this.#arrive(message));
    stream.on("drain", () => {
      this.#isStreamFull = false;
      this.#pump();
    });
    let cause = "the other end closed it";
    stream.on("error", (error: Error) => {
      cause = error.message;
    });
    stream.on("end", () => stream.end());
    stream.on("close", () => this.#end(cause));
  }

  listen(handlers: PeerConnectionHandlers): void {
    assert(this.#handlers === null, "a connection is listened to once");
    this.#handlers = handlers;
    this.#deliver();
    if (this.#closed !== null) handlers.onClose(this.#closed);
  }

  write(bytes: Uint8Array): boolean {
    if (this.#closed !== null || this.#isClosing) return true;
    if (bytes.length > 0) {
      this.#queue.push(bytes);
      this.#queuedBytes += bytes.length;
      this.#pump();
    }
    const hasRoom = this.#queuedBytes < CONNECTION_BUFFER_BYTES;
    if (!hasRoom) this.#wantsDrain = true;
    return hasRoom;
  }

  bufferedBytes(): number {
    return this.#queuedBytes;
  }

  pause(): void {
    this.#isPaused = true;
  }

  resume(): void {
    this.#isPaused = false;
    this.#deliver();
  }

  measured(): { readonly rttMs: number | null; readonly lossShare: number | null } {
    const raw = this.#stream.rawStream;
    if (raw === null || this.#closed !== null) return { rttMs: null, lossShare: this.#lossShare };
    const packets = raw.packetsTransmitted - this.#lossFrom.packets;
    if (packets >= LOSS_PACKETS_MIN) {
      // The library counts in 16 bits.
      const again = (raw.retransmits - this.#lossFrom.retransmits + 65_536) % 65_536;
      this.#lossShare = Math.min(1, again / packets);
      this.#lossFrom = { packets: raw.packetsTransmitted, retransmits: raw.retransmits };
    }
    return { rttMs: raw.rtt > 0 ? raw.rtt : null, lossShare: this.#lossShare };
  }

  close(): void {
    if (this.#isClosing || this.#closed !== null) return;
    this.#isClosing = true;
    const timer = setTimeout(() => this.destroy(), CLOSE_MS_MAX);
    timer.unref();
    this.#stream.once("close", () => clearTimeout(timer));
    this.#pump();
  }

  destroy(): void {
    this.#isClosing = true;
    this.#stream.destroy();
  }

  #arrive(message: Buffer): void {
    if (message[0] === CREDIT && message.length === 5) {
      this.#creditBytes += message.readUInt32LE(1);
      if (this.#creditBytes > WINDOW_BYTES) this.#breach("it gave credit for more than it was sent");
      else this.#pump();
    } else if (message[0] === DATA) {
      const bytes = message.subarray(1);
      this.#held.push(bytes);
      this.#heldBytes += bytes.length;
      if (this.#heldBytes + this.#uncreditedBytes > WINDOW_BYTES) this.#breach("it sent more than it had credit for");
      else this.#deliver();
    } else {
      this.#breach("it sent a frame of no kind that there is");
    }
  }

  /** In order; a handler that pauses stops it, one that comes back here is not followed. */
  #deliver(): void {
    if (this.#isDelivering) return;
    this.#isDelivering = true;
    while (this.#handlers !== null && !this.#isPaused && this.#closed === null) {
      const bytes = this.#held.shift();
      if (bytes === undefined) break;
      this.#heldBytes -= bytes.length;
      this.#uncreditedBytes += bytes.length;
      this.#handlers.onBytes(bytes);
    }
    this.#isDelivering = false;
    if (this.#uncreditedBytes < CREDIT_STEP_BYTES || this.#closed !== null || this.#stream.destroyed) return;
    const frame = Buffer.alloc(5);
    frame[0] = CREDIT;
    frame.writeUInt32LE(this.#uncreditedBytes, 1);
    this.#uncreditedBytes = 0;
    this.#stream.write(frame);
  }

  #pump(): void {
    while (!this.#isStreamFull && this.#creditBytes > 0 && this.#closed === null && !this.#stream.destroyed) {
      const first = this.#queue[0];
      if (first === undefined) break;
      const length = Math.min(first.length, FRAME_BYTES_MAX, this.#creditBytes);
      if (length === first.length) this.#queue.shift();
      else this.#queue[0] = first.subarray(length);
      this.#queuedBytes -= length;
      this.#creditBytes -= length;
      const frame = Buffer.allocUnsafe(length + 1);
      frame[0] = DATA;
      frame.set(first.subarray(0, length), 1);
      this.#isStreamFull = !this.#stream.write(frame);
    }
    if (this.#queuedBytes === 0 && this.#isClosing) this.#stream.end();
    if (this.#wantsDrain && this.#queuedBytes < CONNECTION_BUFFER_BYTES / 2 && !this.#isClosing) {
      this.#wantsDrain = false;
      this.#handlers?.onDrain();
    }
  }

  #breach(what: string): void {
    this.#stream.destroy(new Error(what));
  }

  #end(cause: string): void {
    if (this.#closed !== null) return;
    this.#closed = cause;
    this.#queue.length = 0;
    this.#queuedBytes = 0;
    this.#held.length = 0;
    this.#heldBytes = 0;
    this.#handlers?.onClose(cause);
  }
}
