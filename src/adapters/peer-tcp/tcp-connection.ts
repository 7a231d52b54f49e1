/** A proved TLS connection as the port's `PeerConnection`. */
import type { Socket } from "node:net";
import type { TLSSocket } from "node:tls";
import { assert } from "../../domain/assert.ts";
import { CONNECTION_BUFFER_BYTES, type PeerConnection, type PeerConnectionHandlers } from "../../ports/peer-carrier.ts";
import { TcpPath } from "./tcp-path.ts";

/** How long the other end may take to read what is queued before a closed connection is cut. */
const CLOSE_MS_MAX = 3_000;

export class TcpConnection implements PeerConnection {
  readonly carrier = "tcp";
  readonly peerKeyHex: string;
  readonly remote: string;
  readonly #socket: TLSSocket;
  readonly #path: TcpPath;
  #handlers: PeerConnectionHandlers | null = null;
  #cause: string | null = null;
  #error: Error | null = null;

  constructor(socket: TLSSocket, about: { readonly transport: Socket; readonly peerKeyHex: string }) {
    this.#socket = socket;
    this.#path = new TcpPath(about.transport);
    this.peerKeyHex = about.peerKeyHex;
    this.remote = `${about.transport.remoteAddress ?? "unknown"}:${about.transport.remotePort ?? 0}`;
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

  measured(): ReturnType<TcpPath["measured"]> {
    return this.#cause === null ? this.#path.measured() : { rttMs: null, rttLeastMs: null, lossShare: null };
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
