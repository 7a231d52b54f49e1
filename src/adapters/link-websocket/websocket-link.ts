/**
 * The Link port on one WebSocket of the `ws` package: text frames, no compression (frames are small and a compressor holds
 * 300 KB for each connection), no WebSocket pings (heartbeats are messages of the protocol).
 */
import type { Socket } from "node:net";
import { WebSocket } from "ws";
import { assert } from "../../domain/assert.ts";
import {
  LINK_CLOSE,
  LINK_FRAME_BYTES_MAX,
  LINK_UNPROVED_BYTES_MAX,
  type Link,
  type LinkCloseCode,
  type LinkHandlers,
} from "../../ports/link.ts";
import { closeReason } from "./close-reason.ts";

/** How long the other end may take to answer a close before the connection is cut: several round trips of a bad link. */
const CLOSE_MS_MAX = 3_000;

export class WebSocketLink implements Link {
  readonly remote: string;
  readonly channelBinding: string;
  readonly #socket: WebSocket;
  /** What carries the WebSocket: TCP or TLS. */
  readonly #transport: Socket;
  #handlers: LinkHandlers | null = null;
  /** What arrived before anybody listened; the socket is paused, so it is at most what one read brought. */
  #early: string[] = [];
  #closed: { readonly code: number; readonly reason: string } | null = null;
  #isClosing = false;
  #unguard: (() => void) | null = null;

  constructor(socket: WebSocket, connection: { transport: Socket; remote: string; channelBinding: string }) {
    this.remote = connection.remote;
    this.channelBinding = connection.channelBinding;
    this.#socket = socket;
    this.#transport = connection.transport;
    socket.pause();
    socket.on("message", (data, isBinary) => {
      if (isBinary) this.close(LINK_CLOSE.protocolError, "frames are text");
      else this.#arrive(data.toString());
    });
    // `close` follows with the code; the error itself (a reset, a frame over the bound) adds nothing for the caller.
    socket.on("error", () => socket.terminate());
    socket.on("close", (code, reason) => this.#end(code, reason.toString()));
  }

  /** Bounds what arrives until `trust` is called. */
  guard(): void {
    const transport = this.#transport;
    let bytes = 0;
    const onData = (data: Buffer) => {
      bytes += data.length;
      if (bytes > LINK_UNPROVED_BYTES_MAX) this.destroy();
    };
    transport.on("data", onData);
    this.#unguard = () => transport.off("data", onData);
  }

  receivedBytes(): number {
    return this.#transport.bytesRead;
  }

  trust(): void {
    this.#unguard?.();
    this.#unguard = null;
  }

  listen(handlers: LinkHandlers): void {
    assert(this.#handlers === null, "a link is listened to once");
    this.#handlers = handlers;
    for (const frame of this.#early.splice(0)) handlers.onFrame(frame);
    if (this.#closed !== null) handlers.onClose(this.#closed.code, this.#closed.reason);
    else this.#socket.resume();
  }

  send(frame: string): void {
    if (this.#isClosing || this.#socket.readyState !== WebSocket.OPEN) return;
    // A UTF-16 unit is at most three bytes of UTF-8: only a frame near the bound is measured.
    if (frame.length * 3 > LINK_FRAME_BYTES_MAX) {
      const bytes = Buffer.byteLength(frame);
      assert(bytes <= LINK_FRAME_BYTES_MAX, `a frame of ${bytes} bytes is at most ${LINK_FRAME_BYTES_MAX}`);
    }
    this.#socket.send(frame);
  }

  bufferedBytes(): number {
    return this.#socket.bufferedAmount;
  }

  close(code: LinkCloseCode, reason: string): void {
    if (this.#isClosing || this.#closed !== null) return;
    this.#isClosing = true;
    this.#socket.close(code, closeReason(reason));
    // A paused socket would never read the answer.
    this.#socket.resume();
    const timer = setTimeout(() => this.#socket.terminate(), CLOSE_MS_MAX);
    timer.unref();
    this.#socket.once("close", () => clearTimeout(timer));
  }

  destroy(): void {
    this.#isClosing = true;
    this.#socket.terminate();
  }

  #arrive(frame: string): void {
    if (this.#isClosing) return;
    if (this.#handlers === null) this.#early.push(frame);
    else this.#handlers.onFrame(frame);
  }

  #end(code: number, reason: string): void {
    if (this.#closed !== null) return;
    this.#closed = { code, reason };
    this.trust();
    this.#handlers?.onClose(code, reason);
  }
}
