/** A proved TLS connection inside a relayed one, as the port's `PeerConnection`. */
import type { TLSSocket } from "node:tls";
import { assert } from "../../domain/assert.ts";
import { CONNECTION_BUFFER_BYTES, type PeerConnection, type PeerConnectionHandlers } from "../../ports/peer-carrier.ts";

/** How long the other end may take to read what is queued before a closed connection is cut; the relay is slower than a direct way. */
const CLOSE_MS_MAX = 5_000;

export class RelayConnection implements PeerConnection {
  readonly carrier = "relay";
  readonly peerKeyHex: string;
  readonly remote: string;
  readonly #socket: TLSSocket;
  #handlers: PeerConnectionHandlers | null = null;
  #cause: string | null = null;
  #error: Error | null = null;

  constructor(socket: TLSSocket, about: { readonly peerKeyHex: string; readonly relayId: string }) {
    this.#socket = socket;
    this.peerKeyHex = about.peerKeyHex;
    this.remote = `relay ${about.relayId}`;
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
    if (this.#cause === null) this.#socket.on("data", (bytes: Buffer) => handlers.onBytes(bytes));
    else handlers.onClose(this.#cause);
  }

  write(bytes: Uint8Array): boolean {
    if (this.#cause !== null || !this.#socket.writable) return true;
    const hasRoom = this.#socket.write(bytes);
    return hasRoom || this.#socket.writableLength < CONNECTION_BUFFER_BYTES;
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

  /** Two TCP connections and the coordinator lie between: nothing of the whole way is measured here. */
  measured(): { readonly rttMs: null; readonly lossShare: null } {
    return { rttMs: null, lossShare: null };
  }

  close(): void {
    if (this.#cause !== null) return;
    this.#socket.end();
    const timer = setTimeout(() => this.#socket.destroy(), CLOSE_MS_MAX);
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
