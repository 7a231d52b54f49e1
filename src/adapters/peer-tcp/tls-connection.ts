/** A proved TLS connection, direct or inside a relayed one, as the port's `PeerConnection`. */
import type { TLSSocket } from "node:tls";
import { assert } from "../../domain/assert.ts";
import { CONNECTION_BUFFER_BYTES, type PeerConnection, type PeerConnectionHandlers } from "../../ports/peer-carrier.ts";

export interface TlsConnectionFacts extends Pick<PeerConnection, "carrier" | "peerKeyHex" | "remote"> {
  /** How long the other end may take to read what is queued before a closed connection is cut. */
  readonly closeMsMax: number;
  /** Of the way, while the connection is open; null where nobody measures it. */
  readonly measure: (() => ReturnType<PeerConnection["measured"]>) | null;
}

const UNMEASURED = { rttMs: null, rttLeastMs: null, lossShare: null };

export class TlsConnection implements PeerConnection {
  readonly carrier: PeerConnection["carrier"];
  readonly peerKeyHex: string;
  readonly remote: string;
  readonly #socket: TLSSocket;
  readonly #facts: TlsConnectionFacts;
  #handlers: PeerConnectionHandlers | null = null;
  #cause: string | null = null;
  #error: Error | null = null;

  constructor(socket: TLSSocket, facts: TlsConnectionFacts) {
    this.#socket = socket;
    this.#facts = facts;
    this.carrier = facts.carrier;
    this.peerKeyHex = facts.peerKeyHex;
    this.remote = facts.remote;
    socket.on("error", (error) => {
      this.#error = error;
    });
    socket.on("end", () => socket.destroy());
    socket.on("close", () => this.#end());
    socket.on("drain", () => this.#handlers?.onDrain());
  }

  listen(handlers: PeerConnectionHandlers): void {
    assert(this.#handlers === null, "a connection is listened to once");
    this.#handlers = handlers;
    if (this.#cause !== null) handlers.onClose(this.#cause);
    else this.#socket.on("data", (bytes: Buffer) => handlers.onBytes(bytes));
  }

  write(bytes: Uint8Array): boolean {
    if (this.#cause !== null || !this.#socket.writable) return true;
    this.#socket.write(bytes);
    return this.#socket.writableLength < CONNECTION_BUFFER_BYTES;
  }

  bufferedBytes(): number {
    return this.#socket.writableLength;
  }

  pause(): void {
    this.#socket.pause();
  }

  resume(): void {
    this.#socket.resume();
  }

  measured(): ReturnType<PeerConnection["measured"]> {
    return (this.#cause === null ? this.#facts.measure?.() : null) ?? UNMEASURED;
  }

  close(): void {
    if (this.#cause !== null) return;
    this.#socket.end();
    const timer = setTimeout(() => this.#socket.destroy(), this.#facts.closeMsMax);
    timer.unref();
    this.#socket.once("close", () => clearTimeout(timer));
  }

  destroy(): void {
    this.#socket.destroy();
  }

  #end(): void {
    if (this.#cause !== null) return;
    this.#cause = this.#error === null ? "the connection ended" : this.#error.message;
    this.#handlers?.onClose(this.#cause);
  }
}
